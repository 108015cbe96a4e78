"""Small helpers on columns: what the steps of classification share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Integers = np.ndarray[Any, np.dtype[np.integer[Any]]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

NO_ID = -1
"""Stands for null in integer columns seen as numpy arrays; ids of types, severities and sources are not negative."""


def numbers(column: pa.Array) -> Integers:
    """An integer column as a numpy array, nulls as `NO_ID`."""
    if column.null_count:
        column = column.fill_null(NO_ID)
    return column.to_numpy(zero_copy_only=False)


def mask_of(column: pa.Array) -> Mask:
    """A boolean column as a numpy array, nulls as False."""
    if column.null_count:
        column = column.fill_null(False)
    return column.to_numpy(zero_copy_only=False)


def valid(column: pa.Array) -> Mask:
    """Which rows of a column are not null."""
    if not column.null_count:
        return np.ones(len(column), dtype=bool)
    return column.is_valid().to_numpy(zero_copy_only=False)


def is_one_of(ids: Integers, values: Sequence[int]) -> Mask:
    """Which ids are among a few values, none of them negative; several times faster than `numpy.isin`."""
    if not len(values):
        return np.zeros(len(ids), dtype=bool)
    beyond = max(values) + 1
    among = np.zeros(beyond + 1, dtype=bool)
    among[list(values)] = True
    return among[np.clip(ids, NO_ID, beyond)]  # NO_ID indexes the last entry: False, as beyond


def words(codes: Integers, vocabulary: pa.Array) -> pa.Array:
    """The vocabulary's entry for each code."""
    return vocabulary.take(pa.array(codes))


def text_array(values: Sequence[str | None]) -> pa.Array:
    """Python texts as an Arrow column."""
    return pa.array(values, pa.string())


class Spread:
    """Brings values of some rows back to all rows of a batch; the others become null.

    Args:
      rows: the rows that have a value, each once.
      count: rows of the batch.
      places: where the value of each of `rows` stands among the values; by default they stand in the order of `rows`.
    """

    def __init__(self, rows: Integers, count: int, places: Integers | None = None) -> None:
        self._count = count
        self._all = places is None and len(rows) == count and bool((np.diff(rows) > 0).all())
        if not self._all:
            index = np.full(count, NO_ID, dtype=np.int32)
            index[rows] = np.arange(len(rows)) if places is None else places
            self._index = pa.array(index, mask=index < 0)

    def __call__(self, values: pa.Array) -> pa.Array:
        """The values as a column of the batch."""
        if self._all:
            return values
        if values.null_count == len(values):
            return pa.nulls(self._count, values.type)
        return values.take(self._index)


def by_distinct(column: pa.Array, change: Any) -> pa.Array:
    """Applies `change` (column → column) to the distinct values of a text column that repeats itself."""
    encoded = column.dictionary_encode()
    return change(encoded.dictionary).take(encoded.indices)


def select(column: pa.Array, rows: Integers) -> pa.Array:
    """The chosen rows, in rising order, of a column; without a copy where these are all."""
    return column if len(rows) == len(column) else column.take(pa.array(rows))


def where(mask: Mask, column: pa.Array) -> pa.Array:
    """The column where the mask holds, null elsewhere."""
    return pc.if_else(pa.array(mask), column, pa.scalar(None, column.type))
