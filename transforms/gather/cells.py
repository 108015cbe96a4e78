"""Cells: (kind, event hour, bucket of devices), the unit of shuffle, files and idempotence.

Duplicates share id, device and time, so they meet in one cell; per-device aggregates are final there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.records import EVENTS_FEED, HOUR

MAX_BUCKETS = 2048
"""Buckets of devices that a cell number has room for (11 bits); about one per half million records an hour is
enough.
"""

_HOUR_BITS = 21  # hours since 1970 until 2100: 1,139,568 < 2^21
_KIND_SHIFT = 32


class Cell(NamedTuple):
    """One cell: kind (index into `schemas.records.FEEDS`), hour in microseconds UTC, bucket."""

    kind: int
    hour: int
    bucket: int

    @property
    def number(self) -> int:
        """The cell as one int: the shuffle key."""
        return self.kind << _KIND_SHIFT | self.bucket << _HOUR_BITS | self.hour // HOUR

    @classmethod
    def of_number(cls, number: int) -> Cell:
        """The cell of a shuffle key."""
        return cls(
            kind=number >> _KIND_SHIFT,
            hour=(number & ((1 << _HOUR_BITS) - 1)) * HOUR,
            bucket=number >> _HOUR_BITS & (MAX_BUCKETS - 1),
        )


def mix(values: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser: ids are dense, and their low bits say nothing about fair buckets."""
    mixed = values.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def column_int64(column: pa.Array, null: int = 0) -> np.ndarray:
    """Returns an int64 or timestamp column as numpy, nulls replaced."""
    if pa.types.is_timestamp(column.type):
        column = column.view(pa.int64())
    if column.null_count:
        column = pc.fill_null(column, null)
    return column.to_numpy(zero_copy_only=False)


def record_times(batch: pa.RecordBatch, kind: int) -> np.ndarray:
    """Returns the time that decides a record's hour, microseconds UTC: events the time, usage the end, else the
    start.
    """
    if kind == EVENTS_FEED:
        return column_int64(batch.column("event_time"))
    end = batch.column("end_time")
    if end.null_count:
        end = pc.coalesce(end, batch.column("start_time"))
    return column_int64(end)


def device_keys(batch: pa.RecordBatch) -> np.ndarray:
    """Returns the endpoint id, else the organisation id, of each row (0: neither)."""
    endpoint = batch.column("endpoint_id")
    if endpoint.null_count:
        endpoint = pc.coalesce(endpoint, batch.column("organisation_id"))
    return column_int64(endpoint)


def buckets_of(batch: pa.RecordBatch, buckets: int) -> np.ndarray:
    """Returns the bucket of each row: a mixed hash of `device_keys`, modulo `buckets`. Fixed per warehouse."""
    if buckets == 1:
        return np.zeros(batch.num_rows, np.int64)
    return (mix(device_keys(batch)) % np.uint64(buckets)).astype(np.int64)


def cell_numbers(batch: pa.RecordBatch, kind: int, buckets: int) -> np.ndarray:
    """Returns the number of the cell of each row, int64."""
    hours = record_times(batch, kind) // HOUR
    return kind << _KIND_SHIFT | buckets_of(batch, buckets) << _HOUR_BITS | hours


def cut(batch: pa.RecordBatch, cells: np.ndarray) -> list[tuple[int, pa.RecordBatch]]:
    """Cuts a batch into slices, one per cell, in order of their numbers; rows keep their order within a cell."""
    if not len(cells):
        return []
    if cells[0] == cells[-1] and (cells == cells[0]).all():
        return [(int(cells[0]), batch)]
    order = np.argsort(cells, kind="stable")
    arranged = cells[order]
    starts = np.flatnonzero(np.concatenate(([True], arranged[1:] != arranged[:-1])))
    ends = np.append(starts[1:], len(cells))
    rows = batch.take(pa.array(order))
    return [(int(arranged[start]), rows.slice(start, end - start)) for start, end in zip(starts, ends, strict=True)]
