"""Rows as JSON texts, built by columns: exact numbers, nothing per row in Python.

polars encodes a struct of columns as one JSON object per row. What it cannot write as JSON numbers or JSON values
(decimals, texts that hold JSON already) is spliced in as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import polars as pl
import pyarrow as pa

RFC3339 = "%Y-%m-%dT%H:%M:%S%.fZ"
"""Times in UTC; a fraction (3 or 6 digits) only where it is not zero."""

NULL = pl.lit("null")

_FEW = 1000
"""Times below which looking for repeated ones does not pay."""


def frame_of(rows: pa.RecordBatch) -> pl.DataFrame:
    """The rows as a polars frame."""
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame


def encodable(name: str, kind: pl.DataType, times: str = RFC3339) -> pl.Expr:
    """A column as a type that has a JSON form: times by the given form, decimals as strings, bytes as base64.

    Raises:
      TypeError: there is no such form.
    """
    column = pl.col(name)
    if isinstance(kind, pl.Datetime):
        return column.map_batches(partial(_formatted, form=times), return_dtype=pl.String)
    if isinstance(kind, pl.Decimal):
        return column.cast(pl.String)
    if kind == pl.Binary:
        return column.bin.encode("base64")
    if kind == pl.String or kind == pl.Boolean or kind.is_integer():
        return column
    raise TypeError(
        f"column {name} is {kind}, which has no text form here: add it to transforms.deliver.text.encodable"
    )


def _formatted(times: pl.Series, form: str) -> pl.Series:
    """Times as texts. Formatting is slow and times repeat (seconds of an hour, dates of a SIM): each is formatted
    once.
    """
    if len(times) < _FEW:
        return times.dt.strftime(form)
    encoded = times.to_arrow().dictionary_encode()
    distinct = pl.Series(encoded.dictionary, dtype=times.dtype).dt.strftime(form)
    return distinct.gather(pl.Series(encoded.indices))


def number(name: str) -> pl.Expr:
    """A decimal column (scale of 1 or more) as JSON numbers: exact, no trailing zeros, never in scientific notation."""
    return pl.col(name).cast(pl.String).str.strip_chars_end("0").str.strip_suffix(".").fill_null("null")


def objects(members: Sequence[pl.Expr], spliced: Sequence[tuple[str, pl.Expr]] = (), head: str = "") -> pl.Expr:
    """Each row as one JSON object.

    Args:
      members: named columns that polars encodes (texts, integers, booleans, structs of these).
      spliced: members by name whose values are JSON texts already, never null.
      head: members that are the same on all rows, as JSON text: ``"a":1,"b":null``.
    """
    encoded = pl.struct(members).struct.json_encode()
    if head:
        encoded = pl.concat_str(pl.lit("{" + head + ","), encoded.str.strip_prefix("{"))
    if not spliced:
        return encoded
    tail = [piece for name, text in spliced for piece in (pl.lit(f',"{name}":'), text)]
    return pl.concat_str(encoded.str.strip_suffix("}"), *tail, pl.lit("}"))


def ndjson(lines: pl.Series) -> memoryview:
    """Texts as lines, each ended by a line feed."""
    return _joined(lines + "\n")


def json_array(lines: pl.Series) -> bytes:
    """Texts as one JSON array, an element per line."""
    return b"".join((b"[", _joined(lines + ",\n")[:-2], b"]\n"))


def _joined(lines: pl.Series) -> memoryview:
    # The texts lie one after another in Arrow's buffer, which is not copied; a Python string each would cost twice.
    array = lines.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    if len(array) == 0:
        return memoryview(b"")
    _, offsets, data = array.buffers()
    places = memoryview(offsets).cast("q")
    return memoryview(data)[places[array.offset] : places[array.offset + len(array)]]
