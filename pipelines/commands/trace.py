"""The way of one record, with the functions that a run uses: decode, classify, cell, aggregates, streams."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from schemas.reasons import Reason
from schemas.records import EVENTS_FEED, FEEDS, ID_COLUMN, RENDERINGS
from schemas.streams import Stream
from schemas.tables import DEVICE_EVENTS_HOURLY, DEVICE_USAGE_HOURLY, EVENTS, USAGE
from transforms.aggregate import device_events, device_usage
from transforms.classify import event_rows, usage_rows
from transforms.dead_letters import DeadLetter, scrub
from transforms.decode import decode_one
from transforms.deliver import formats
from transforms.deliver.registry import DESTINATIONS
from transforms.deliver.shapes import json_lines
from transforms.gather.cells import Cell, cell_numbers
from transforms.route.explain import explain_row
from transforms.route.masking import preview

_WRITER = "explain"

_AGGREGATES: dict[str, tuple[str, Callable[[pa.RecordBatch], pa.RecordBatch]]] = {
    DEVICE_EVENTS_HOURLY.name: (EVENTS.name, device_events),
    DEVICE_USAGE_HOURLY.name: (USAGE.name, device_usage),
}
"""Aggregate table → the table that it sums up, and how."""


@dataclass(frozen=True)
class Trace:
    """A record on its way.

    Attributes:
      kind: ``events`` or ``usage``, by the record itself.
      path, offset: where it begins.
      rendering: in which it came.
      hour, bucket: its cell.
      batch: its row of the table, a batch of one.
    """

    kind: str
    path: str
    offset: int
    rendering: str
    hour: str
    bucket: int
    batch: pa.RecordBatch = field(repr=False)

    @property
    def row(self) -> dict[str, Any]:
        """Column → value."""
        values: dict[str, Any] = self.batch.to_pylist()[0]
        return values

    @property
    def id_column(self) -> str:
        """Name of the column with the record's id."""
        return ID_COLUMN[FEEDS.index(self.kind)]


@dataclass(frozen=True)
class Sending:
    """What a stream does with a record.

    Attributes:
      taken: whether the stream takes it.
      clause: the clause of the filter that decided.
      note: what to know about the lines.
      lines: what it would send.
    """

    taken: bool
    clause: str
    note: str = ""
    lines: tuple[str, ...] = ()


def trace(
    feed: int,
    header: tuple[str, ...] | None,
    path: str,
    line: bytes,
    offset: int,
    table: tuple[Reason, ...],
    buckets: int,
) -> Trace | DeadLetter:
    """The way of a record up to its table.

    Args:
      feed: kind of its file.
      header: columns of a CSV file.
      path, offset: where it begins.
      line: its bytes.
      table: the table of reasons.
      buckets: buckets of the warehouse.

    Returns:
      the trace, or the dead letter that the record becomes; its payload is without secrets.
    """
    decoded = decode_one(feed, line, header, path, offset)
    if isinstance(decoded, DeadLetter):
        decoded.payload = scrub(line)
        return decoded
    kind, batch = decoded
    rows = event_rows(batch, _WRITER, 0, table) if kind == EVENTS_FEED else usage_rows(batch, _WRITER, 0)
    cell = Cell.of_number(int(cell_numbers(batch, kind, buckets)[0]))
    hour = datetime.datetime.fromtimestamp(cell.hour / 1_000_000, datetime.UTC)
    rendering = RENDERINGS[batch.column("rendering")[0].as_py()]
    return Trace(FEEDS[kind], path, offset, rendering, f"{hour:%Y-%m-%d %H}:00 UTC", cell.bucket, rows)


def sendings(stream: Stream, found: Trace) -> Sending:
    """Whether a stream takes a record, by which clause, and how it would send it."""
    rows, note = found.batch, ""
    if stream.content in _AGGREGATES:
        source, aggregate = _AGGREGATES[stream.content]
        if source != found.kind:
            return Sending(False, f"it carries {stream.content}, which sums up {source}")
        rows, note = aggregate(rows), ", in the sums of its device and hour; alone it would be"
        if not rows.num_rows:
            return Sending(False, f"it carries {stream.content}, to which the record adds nothing")
    elif stream.content != found.kind:
        return Sending(False, f"it carries {stream.content}")
    decision = explain_row(stream, rows)
    if not decision.taken:
        return Sending(False, decision.clause)
    if stream.mask:
        rows, note = preview(stream).apply(rows), f"{note}, masked (pseudonyms need the key: placeholders here)"
    if not DESTINATIONS[stream.destination.type].packs:
        lines = json_lines("table", stream.content, rows).to_list()
        return Sending(True, decision.clause, f"{note}, as a row of the table", tuple(lines))
    return Sending(True, decision.clause, note, _as_sent(stream, rows))


def _as_sent(stream: Stream, rows: pa.RecordBatch) -> tuple[str, ...]:
    """The record as the stream's shape and format render it; of binary formats their flat row as JSON."""
    if stream.format == "csv":
        text = formats.encode("csv", stream.shape, stream.content, rows).decode()
        return tuple(text.rstrip("\n").split("\n"))
    return tuple(json_lines(stream.shape, stream.content, rows).to_list())
