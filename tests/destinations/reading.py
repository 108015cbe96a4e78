"""Read back what destinations hold: every encoding of rows as the JSON values that their shape has."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.tables import TABLES
from transforms.deliver.shapes import json_lines

IDS = {"events": "event_id", "usage": "usage_id"}


def record_id_of(record: dict[str, Any]) -> int:
    """The id of a record of events or usage, in any shape."""
    return int(next(record[name] for name in ("event_id", "usage_id", "id", "ID") if name in record))


def as_table(rows: pa.Table | pa.RecordBatch, content: str) -> list[dict[str, Any]]:
    """Rows of a table as JSON values in shape ``table``."""
    whole = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    whole = whole.select(TABLES[content].schema.names).cast(TABLES[content].schema).combine_chunks()
    return [json.loads(text) for batch in whole.to_batches() for text in json_lines("table", content, batch)]


def decode(data: bytes, form: str, content: str) -> list[dict[str, Any]]:
    """The records of a file, in order; cells of CSV stay text."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if form == "ndjson":
        return [json.loads(line) for line in data.splitlines()]
    if form == "json":
        return list(json.loads(data))
    if form == "csv":
        return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    if form == "parquet":
        return as_table(pq.read_table(pa.BufferReader(data)), content)
    rows = list(fastavro.reader(io.BytesIO(data)))
    return as_table(pa.Table.from_pylist(rows, TABLES[content].schema), content)
