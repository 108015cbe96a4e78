"""Decimals from the decoder's floats, exactly.

A JSON number with up to 15 significant digits survives as a float; ``rint(x · 10^scale)`` then is its unscaled value.
The guard: dividing back must give the very same float, and the unscaled value must be below 10^15. Where it does not
(more decimals than the scale, more digits than a float holds), the row is decoded again as a `Decimal` from the
record's bytes. This is the only place of the project where a float stands for money or volume.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

FLOAT_DIGITS = 15
"""Significant digits that a double always keeps."""

PRECISION = 38
"""Digits of decimal128."""

# Wide enough for every number of 38 digits; longer ones are out of range before they are rounded.
_CONTEXT = Context(prec=2 * PRECISION, rounding=ROUND_HALF_EVEN, Emax=999_999, Emin=-999_999)
_LOW = (1 << 64) - 1


@dataclass(slots=True)
class Decimals:
    """A column of decimals.

    Attributes:
      values: the column, ``decimal128(38, scale)``, rounded half even where more decimals were received.
      inexact: rows with more decimals than the scale, with the number as received.
      too_large: rows whose number does not fit; null in the column.
    """

    values: pa.Array
    inexact: dict[int, Decimal] = field(default_factory=dict)
    too_large: list[int] = field(default_factory=list)


def exact_decimals(
    numbers: Sequence[float | Decimal | None] | np.ndarray, scale: int, received: Callable[[int], Decimal | None]
) -> Decimals:
    """Makes ``decimal128(38, scale)`` of a column of floats (or decimals, or None).

    Args:
      numbers: the column as decoded.
      scale: decimals of the column.
      received: gives the exact number of a row, from the record's bytes; called for few rows.
    """
    floats = np.array(numbers, np.float64)
    missing = np.isnan(floats)
    factor = 10.0**scale
    with np.errstate(over="ignore", invalid="ignore"):
        unscaled = np.rint(floats * factor)
        fits = (np.abs(unscaled) < 10.0**FLOAT_DIGITS) & (unscaled / factor == floats)
    words = np.empty((len(floats), 2), np.int64)
    words[:, 0] = np.where(fits, unscaled, 0.0)
    words[:, 1] = words[:, 0] >> 63  # the sign, extended to the high word
    column = Decimals(pa.nulls(0))
    for row in np.flatnonzero(~(fits | missing)).tolist():
        _exactly(column, words, row, numbers[row], scale, received)
    valid = ~missing
    valid[column.too_large] = False
    mask = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    column.values = pa.Array.from_buffers(
        pa.decimal128(PRECISION, scale), len(floats), [mask, pa.py_buffer(words)], null_count=-1
    )
    return column


def _exactly(
    column: Decimals,
    words: np.ndarray,
    row: int,
    number: float | Decimal | None,
    scale: int,
    received: Callable[[int], Decimal | None],
) -> None:
    exact = number if isinstance(number, Decimal) else received(row)
    if exact is None or not exact.is_finite() or (exact and exact.adjusted() >= PRECISION - scale):
        column.too_large.append(row)
        return
    # A number far below the scale is 0 in the column; quantizing would need all its digits.
    tiny = exact.adjusted() < -scale - 1
    rounded = Decimal(0) if tiny else exact.quantize(Decimal(1).scaleb(-scale), context=_CONTEXT)
    unscaled = int(rounded.scaleb(scale, context=_CONTEXT))
    if abs(unscaled) >= 10**PRECISION:
        column.too_large.append(row)
        return
    low = unscaled & _LOW
    words[row, 0] = low - (1 << 64) if low >> 63 else low
    words[row, 1] = unscaled >> 64
    if rounded != exact:
        column.inexact[row] = exact


class _Exact(msgspec.Struct, gc=False):
    class Volume(msgspec.Struct, gc=False):
        rx: Decimal | None = None
        tx: Decimal | None = None
        total: Decimal | None = None

    cost: Decimal | None = None
    volume: Volume | None = None


_EXACT = msgspec.json.Decoder(_Exact)


def exact_number(line: bytes, path: Sequence[str]) -> Decimal | None:
    """The number at ``path`` of a usage record, with all its digits."""
    value: Any = _EXACT.decode(line)
    for name in path:
        value = getattr(value, name)
    return value if isinstance(value, Decimal) else None
