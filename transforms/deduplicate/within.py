"""Duplicates and conflicts within a cell, in two passes: ids decide what stays; then slice by slice into panes.

The first pass holds 16 bytes a record (its id twice, once sorted); all else is read only of ids that occur twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.records import ID_COLUMN
from transforms.deduplicate.across import LOSER
from transforms.gather.cells import column_int64
from transforms.gather.claims import Slices

PANE_ROWS = 16_384
"""Rows of a pane: what classification, aggregation and encoding hold in memory at once. A pane of events has ~17 MB,
and three of them are there at a time: the last one, classified, until Beam hands the next one on, and the next one
before and after classification.
"""

_AT_ONCE = 65_536
"""Ids that are looked up at a time: their places are as large as they."""

_COMPARED = (
    ("event_type_id", "event_time", "endpoint_id", "organisation_id", "severity_id"),
    ("end_time", "endpoint_id", "traffic_type_id", "volume_rx", "volume_tx", "volume_total", "cost", "currency"),
)
"""Fields in which copies of an id are compared where both carry them; times to the second."""


@dataclass(frozen=True)
class Verdict:
    """What happens to the records of a cell: masks over all its rows, in the order of its slices."""

    keep: np.ndarray
    conflict: np.ndarray

    @property
    def duplicates(self) -> int:
        """Records dropped as duplicates."""
        return len(self.keep) - int(self.keep.sum()) - int(self.conflict.sum())


def judge(slices: Sequence[pa.RecordBatch], kind: int, seen: np.ndarray, lost: np.ndarray) -> Verdict:
    """Decides which records of a cell stay.

    Args:
      slices: the cell's slices in a fixed order, in the record schema of `kind`.
      kind: index into `schemas.records.FEEDS`.
      seen: ids that other writers committed in this cell, sorted.
      lost: ids that lose to a copy in another cell, dtype `LOSER`.

    Returns:
      The verdict: of each id the winner stays (fullest rendering, then smallest content hash, then first position);
      losers that differ from it in a compared field that both carry are conflicts, all others duplicates. An id that
      was seen or lost keeps no record.
    """
    ids = _ids(slices, ID_COLUMN[kind])
    keep = np.ones(len(ids), bool)
    conflict = np.zeros(len(ids), bool)
    group = np.flatnonzero(_among(ids, _repeated(ids)))
    if len(group):
        winner = _winners(slices, ids, group)
        loser = winner != group
        group, winner = group[loser], winner[loser]
        keep[group] = False
        conflict[group] = _differs(slices, kind, group, winner)
    if len(lost):
        where = np.searchsorted(lost["id"], ids).clip(max=len(lost) - 1)
        loses = lost["id"][where] == ids
        keep &= ~loses
        conflict[loses] = lost["conflict"][where][loses] != 0
    if len(seen):
        known = _among(ids, seen)
        keep &= ~known
        conflict &= ~known
    return Verdict(keep, conflict)


def _repeated(ids: np.ndarray) -> np.ndarray:
    """The ids that occur more than once, sorted. To sort is faster than to find an order, and takes half the memory."""
    arranged = np.sort(ids)
    return np.unique(arranged[1:][arranged[1:] == arranged[:-1]])


def _among(ids: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Whether each id is among those that are known, which are sorted."""
    found = np.zeros(len(ids), bool)
    for start in range(0, len(ids) if len(known) else 0, _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        found[start : start + _AT_ONCE] = known[np.searchsorted(known, some).clip(max=len(known) - 1)] == some
    return found


def _ids(slices: Sequence[pa.RecordBatch], name: str) -> np.ndarray:
    """The ids of all records."""
    parts = slices.columns([name]) if isinstance(slices, Slices) else slices
    # Copies: a view would hold on to the whole batch.
    pieces = [column_int64(part.column(name)).copy() for part in parts]
    return np.concatenate([np.empty(0, np.int64), *pieces])


def _winners(slices: Sequence[pa.RecordBatch], ids: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Returns for each position in `group` the position of its id's winner."""
    quality = take(slices, group, ["rendering", "content_hash"])
    rank, content = (column.to_numpy() for column in quality.columns)
    by_quality = np.lexsort((group, content, rank, ids[group]))
    arranged = ids[group][by_quality]
    first = np.concatenate(([True], arranged[1:] != arranged[:-1]))
    winner = np.empty_like(group)
    winner[by_quality] = group[by_quality][first][np.cumsum(first) - 1]
    return winner


def _differs(slices: Sequence[pa.RecordBatch], kind: int, rows: np.ndarray, winners: np.ndarray) -> np.ndarray:
    """Whether each row differs from its winner in a compared field that both carry."""
    mine, theirs = take(slices, rows, _COMPARED[kind]), take(slices, winners, _COMPARED[kind])
    differs = np.zeros(len(rows), bool)
    for name in _COMPARED[kind]:
        left, right = mine.column(name), theirs.column(name)
        if pa.types.is_timestamp(left.type):
            left, right = (pc.floor_temporal(side, unit="second") for side in (left, right))
        differs |= pc.fill_null(pc.not_equal(left, right), False).to_numpy()
    return differs


def take(slices: Sequence[pa.RecordBatch], rows: np.ndarray, names: Sequence[str]) -> pa.Table:
    """Returns columns of single rows, by their positions over all slices, in the order of `rows`."""
    if not len(rows):
        return slices[0].select(list(names)).slice(0, 0) if slices else pa.table({})
    order = np.argsort(rows, kind="stable")
    pieces, start, taken = [], 0, 0
    for part in slices.columns(names) if isinstance(slices, Slices) else slices:
        until = int(np.searchsorted(rows, start + part.num_rows, sorter=order))
        if until > taken:
            pieces.append(part.select(list(names)).take(pa.array(rows[order[taken:until]] - start)))
        start, taken = start + part.num_rows, until
    back = np.empty(len(rows), np.int64)
    back[order] = np.arange(len(rows))
    return pa.Table.from_batches(pieces).take(pa.array(back))


def panes(slices: Sequence[pa.RecordBatch], keep: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Yields the kept rows in panes of exactly `PANE_ROWS` rows (the last one fewer): the same cuts in every run.

    Slices wait as they are, which costs no memory where they lie in mapped files; nothing of a pane is held here once
    it is handed on.
    """
    waiting: list[pa.RecordBatch] = []
    rows: list[np.ndarray] = []
    count = start = 0

    def join() -> pa.RecordBatch:
        joined = _join(waiting, rows)
        waiting.clear()
        rows.clear()
        return joined

    for part in slices:
        kept = np.flatnonzero(keep[start : start + part.num_rows])
        start += part.num_rows
        while len(kept):
            fitting = kept[: PANE_ROWS - count]
            waiting.append(part)
            rows.append(fitting)
            kept = kept[len(fitting) :]
            count += len(fitting)
            if count == PANE_ROWS:
                count = 0
                yield join()
    if count:
        yield join()


def _join(parts: Sequence[pa.RecordBatch], rows: Sequence[np.ndarray]) -> pa.RecordBatch:
    """Rows of several batches as one, column by column: a copy of a column at a time is all that it takes beside.

    Args:
      parts: the batches.
      rows: which rows of each, ascending.
    """
    # A batch of which little is taken, at the border of panes, is not copied whole.
    parts = [part.slice(own[0], own[-1] + 1 - own[0]) for part, own in zip(parts, rows, strict=True)]
    starts = np.cumsum([0, *(part.num_rows for part in parts)])
    places = np.concatenate([own - own[0] + start for own, start in zip(rows, starts[:-1], strict=True)])
    taken = None if len(places) == starts[-1] else pa.array(places)
    columns = []
    for number in range(parts[0].num_columns):
        column = pa.concat_arrays([part.column(number) for part in parts])
        columns.append(column if taken is None else column.take(taken))
    return pa.RecordBatch.from_arrays(columns, schema=parts[0].schema)


NO_LOSERS = np.empty(0, LOSER)
NO_IDS = np.empty(0, np.int64)
