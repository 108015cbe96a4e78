"""Shapes: what a stream's records look like, apart from the format that packs them.

`table`: the columns of the table. `emnify`: the nested rendering of emnify's current streams. `csv`: the columns of
emnify's S3 exports. A shape gives JSON texts (`json_lines`), flat rows (`flat_rows`), or both.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from schemas.tables import TABLES
from transforms.deliver.shapes import columns, emnify, table

SHAPES = ("table", "emnify", "csv")
"""Names of the shapes."""


def json_lines(shape: str, content: str, rows: pa.RecordBatch) -> pl.Series:
    """Each row as one JSON text, without line ends: what ``ndjson`` and ``json`` pack and pushing destinations send.

    Args:
      shape: one of `SHAPES`.
      content: the table of the rows.
      rows: rows of that table.
    """
    if shape == "emnify":
        return emnify.json_lines(content, rows)
    return table.json_lines(flat_rows(shape, content, rows))


def flat_rows(shape: str, content: str, rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with the columns that a flat shape names, typed.

    Raises:
      ValueError: the shape is nested.
    """
    if shape == "table":
        return rows
    if shape == "csv":
        return columns.flat_rows(content, rows)
    raise ValueError(f"shape {shape} is nested: it has no flat rows")


def flat_schema(shape: str, content: str) -> pa.Schema:
    """The Arrow schema of `flat_rows`."""
    return flat_rows(shape, content, pa.RecordBatch.from_pylist([], TABLES[content].schema)).schema
