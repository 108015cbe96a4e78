"""Exact volumes out of decoded numbers."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

import numpy as np
import pyarrow as pa

from schemas.tables import VOLUME

_SCALE = 6
_EXACT = 1e14
"""A double holds every decimal number of 14 significant digits apart from its neighbours (it holds 15)."""
_DOUBT = 0.25
"""Beyond this distance from an integer the last place may be rounded either way: decide on the digits as received."""
_DIGITS = Context(prec=38)
_LAST_PLACE = Decimal(1).scaleb(-_SCALE)


def volume(value: object) -> Decimal | None:
    """A JSON value (number or text) as an exact volume of six decimals; None if it is no number or out of range."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value).strip())
        return number.quantize(_LAST_PLACE, rounding=ROUND_HALF_EVEN, context=_DIGITS)
    except InvalidOperation:
        return None


def volumes(values: pa.Array, received: Callable[[int], object]) -> pa.Array:
    """Numbers decoded as doubles to exact `VOLUME` values.

    Args:
      values: the doubles, null for absent ones.
      received: gives the number at a position exactly as received; asked only where the double is in doubt.
    """
    if values.null_count == len(values):
        return pa.nulls(len(values), VOLUME)
    doubles = values.to_numpy(zero_copy_only=False)  # null becomes NaN
    scaled = doubles * 10**_SCALE
    whole = np.rint(scaled)
    absent = np.isnan(doubles)
    with np.errstate(invalid="ignore"):
        doubtful = ~absent & ~((np.abs(whole) < _EXACT) & (np.abs(scaled - whole) < _DOUBT))
    low = np.where(absent | doubtful, 0, whole).astype(np.int64)
    words = np.empty((len(low), 2), dtype=np.int64)  # decimal128: little endian, two's complement
    words[:, 0] = low
    words[:, 1] = low >> 63
    validity = pa.py_buffer(np.packbits(~absent, bitorder="little"))
    column = pa.Array.from_buffers(VOLUME, len(low), [validity, pa.py_buffer(words)])
    if not doubtful.any():
        return column
    exact = column.to_pylist()
    for position in np.flatnonzero(doubtful).tolist():
        exact[position] = volume(received(position))
    return pa.array(exact, VOLUME)
