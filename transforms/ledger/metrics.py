"""How a live job stands, as Beam metrics: what Dataflow shows, alarms and dashboards read. Each is described in
``docs/watching.md``.

Rates are the slopes of counters. Metrics are best effort: a bundle that is repeated may count twice. The ledger is
exact.
"""

from __future__ import annotations

from collections.abc import Iterable

from apache_beam.metrics import Metrics

from transforms.ledger.counts import Count, Entry, OpenCells

FEEDS, CELLS, STREAMS = "feeds", "cells", "streams"
"""Namespaces."""

_NAMES: dict[str, tuple[str, dict[str, str]]] = {
    "feed": (FEEDS, {"received": "received", "dead_lettered": "dead_letters"}),
    "cell": (CELLS, {"duplicates": "duplicates", "delivered": "kept"}),
    "stream": (
        STREAMS,
        {"delivered": "delivered", "dead_lettered": "refused", "filtered_out": "filtered_out", "pending": "pending"},
    ),
}


def count(entries: Iterable[Entry]) -> None:
    """Adds what entries count to the metrics. Call it in a bundle."""
    for entry in entries:
        match entry:
            case Count():
                namespace, names = _NAMES[entry.stage]
                of = entry.feed if entry.stream is None else entry.stream
                for name, metric in names.items():
                    _add(namespace, f"{of}.{metric}", getattr(entry, name))
            case OpenCells():
                _add(CELLS, "open_cells", entry.cells)


def count_ids(change: int) -> None:
    """Adds ids that the state holds since now, or, less than 0, does not any more."""
    _add(CELLS, "open_ids", change)


def count_ahead(records: int) -> None:
    """Adds records of more than an hour ahead."""
    _add(CELLS, "records_ahead", records)


def observe_lag(seconds: float) -> None:
    """Notes how long ago the first message was published whose records are kept now."""
    Metrics.distribution(CELLS, "lag_ms").update(round(seconds * 1000))


def observe_oldest(stream: str, seconds: float) -> None:
    """Notes the age of the first of what waits for a shard of a stream."""
    Metrics.distribution(STREAMS, f"{stream}.oldest_ms").update(round(seconds * 1000))


def _add(namespace: str, name: str, change: int) -> None:
    if change:
        Metrics.counter(namespace, name).inc(change)
