"""Exact volumes out of decoded numbers."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

import pyarrow as pa

from schemas.tables import VOLUME
from transforms.decode.decimals import exact_decimals

_DIGITS = Context(prec=VOLUME.precision)
_LAST_PLACE = Decimal(1).scaleb(-VOLUME.scale)


def decimal_or_none(value: object) -> Decimal | None:
    """A JSON value (number or text) as an exact decimal; None if it is no number."""
    if value is None or isinstance(value, bool):
        return None
    try:
        return Decimal(str(value).strip())
    except InvalidOperation:
        return None


def volume(value: object) -> Decimal | None:
    """A JSON value as an exact volume of six decimals; None if it is no number or out of range."""
    number = decimal_or_none(value)
    try:
        return None if number is None else number.quantize(_LAST_PLACE, rounding=ROUND_HALF_EVEN, context=_DIGITS)
    except InvalidOperation:  # not finite, or more digits than the column holds
        return None


def volumes(doubles: pa.Array, received: Callable[[int], object]) -> pa.Array:
    """Numbers decoded as doubles (null for absent ones) to exact `VOLUME` values.

    `received` gives the JSON value at a position as received; it is asked only where the double is in doubt.
    """
    if doubles.null_count == len(doubles):
        return pa.nulls(len(doubles), VOLUME)
    floats = doubles.to_numpy(zero_copy_only=False)  # null becomes NaN: absent
    return exact_decimals(floats, VOLUME.scale, lambda position: decimal_or_none(received(position))).values
