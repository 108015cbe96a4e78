"""Keep cells: where a batch run groups by cell, a live job keeps state for each.

A slice is settled when it comes: duplicates go, the rest is classified, kept, and handed to the streams that send at
once. Every ``aggregate_every`` seconds what a cell has kept is flushed: parts, partial sums, and streams that store.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer

from schemas.records import FEEDS, ID_COLUMN, RECORD_SCHEMAS
from schemas.streams import Stream
from schemas.tables import TABLES
from transforms.deduplicate.committed import CommittedIds, read_parquet
from transforms.deduplicate.seen import SeenIds
from transforms.deliver import storage
from transforms.gather.cells import Cell, column_int64
from transforms.gather.claims import batch_of, place_of
from transforms.gather_by_cell import KeyedBytes
from transforms.keep import rows as kept_rows
from transforms.keep.arrivals import Arrivals
from transforms.keep.flush import Flushes, panes
from transforms.ledger.books import Books
from transforms.ledger.counts import Group, encode_group
from transforms.ledger.desk import desk_of
from transforms.run import Live, Run

_TICK = 1.0
"""Most seconds between two looks whether a cell has to be flushed: a drain waits for pending timers."""


class _KeepCells(beam.DoFn):
    IDS = BagStateSpec("ids", BytesCoder())
    TOKEN = ReadModifyWriteStateSpec("token", BytesCoder())
    TICK = TimerSpec("tick", TimeDomain.REAL_TIME)

    def __init__(self, run: Run, streams: Sequence[Stream]):
        self._run, self._streams = run, list(streams)

    def setup(self) -> None:
        self._desk = desk_of(self._run)
        self._arrivals = Arrivals(self._run, self._streams)
        self._flushes = Flushes(self._run, self._streams)
        # Ids by cell, with the token of the state that they are of; and when a cell has to be flushed.
        self._seen: dict[int, tuple[bytes, SeenIds]] = {}
        self._due: dict[int, float] = {}

    def teardown(self) -> None:
        self._flushes.close()

    def process(
        self,
        element: KeyedBytes,
        ids: Any = beam.DoFn.StateParam(IDS),
        token: Any = beam.DoFn.StateParam(TOKEN),
        tick: Any = beam.DoFn.TimerParam(TICK),
    ) -> Iterator[bytes]:
        number, claim = element
        cell = Cell.of_number(number)
        seen = self._ids_of(cell, token.read(), ids)
        batch = batch_of(claim, RECORD_SCHEMAS[cell.kind])
        entries, new = self._arrivals.take(cell, self._desk.books.next_pane(number), batch, seen)
        if len(new):
            seen.add(new)
            ids.add(new.tobytes())
            # Random, not a counter: two attempts could share a number with different ids.
            fresh = os.urandom(8)
            token.write(fresh)
            self._seen[number] = fresh, seen
            self._desk.ids[number] = len(seen)
            # While the job drains, who launched it flushes what is left.
            if number not in self._due and not self._desk.draining:
                self._due[number] = time.monotonic() + self._live.aggregate_every
                tick.set(time.time() + min(_TICK, self._live.aggregate_every))
        yield encode_group(Group(("slice", *place_of(claim)), entries))

    @on_timer(TICK)
    def on_tick(self, number: Any = beam.DoFn.KeyParam, tick: Any = beam.DoFn.TimerParam(TICK)) -> Iterator[bytes]:
        due = self._due.get(number, 0.0)
        if time.monotonic() < due and not self._desk.draining:
            tick.set(time.time() + min(_TICK, self._live.aggregate_every))
            return
        self._due.pop(number, None)
        yield from map(encode_group, flush_cell(self._flushes, self._desk.books, number))

    @property
    def _live(self) -> Live:
        assert self._run.live is not None
        return self._run.live

    def _ids_of(self, cell: Cell, token: bytes | None, bag: Any) -> SeenIds:
        """The ids of a cell: those in this process, if they are those of the state, else read again."""
        cached = self._seen.get(cell.number)
        if cached is not None and cached[0] == token:
            return cached[1]
        seen = SeenIds()
        known = [self._committed(cell), *(np.frombuffer(piece, np.int64) for piece in bag.read())]
        seen.add(np.unique(np.concatenate(known)))
        self._seen[cell.number] = token or b"", seen
        return seen

    def _committed(self, cell: Cell) -> np.ndarray:
        """Ids of the cell that are in the warehouse, of any writer, or kept for it."""
        name, table, run = ID_COLUMN[cell.kind], FEEDS[cell.kind], self._run
        found = [CommittedIds(run.output, run.writer).of_cell(cell)]
        for file in self._desk.books.files:
            if file.table_or_stream == table and file.hour == cell.hour and f"-{cell.bucket}-" in file.path:
                rows = read_parquet(storage.absolute(run.output, file.path), [name])
                found.append(column_int64(rows.column(name).combine_chunks()))
        for kept in self._desk.books.kept(cell.number):
            found.append(column_int64(kept_rows.take(kept.path, TABLES[table].schema).column(name)))
        return np.concatenate(found)


def flush_cell(flushes: Flushes, books: Books, number: int) -> Iterator[Group]:
    """Flushes what a cell has kept and not flushed yet, pane by pane."""
    for kept in panes(books.kept(number)):
        pane = books.next_pane(number)
        yield Group(("flush", number, pane, 0), flushes.flush(Cell.of_number(number), pane, kept))


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
        """Keeps state by cell, in the global window: no state goes before its cell is closed."""
        return slices | "Keep" >> beam.ParDo(_KeepCells(self.run, self.streams)).with_output_types(bytes)
