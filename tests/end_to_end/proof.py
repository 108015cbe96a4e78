"""Streams of the proofs of the live job: what each has to deliver by the rows of a batch run, and what it delivered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow.parquet as pq

from tests.end_to_end import runs
from tests.servers.http import Receiver

LINEAGE = {"writer", "pane", "source_file", "byte_offset", "ingest_time"}
"""Columns that tell how a record came, in which two ways of work may differ."""

KEYS = {"events": "event_id", "usage": "usage_id"}

_SUMS = {
    "device_usage_hourly": {
        **dict.fromkeys(("volume_rx", "volume_tx", "volume_total", "cost", "records", "unpriced_records"), "sum"),
    },
    "device_events_hourly": {"events": "sum", "alerts": "sum", "first_time": "min", "last_time": "max"},
}
_FOLD = {"sum": lambda one, other: one + other, "min": min, "max": max}

Row = dict[str, Any]


class Wanted(NamedTuple):
    """A stream: its content, its filter in YAML and in SQL, its type, and whether it sends requests."""

    content: str
    filter: dict[str, Any]
    where: str
    type: str

    @property
    def sends(self) -> bool:
        return self.type == "webhook"


STREAMS = {
    "warnings": Wanted(
        "events", {"any_of": [{"min_severity": "WARN"}, {"outcome": "rejected"}]},
        "severity IN ('WARN', 'CRITICAL') OR outcome = 'rejected'", "webhook",
    ),
    "usage": Wanted("usage", {}, "true", "webhook"),
    "events-per-hour": Wanted("device_events_hourly", {}, "true", "webhook"),
    "quiet": Wanted("events", {"severity": "INFO"}, "severity = 'INFO'", "files"),
    "data": Wanted("usage", {"traffic_type": "data"}, "traffic_type = 'data'", "files"),
    "data-per-hour": Wanted("device_usage_hourly", {"traffic_type": "data"}, "traffic_type = 'data'", "warehouse"),
}  # fmt: skip


def definitions(address: str) -> list[dict[str, object]]:
    """The streams as in a streams file; what sends requests sends them to a receiver at this address."""
    found: list[dict[str, object]] = []
    for name, wanted in STREAMS.items():
        destination: dict[str, object] = {"type": wanted.type}
        if wanted.sends:
            destination |= {"url": f"{address}/{name}", "shards": 2}
        stream: dict[str, object] = {"name": name, "content": wanted.content, "destination": destination}
        if wanted.filter:
            stream["filter"] = wanted.filter
        if wanted.type == "files":
            stream["format"] = "parquet"
        found.append(stream)
    return found


def delivered(output: Path, receiver: Receiver, name: str, lineage: bool = False) -> list[Row]:
    """What a stream has delivered, record by record; without the columns of lineage, unless they are asked for."""
    wanted = STREAMS[name]
    if wanted.sends:
        rows = [
            row
            for request in receiver.accepted()
            if request.path == f"/{name}"
            for row in json.loads(request.body, parse_float=Decimal)
        ]
    else:
        files, table = output / "streams" / name, output / "warehouse" / f"streams_{name}"
        rows = list(_parquet(files if wanted.type == "files" else table))
    return rows if lineage else without_lineage(rows)


def without_lineage(rows: list[Row]) -> list[Row]:
    return [{column: value for column, value in row.items() if column not in LINEAGE} for row in rows]


def rows(output: Path) -> int:
    """Rows of events and usage that the parts of a warehouse hold now."""
    parts = [part for table in KEYS for part in (output / "warehouse" / table).rglob("part-*.parquet")]
    return sum(pq.read_metadata(part).num_rows for part in parts)


def _parquet(directory: Path) -> Iterator[Row]:
    if not any(directory.rglob("*.parquet")):
        return
    with duckdb.connect() as connection:
        found = connection.sql(
            f"SELECT * FROM read_parquet('{directory}/**/*.parquet', union_by_name = true, hive_partitioning = false)"
        )
        for row in found.fetchall():
            yield dict(zip(found.columns, row, strict=True))


def summed(rows: list[Row], table: str) -> list[str]:
    """Partial sums, added up: in a form to compare."""
    sums = _SUMS[table]
    found: dict[str, Row] = {}
    for row in rows:
        key = repr(sorted((name, value) for name, value in row.items() if name not in sums))
        values = {name: row.get(name) for name in sums}
        known = found.setdefault(key, values)
        if known is values:
            continue
        for name, value in values.items():
            both = [one for one in (known[name], value) if one is not None]
            known[name] = _FOLD[sums[name]](*both) if len(both) == 2 else (both or [None])[0]
    return sorted(f"{key} {sorted((name, _plain(value)) for name, value in row.items())}" for key, row in found.items())


def _plain(value: Any) -> Any:
    return value.normalize() if isinstance(value, Decimal) else Decimal(value) if isinstance(value, int) else value


def selected(batch: Path, name: str) -> list[int]:
    """Ids of the records that a stream has to deliver, by the rows of a batch run."""
    wanted = STREAMS[name]
    key = KEYS[wanted.content]
    return [
        number for (number,) in runs.ask(batch, f"SELECT {key} FROM {wanted.content} WHERE {wanted.where} ORDER BY 1")
    ]


def aggregates(output: Path, table: str, where: str = "true") -> list[str]:
    """An aggregate table of a warehouse, its partial sums added up."""
    with duckdb.connect() as connection:
        glob = f"{output}/warehouse/{table}/**/*.parquet"
        found = connection.sql(
            f"SELECT * FROM read_parquet('{glob}', union_by_name = true, hive_partitioning = false) WHERE {where}"
        )
        found_rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    return summed(without_lineage(found_rows), table)
