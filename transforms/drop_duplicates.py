"""Drop duplicates: decide on ids alone, then hand a cell on in panes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa

from schemas.records import FEEDS, ID_COLUMN, RECORD_SCHEMAS
from transforms.deduplicate import across
from transforms.deduplicate.committed import CommittedIds
from transforms.deduplicate.conflicts import CONFLICT_COLUMNS, pack_conflicts, recover
from transforms.deduplicate.within import NO_LOSERS, Verdict, judge, panes, take
from transforms.elements import Pane
from transforms.gather.cells import Cell
from transforms.gather.claims import Slices, order_of
from transforms.gather_by_cell import LOST, SLICE, KeyedBytes
from transforms.ledger.counts import Count, encode
from transforms.memory import give_back
from transforms.run import Run

CONFLICTS, ENTRIES = "conflicts", "entries"


class UniqueRecords(NamedTuple):
    """What dropping duplicates gives: panes of unique records, dead letters KV<0, claim> of conflicts, ledger
    entries.
    """

    panes: beam.PCollection[Pane]
    dead: beam.PCollection[KeyedBytes]
    entries: beam.PCollection[bytes]


class _DropDuplicates(beam.DoFn):
    def __init__(self, run: Run):
        self._run = run
        self._committed = CommittedIds(run.output, run.writer)

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[object]:
        cell = Cell.of_number(element[0])
        claims, lost = _sort_out(element[1])
        slices = Slices(claims, RECORD_SCHEMAS[cell.kind])
        verdict = judge(slices, cell.kind, self._committed.of_cell(cell), lost)
        give_back()  # what decoding left at first, and the ids of a cell
        for file, rows in pack_conflicts(_conflicting(slices, verdict, cell), cell.kind):
            yield beam.pvalue.TaggedOutput(CONFLICTS, (file, rows))
        yield beam.pvalue.TaggedOutput(ENTRIES, encode(_count(cell, verdict)))
        for number, rows in enumerate(panes(slices, verdict.keep)):
            yield Pane(FEEDS[cell.kind], cell, number, rows)
            give_back()
            self._run.mark("written", f"{cell.number}-{number}", rows.num_rows)


def _sort_out(values: Iterable[bytes]) -> tuple[list[bytes], np.ndarray]:
    """Returns a cell's claims in the order of the input, and the ids that lose to another cell, sorted."""
    claims, lost = [], [NO_LOSERS]
    for value in values:
        if value[:1] == SLICE:
            claims.append(value[1:])
        elif value[:1] == LOST:
            lost.append(np.frombuffer(value[1:], across.LOSER))
    claims.sort(key=order_of)
    losers = np.concatenate(lost)
    return claims, losers[np.argsort(losers["id"], kind="stable")]


def _conflicting(slices: Sequence[pa.RecordBatch], verdict: Verdict, cell: Cell) -> pa.Table:
    """The origin of each conflicting record: id, file, offset, length, ingest time, feed."""
    rows = take(slices, np.flatnonzero(verdict.conflict), [ID_COLUMN[cell.kind], *CONFLICT_COLUMNS])
    return rows.rename_columns(["record_id", *CONFLICT_COLUMNS]) if rows.num_rows else rows


def _count(cell: Cell, verdict: Verdict) -> Count:
    return Count(
        stage="cell", feed=FEEDS[cell.kind], hour=cell.hour, pane=0, received=len(verdict.keep),
        duplicates=verdict.duplicates, conflicts=int(verdict.conflict.sum()), delivered=int(verdict.keep.sum()),
        final=True,
    )  # fmt: skip


class _RecoverPayloads(beam.DoFn):
    """Conflicts of one file → their dead letters, with the bytes as they stand in the file; one pass over it."""

    def __init__(self, run: Run):
        self._run = run

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[KeyedBytes]:
        for claim in recover(element[1], self._run.writer, self._run.dead):
            yield 0, claim


@dataclass
class DropDuplicates(beam.PTransform):
    """Drops duplicates by (kind, id), exactly, independent of the order of arrival; counts them.

    Input: KV<cell number, [claims, lost ids]> of `GatherByCell`. Output: panes in the record schemas. Within a cell
    an id that another writer has committed is a duplicate. A loser that differs from its winner is a conflict: a dead
    letter.

    Attributes:
      run: the run.
    """

    run: Run

    def expand(self, cells: beam.PCollection) -> UniqueRecords:
        """Decides cell by cell, and reads the original bytes of conflicts."""
        unique = cells | "Judge" >> beam.ParDo(_DropDuplicates(self.run)).with_outputs(CONFLICTS, ENTRIES, main="panes")
        unique.panes.element_type = Pane
        unique[CONFLICTS].element_type = beam.typehints.Tuple[int, bytes]
        unique[ENTRIES].element_type = bytes
        dead = (
            unique[CONFLICTS]
            | "GatherConflicts" >> beam.GroupByKey()
            | "RecoverPayloads" >> beam.ParDo(_RecoverPayloads(self.run)).with_output_types(KeyedBytes)
        )
        return UniqueRecords(unique.panes, dead, unique[ENTRIES])
