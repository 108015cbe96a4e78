"""When a cell closes: what is held to tell its duplicates goes, and its hour may be final."""

from __future__ import annotations

from schemas.records import HOUR
from transforms.gather.cells import Cell

QUIET = 600.0
"""Seconds without a record that a cell has to see before it closes: late records tend to come together."""


def closes_at(cell: Cell, last: float, close_after: float) -> float:
    """When a cell closes, in seconds since 1970.

    Args:
      cell: the cell.
      last: when something last came for it, in seconds since 1970.
      close_after: seconds after the end of its hour until it may close.
    """
    return max((cell.hour + HOUR) / 1_000_000 + close_after, last + QUIET)
