"""Keep cells: where a batch run groups by cell, a live job keeps state for each.

A slice is settled when it comes: duplicates go, the rest is classified, kept, and handed to the streams that send at
once. Every ``aggregate_every`` seconds what a cell has kept is flushed: parts, partial sums, and streams that store.
A cell closes some time after its hour, when nothing comes for it any more: then its state is cleared, and for a record
that comes later its ids are read back from the warehouse. On this machine `transforms.keep.upkeep` sees to both; where
workers share no disk, timers of `transforms.keep_in_state` do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import apache_beam as beam
import numpy as np

from schemas.records import FEEDS, ID_COLUMN, RECORD_SCHEMAS
from schemas.streams import Stream
from schemas.tables import TABLES
from transforms.bury_dead_letters import BuryDeadLetters
from transforms.deduplicate.committed import CommittedIds, bucket_of
from transforms.deliver import storage
from transforms.deliver.parquet import read_parquet
from transforms.gather.cells import Cell, column_int64
from transforms.gather.claims import batch_of, place_of
from transforms.gather_by_cell import KeyedBytes
from transforms.keep import rows as kept_rows
from transforms.keep.arrivals import Arrivals, count_ahead, note_lag
from transforms.keep_in_state import KeepInState
from transforms.ledger.counts import FileEntry, Group, encode_group
from transforms.ledger.desk import OpenCell, desk_of
from transforms.run import Live, Run
from transforms.send_streams import SendStreams


class _KeepCells(beam.DoFn):
    """Keeps the ids of open cells in the process, which is the only worker and ends together with Prism: what is not
    committed then comes again from the journal, and what is committed is read back.

    A cell is worked on under its lock. Prism means to work on a key in one bundle at a time, but when it splits a slow
    bundle it sets the keys of what it takes away free, though earlier elements of theirs are still under way
    (`splitBundle` in its element manager, 2.77). So the step needs no shuffle by cell before it, nor timers: each
    would be a bundle, and late records keep a hundred cells open.
    """

    def __init__(self, run: Run, streams: Sequence[Stream]):
        self._run, self._streams = run, list(streams)

    def setup(self) -> None:
        self._desk = desk_of(self._run)
        self._arrivals = Arrivals(self._run, self._streams)

    def process(self, element: KeyedBytes) -> Iterator[bytes]:
        number, claim = element
        cell = Cell.of_number(number)
        batch = batch_of(claim, RECORD_SCHEMAS[cell.kind])
        self._desk.note_lag(note_lag(batch))
        with self._opened(cell) as known:
            known.last = self._desk.clock()
            pane = self._desk.books.next_pane(number)
            entries, keep = self._arrivals.take(cell, pane, batch, known.seen)
            if keep.any():
                known.seen.add(column_int64(batch.column(ID_COLUMN[cell.kind]))[keep])
                known.newest = pane
                if known.due is None:
                    known.due = known.last + self._live.aggregate_every
                self._desk.count_ahead(count_ahead(cell, batch, keep, int(known.last * 1e6)))
        yield encode_group(Group(("slice", *place_of(claim)), entries))

    @property
    def _live(self) -> Live:
        assert self._run.live is not None
        return self._run.live

    @contextmanager
    def _opened(self, cell: Cell) -> Iterator[OpenCell]:
        """What is held of a cell, for nobody else meanwhile; read from the warehouse where nothing is held yet."""
        while True:
            known = self._desk.open_cell(cell.number)
            with known.lock:
                if known.closed:
                    continue  # while this one waited for it
                if not known.loaded:
                    known.seen.add(np.unique(self._committed(cell)))
                    known.loaded = True
                yield known
                return

    def _committed(self, cell: Cell) -> np.ndarray:
        """Ids of the cell that are in the warehouse, of any writer, or kept for it."""
        while True:
            files = self._desk.books.files
            try:
                return self._ids_in(cell, files)
            except FileNotFoundError:
                if files == self._desk.books.files:
                    raise
                # A compaction has come in between: the rows lie in another file.

    def _ids_in(self, cell: Cell, files: Sequence[FileEntry]) -> np.ndarray:
        name, table, run = ID_COLUMN[cell.kind], FEEDS[cell.kind], self._run
        found = [CommittedIds(run.output, run.writer).of_cell(cell)]
        for file in files:
            if file.table_or_stream == table and file.hour == cell.hour and bucket_of(file.path) == cell.bucket:
                rows = read_parquet(storage.absolute(run.output, file.path), [name])
                found.append(column_int64(rows.column(name).combine_chunks()))
        for kept in self._desk.books.kept(cell.number):
            found.append(column_int64(kept_rows.take(kept.path, TABLES[table].schema).column(name)))
        return np.concatenate(found)


@dataclass
class KeepCells(beam.PTransform):
    """Drops duplicates, classifies, keeps, aggregates and routes the slices of a live job, cell by cell.

    Exactly the ids that a batch run over the same records would keep stay, whatever the order of arrival, among what
    this job has seen and what any writer has committed. Output: groups of ledger entries.

    Attributes:
      run: the run.
      streams: the stream definitions.
    """

    run: Run
    streams: Sequence[Stream]

    def expand(self, slices: beam.PCollection[KeyedBytes]) -> beam.PCollection[bytes]:
        """Keeps state by cell, in the global window: no state goes before its cell is closed.

        Where workers share no disk (Dataflow), what waits does so in the runner's state, and streams send behind a
        shuffle; else in files of the process, which is the only worker, and whose courier sends.
        """
        if self.run.spill is None:
            kept = slices | "State" >> KeepInState(self.run, self.streams)
            sent = kept.consignments | "SendStreams" >> SendStreams(self.run, self.streams)
            buried = sent.dead | "BuryRefused" >> BuryDeadLetters(self.run)
            return (kept.entries, sent.entries, buried) | "Groups" >> beam.Flatten()
        return slices | "Keep" >> beam.ParDo(_KeepCells(self.run, self.streams)).with_output_types(bytes)
