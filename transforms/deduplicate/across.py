"""Ids that lie in several cells: the same id with another time or device.

Every record sends 16 packed bytes (id, cell, quality) through a shuffle by id; the losers go to their cell before
anything is aggregated there. Quality orders the copies of an id: fullest rendering first, then smallest content hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from schemas.records import ID_COLUMN, USAGE_FEED
from transforms.gather.cells import column_int64

SHARDS = 16
"""Shards of ids, a power of two: a shard of 100 million records has 100 MB of packed rows."""

AT_ONCE = 1 << 18
"""Rows of a shard that are sorted together (~10 MB): a larger shard is gone through several times."""

PACKED = np.dtype([("id", "<i8"), ("cell", "<u4"), ("quality", "<u4")])
"""16 bytes a record: id, cell number without its kind, quality."""

LOSER = np.dtype([("id", "<i8"), ("conflict", "<i8")])
"""An id that loses in a cell; conflict 1: it differs from the winner in a field that both carry."""

_LOST_IN = np.dtype([("cell", "<u4"), ("id", "<i8"), ("conflict", "<i8")])
_RANK_SHIFT, _HASH_SHIFT = 29, 2
_HAS_END, _HAS_DEVICE = 2, 1
_FLAGS = np.uint32(_HAS_END | _HAS_DEVICE)
_HOUR_MASK = np.uint32((1 << 21) - 1)


def pack(batch: pa.RecordBatch, kind: int, cells: np.ndarray) -> np.ndarray:
    """Returns the packed rows of a record batch, dtype `PACKED`."""
    rows = np.empty(batch.num_rows, PACKED)
    rows["id"] = column_int64(batch.column(ID_COLUMN[kind]))
    rows["cell"] = (cells & 0xFFFFFFFF).astype(np.uint32)
    rank = batch.column("rendering").to_numpy(zero_copy_only=False).astype(np.uint32)
    content = batch.column("content_hash").to_numpy(zero_copy_only=False)
    has_device = np.asarray(batch.column("endpoint_id").is_valid())
    has_end = np.asarray(batch.column("end_time").is_valid()) if kind == USAGE_FEED else np.ones(batch.num_rows, bool)
    rows["quality"] = (
        rank << np.uint32(_RANK_SHIFT)
        | (content >> np.uint64(64 - 27)).astype(np.uint32) << np.uint32(_HASH_SHIFT)
        | has_end.astype(np.uint32) * np.uint32(_HAS_END)
        | has_device.astype(np.uint32) * np.uint32(_HAS_DEVICE)
    )
    return rows


def _spread(rows: np.ndarray, parts: int) -> np.ndarray:
    """A number below `parts`, a power of two, for each row: by its id alone, and evenly."""
    return (rows["id"].view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(65 - parts.bit_length())


def shard(rows: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Cuts packed rows by shard of their id: (shard, rows) for each shard that has rows."""
    shards = _spread(rows, SHARDS)
    order = np.argsort(shards, kind="stable")
    arranged, ends = rows[order], np.cumsum(np.bincount(shards.astype(np.int64), minlength=SHARDS))
    starts = ends - np.diff(ends, prepend=0)
    return [(index, arranged[starts[index] : ends[index]]) for index in range(SHARDS) if starts[index] < ends[index]]


def losers(pieces: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Finds ids that lie in several cells.

    Args:
      pieces: all packed rows of one shard; they may lie in mapped files, and are gone through several times.

    Yields:
      (cell number without kind, rows of dtype `LOSER`) for cells that lose ids: every copy of such an id there loses to
      the winner in another cell, which is the copy with the smallest (quality, cell). A cell may come several times.
    """
    passes = 1
    while passes * AT_ONCE < sum(map(len, pieces)):
        passes *= 2
    for number in range(passes):
        own = pieces if passes == 1 else [piece[_spread(piece, passes << 4) % passes == number] for piece in pieces]
        yield from _losers(np.concatenate(own or [np.empty(0, PACKED)]))


def _losers(rows: np.ndarray) -> list[tuple[int, np.ndarray]]:
    order = np.argsort(rows["id"], kind="stable")
    ids, cells = rows["id"][order], rows["cell"][order]
    apart = np.flatnonzero((ids[1:] == ids[:-1]) & (cells[1:] != cells[:-1]))
    if not len(apart):
        return []
    suspect_ids = np.unique(ids[apart])
    suspect = np.isin(ids, suspect_ids)
    rows = rows[order[suspect]]
    best = rows["quality"] & ~_FLAGS
    rows = rows[np.lexsort((rows["cell"], best, rows["id"]))]
    first = np.concatenate(([True], rows["id"][1:] != rows["id"][:-1]))
    winner = rows[first][np.cumsum(first) - 1]
    lost = rows["cell"] != winner["cell"]
    found = np.empty(int(lost.sum()), _LOST_IN)
    found["cell"], found["id"], found["conflict"] = rows["cell"][lost], rows["id"][lost], _conflicts(rows, winner)[lost]
    return [(int(cell), _of_cell(found, cell)) for cell in np.unique(found["cell"])]


def _of_cell(found: np.ndarray, cell: np.uint32) -> np.ndarray:
    part = np.unique(found[found["cell"] == cell])
    lost = np.empty(len(part), LOSER)
    lost["id"], lost["conflict"] = part["id"], part["conflict"]
    return lost


def _conflicts(rows: np.ndarray, winner: np.ndarray) -> np.ndarray:
    """Whether a copy in another cell differs from the winner in a field that both carry (1) or only looks so (0).

    Another hour is another time, where both carry the time that decides the hour; another bucket is another device,
    where both carry one (or neither: then it is another organisation). Other differences cannot be seen here: they
    count as conflict, which keeps the loser's bytes.
    """
    both = rows["quality"] & winner["quality"]
    same_hour = (rows["cell"] & _HOUR_MASK) == (winner["cell"] & _HOUR_MASK)
    timeless = (both & np.uint32(_HAS_END)) == 0
    return np.where(timeless & ~same_hour, 0, 1).astype(np.int64)
