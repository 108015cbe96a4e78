"""Times as text to microseconds, UTC.

Four forms occur: ``2021-10-27T15:17:23Z``, with a fraction (``….260Z``), with an offset (``…+0000``, ``…+02:00``),
and ``2020-11-10 08:59:19``, which is UTC. A column is cast at once; only where that fails are its rows looked at one
by one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from schemas.tables import TIME

_SLICE = 100
_NAIVE_LENGTH = len("2020-11-10 08:59:19")
_FORM = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d+))?\s?(Z|[+-]\d\d(?::?\d\d)?)?", re.IGNORECASE | re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Times:
    """A column of times.

    Attributes:
      values: the column, ``timestamp[us, UTC]``; null where the text is no time.
      unreadable: rows whose text is no time, with what is wrong: ``form`` or ``range`` (such as February 30).
      inexact: rows whose instant microseconds cannot hold; the column has it cut.
    """

    values: pa.Array
    unreadable: dict[int, str] = field(default_factory=dict)
    inexact: list[int] = field(default_factory=list)


def parse_times(column: pa.StringArray) -> Times:
    """Parses a column of times; null stays null."""
    try:
        return Times(column.cast(TIME))
    except pa.ArrowInvalid:
        pass  # some rows have no zone or are odd: the next attempts tell
    if len(column) > _SLICE:  # so that an odd time costs its slice only
        parts = [parse_times(column.slice(start, _SLICE)) for start in range(0, len(column), _SLICE)]
        times = Times(pa.concat_arrays([part.values for part in parts]))
        for number, part in enumerate(parts):
            times.unreadable.update({number * _SLICE + row: what for row, what in part.unreadable.items()})
            times.inexact += (number * _SLICE + row for row in part.inexact)
        return times
    naive = pc.equal(pc.binary_length(column), _NAIVE_LENGTH)
    zoned = pc.if_else(naive, pc.binary_join_element_wise(column, "Z", ""), column)
    try:
        return Times(zoned.cast(TIME))
    except pa.ArrowInvalid:
        return _row_by_row(column.to_pylist())


def _row_by_row(texts: Sequence[str | None]) -> Times:
    values: list[int | None] = []
    times = Times(pa.nulls(0, TIME))
    for row, text in enumerate(texts):
        value, fault, exact = (None, None, True) if text is None else _one(text)
        values.append(value)
        if fault:
            times.unreadable[row] = fault
        if not exact:
            times.inexact.append(row)
    times.values = pa.array(values, pa.int64()).cast(TIME)
    return times


def _one(text: str) -> tuple[int | None, str | None, bool]:
    """Microseconds, what is wrong, and whether the microseconds are exact."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        return None, "form", True
    date, clock, fraction, zone = match.groups()
    leap = clock.endswith(":60")  # a leap second: the instant after it, as POSIX time has it
    offset = "+00:00" if zone in (None, "Z", "z") else zone
    try:
        moment = datetime.fromisoformat(f"{date}T{clock[:6]}59{offset}" if leap else f"{date}T{clock}{offset}")
        micros = (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None, "range", True
    digits = (fraction or "").rstrip("0")
    micros += 1_000_000 * leap + int(digits[:6].ljust(6, "0"))
    return micros, None, len(digits) <= 6 and not leap
