"""Shape ``table``: rows of a table as they are.

As JSON, every row has every column; one without a value is ``null``. Decimals are strings with their full scale,
because most readers make a binary fraction of a JSON number. Integers are numbers (ids may have 64 bits: read them as
integers), times are RFC 3339 in UTC, ``detail`` and ``extra`` are strings that hold JSON. The same row gives the same
text.
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa

from transforms.deliver import text

_OF_PANE = ("hour", "writer", "pane", "schema_version")


def json_lines(rows: pa.RecordBatch) -> pl.Series:
    """Each row as one JSON object."""
    frame = text.frame_of(rows)
    if frame.height == 0:
        return pl.Series(dtype=pl.String)
    # One value in a pane, whichever of its rows a stream takes: encoded once. Others that happen to be constant are
    # not: the same row would have its members in another order, depending on the rows beside it.
    kinds = dict(frame.schema)
    constant = {name: _plain(frame[name][0]) for name in _OF_PANE if name in kinds and _is_constant(frame[name])}
    if len(constant) == frame.width:
        constant.popitem()
    head = json.dumps(constant, ensure_ascii=False, separators=(",", ":"))[1:-1]
    varying = [text.encodable(name, kind) for name, kind in kinds.items() if name not in constant]
    return frame.select(text.objects(varying, head=head)).to_series()


def _is_constant(column: pl.Series) -> bool:
    missing = column.null_count()
    if missing:
        return missing == len(column)
    return column[0] == column[-1] and bool((column == column[0]).all())


def _plain(value: Any) -> Any:
    """One value as `text.encodable` has it."""
    if isinstance(value, datetime):
        digits = f"{value.microsecond:06d}".removesuffix("000")
        return f"{value:%Y-%m-%dT%H:%M:%S}" + (f".{digits}" if value.microsecond else "") + "Z"
    return f"{value:f}" if isinstance(value, Decimal) else value
