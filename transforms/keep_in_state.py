"""Keep cells in the runner's state, where workers share no disk and lose theirs (Dataflow).

The same as on one machine, with the same functions: a slice is settled when it comes, and what a cell has kept is
flushed every ``aggregate_every`` seconds. Only where things wait differs. Ids, and rows up to the flush, are in the
state; files are written behind a shuffle (`transforms.write_kept`), from what it hands out again in every attempt, so
that a repeated attempt writes the same bytes; what streams send goes through a shuffle on (stream, shard).
"""

from __future__ import annotations

import math
import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
import msgspec
import numpy as np
import pyarrow as pa
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from schemas.records import FEEDS, HOUR, ID_COLUMN, RECORD_SCHEMAS
from schemas.streams import Stream
from schemas.tables import TABLES
from transforms.deduplicate.committed import CommittedIds
from transforms.deduplicate.seen import SeenIds
from transforms.deduplicate.within import PANE_ROWS
from transforms.deliver.consignments import consign, encode, of_spooled
from transforms.deliver.push.identity import key_of
from transforms.deliver.spool import DIRECTORY
from transforms.gather.cells import Cell, column_int64
from transforms.gather.claims import Spill, batch_of, place_of
from transforms.gather_by_cell import KeyedBytes
from transforms.keep.arrivals import Arrivals, count_ahead, note_lag
from transforms.keep.flush import with_pane
from transforms.ledger import metrics
from transforms.ledger.commit import listed_files
from transforms.ledger.counts import Group, OpenCells, encode_group
from transforms.run import Live, Run
from transforms.write_kept import CONSIGNMENTS, KeptPane, WriteKept, kept_panes

PIECE_BYTES = 1 << 20
"""Most bytes of a piece of rows, or of ids, in the state, a single row apart."""

PANE_BYTES = 8 << 20
"""Bytes of kept pieces from which on a pane is full: it crosses a shuffle as one element."""

CELLS_AT_HAND = 1024
"""Cells whose ids a worker keeps at hand: runners move cells to other workers without a word."""

PANES = "panes"


class _Standing(msgspec.Struct, array_like=True):
    """How a cell stands: next number of what it writes, whether a flush is due, when it closes (microseconds), how many
    panes were written since it opened or its parts were merged, whether the ledger was told that it is open, and how
    many ids it holds.
    """

    next: int
    flushing: bool = False
    closing: int = 0
    parts: int = 0
    told: bool = False
    ids: int = 0


_encoder = msgspec.msgpack.Encoder()
_standings = msgspec.msgpack.Decoder(_Standing)


class _Keep(beam.DoFn):
    """A slice → groups of entries, consignments of streams that send at once, and panes that are to be written."""

    IDS = BagStateSpec("ids", BytesCoder())
    TOKEN = ReadModifyWriteStateSpec("token", BytesCoder())
    KEPT = BagStateSpec("kept", BytesCoder())
    STANDING = ReadModifyWriteStateSpec("standing", BytesCoder())
    FLUSH = TimerSpec("flush", TimeDomain.REAL_TIME)
    CLOSE = TimerSpec("close", TimeDomain.WATERMARK)

    def __init__(self, run: Run, streams: Sequence[Stream]):
        self._run, self._streams = run, list(streams)

    def setup(self) -> None:
        self._arrivals = Arrivals(self._run, self._streams)
        self._seen: OrderedDict[int, tuple[bytes, SeenIds]] = OrderedDict()

    def process(
        self,
        element: KeyedBytes,
        arrived: Any = beam.DoFn.TimestampParam,
        ids: Any = beam.DoFn.StateParam(IDS),
        token: Any = beam.DoFn.StateParam(TOKEN),
        kept: Any = beam.DoFn.StateParam(KEPT),
        state: Any = beam.DoFn.StateParam(STANDING),
        flush: Any = beam.DoFn.TimerParam(FLUSH),
        close: Any = beam.DoFn.TimerParam(CLOSE),
    ) -> Iterator[object]:
        number, claim = element
        cell = Cell.of_number(number)
        data = state.read()
        standing = _standings.decode(data) if data else self._begin(cell, ids, token)
        seen = self._ids_of(number, token.read(), ids)
        batch = batch_of(claim, RECORD_SCHEMAS[cell.kind])
        count, keep = self._arrivals.new(cell, batch, seen)
        note_lag(batch)
        opened = [] if standing.told else [OpenCells(count.feed, cell.hour, 1)]
        yield encode_group(Group(("slice", *place_of(claim)), [count, *opened]))
        if keep.any():
            count_ahead(cell, batch, keep, arrived.micros)
            new = column_int64(batch.column(ID_COLUMN[cell.kind]))[keep]
            seen.add(new)
            ids.add(new.tobytes())
            standing.ids += len(new)
            metrics.count_ids(len(new))
            # Random, not a counter: two attempts could share a number with different ids.
            self._remember(number, os.urandom(8), seen, token)
            yield from self._take(cell, standing, self._arrivals.rows(cell, standing.next, batch, keep), kept)
            if not standing.flushing:
                standing.flushing = True
                flush.set(time.time() + self._live.aggregate_every)
        if keep.any() or opened:
            standing.told = True
            closing = self._closing(cell, arrived.micros)
            if not standing.closing:
                close.set(Timestamp(micros=closing))
            standing.closing = max(standing.closing, closing)
            state.write(_encoder.encode(standing))

    @on_timer(FLUSH)
    def on_flush(
        self,
        number: Any = beam.DoFn.KeyParam,
        kept: Any = beam.DoFn.StateParam(KEPT),
        state: Any = beam.DoFn.StateParam(STANDING),
    ) -> Iterator[object]:
        data = state.read()
        if data:  # else the cell has closed
            standing = _standings.decode(data)
            standing.flushing = False
            yield from _flushed(number, standing, kept)
            state.write(_encoder.encode(standing))

    @on_timer(CLOSE)
    def on_close(
        self,
        number: Any = beam.DoFn.KeyParam,
        at: Any = beam.DoFn.TimestampParam,
        ids: Any = beam.DoFn.StateParam(IDS),
        token: Any = beam.DoFn.StateParam(TOKEN),
        kept: Any = beam.DoFn.StateParam(KEPT),
        state: Any = beam.DoFn.StateParam(STANDING),
        flush: Any = beam.DoFn.TimerParam(FLUSH),
        close: Any = beam.DoFn.TimerParam(CLOSE),
    ) -> Iterator[object]:
        """Closes a cell that has kept and written nothing for ``close_after``: its ids are in the warehouse by then,
        from where they are read back. Several parts become one before. When the job is drained no time is left, and
        all cells get here at once.
        """
        standing, later = _standings.decode(state.read()), self._long_after(at.micros)
        flushed = list(_flushed(number, standing, kept))
        yield from flushed
        if standing.flushing:
            standing.flushing = False
            flush.clear()
        if flushed:
            standing.closing = max(standing.closing, later)
        elif standing.closing <= at.micros and standing.parts:
            # Only now: its parts have been published for long. A single one is forgotten, for what comes late.
            yield _pane(number, standing, [])
            standing.closing = later if standing.parts > 1 else standing.closing
            standing.parts = 0
        if standing.closing > at.micros:
            close.set(Timestamp(micros=standing.closing))
            state.write(_encoder.encode(standing))
            return
        if time.time() >= standing.closing / 1e6:  # else the job is drained before: its hour is not final
            cell = Cell.of_number(number)
            yield encode_group(Group(("close", number, standing.next, 0), [OpenCells(FEEDS[cell.kind], cell.hour, -1)]))
        metrics.count_ids(-standing.ids)
        for one in (ids, token, kept, state):
            one.clear()
        self._seen.pop(number, None)

    @property
    def _live(self) -> Live:
        assert self._run.live is not None
        return self._run.live

    def _closing(self, cell: Cell, arrived: int) -> int:
        """When a cell closes: of one in the future no longer is waited for than of that of the present hour."""
        return self._long_after(max(arrived, min(cell.hour, arrived) + HOUR))

    def _long_after(self, moment: int) -> int:
        """``close_after`` after a moment, and after now: a watermark that is ahead of what arrives must not close a
        cell before what it wrote is published; its ids, and the numbers of its parts, would be taken for unused.
        """
        seconds = max(moment / 1e6, time.time()) + self._live.close_after
        return math.ceil(seconds) * 1_000_000  # whole: runners keep milliseconds, and a timer must not come too early

    def _begin(self, cell: Cell, ids: Any, token: Any) -> _Standing:
        """A cell that is touched for the first time, or again: it has what was committed, of any writer."""
        known = CommittedIds(self._run.output, "").of_cell(cell)
        for start in range(0, len(known), PIECE_BYTES // 8):
            ids.add(known[start : start + PIECE_BYTES // 8].tobytes())
        seen = SeenIds()
        seen.add(np.unique(known))
        self._remember(cell.number, os.urandom(8), seen, token)
        metrics.count_ids(len(known))
        return _Standing(_next_pane(self._run, cell), ids=len(known))

    def _remember(self, number: int, fresh: bytes, seen: SeenIds, token: Any) -> None:
        token.write(fresh)
        self._put(number, fresh, seen)

    def _put(self, number: int, token: bytes, seen: SeenIds) -> None:
        self._seen[number] = token, seen
        self._seen.move_to_end(number)
        if len(self._seen) > CELLS_AT_HAND:
            self._seen.popitem(last=False)

    def _ids_of(self, number: int, token: bytes | None, bag: Any) -> SeenIds:
        """The ids of a cell: those at hand, if they are those of the state, else those of the state."""
        cached = self._seen.get(number)
        if cached is not None and cached[0] == token:
            return cached[1]
        seen = SeenIds()
        pieces = [np.frombuffer(piece, np.int64) for piece in bag.read()]
        if pieces:
            seen.add(np.unique(np.concatenate(pieces)))
        self._put(number, token or b"", seen)
        return seen

    def _take(self, cell: Cell, standing: _Standing, fresh: pa.RecordBatch, kept: Any) -> Iterator[object]:
        """Keeps rows that are new, and hands them to the streams that send at once."""
        for rows, claim in _pieces(fresh, standing.next):
            number = standing.next
            standing.next += 1
            kept.add(claim)
            for count, part, selection, lanes in self._arrivals.routed(cell, number, with_pane(rows, number)):
                yield encode_group(Group(("slice", cell.number, number, 0), [count]))
                if selection.num_rows:
                    for one in consign(part, selection, lanes):
                        yield beam.pvalue.TaggedOutput(CONSIGNMENTS, (key_of(one.stream, one.shard), encode(one)))


def _pieces(rows: pa.RecordBatch, number: int) -> Iterator[tuple[pa.RecordBatch, bytes]]:
    """Rows in pieces that the state takes, each with its claim. Claims of a cell are in order of `number`, then of
    their place.
    """
    start, length = 0, rows.num_rows
    while start < rows.num_rows:
        piece = rows.slice(start, length)
        claim = Spill(None, number, start).deposit(piece)
        if len(claim) > PIECE_BYTES and piece.num_rows > 1:
            length = piece.num_rows // 2
            continue
        yield piece, claim
        start += piece.num_rows


def _flushed(number: int, standing: _Standing, kept: Any) -> Iterator[object]:
    """What a cell has kept, as panes; it keeps nothing then."""
    claims = sorted(kept.read(), key=place_of)
    if not claims:
        return
    table = TABLES[FEEDS[Cell.of_number(number).kind]].schema
    pane: list[bytes] = []
    rows = size = 0
    for claim in claims:
        own = batch_of(claim, table).num_rows
        if pane and (rows + own > PANE_ROWS or size + len(claim) > PANE_BYTES):
            yield _pane(number, standing, pane)
            standing.parts += 1
            pane, rows, size = [], 0, 0
        pane.append(claim)
        rows, size = rows + own, size + len(claim)
    yield _pane(number, standing, pane)
    standing.parts += 1
    kept.clear()


def _pane(number: int, standing: _Standing, claims: list[bytes]) -> object:
    pane = KeptPane(standing.next, claims)
    standing.next += 1
    return beam.pvalue.TaggedOutput(PANES, (number, kept_panes.encode(pane)))


def _next_pane(run: Run, cell: Cell) -> int:
    """A number from which on none was used by an earlier job of the same name, or before the cell was closed."""
    table, last = FEEDS[cell.kind], -1
    for file in listed_files(run.output, run.writer):
        if file.table_or_stream == table and file.hour == cell.hour:
            *_, bucket, pane = file.path.removesuffix(".parquet").rsplit("-", 2)
            last = max(last, int(pane)) if int(bucket) == cell.bucket else last
        elif file.table_or_stream.startswith(f"{DIRECTORY}/") and file.hour == cell.hour:
            waiting = of_spooled(file, run.output)
            last = max(last, waiting.pane) if waiting is not None else last
    return last + 1


class Kept(NamedTuple):
    """Groups of entries, and consignments KV<key of (stream, shard), bytes>."""

    entries: beam.PCollection[bytes]
    consignments: beam.PCollection[KeyedBytes]


@dataclass
class KeepInState(beam.PTransform):
    """Keeps cells in the runner's state, in the global window; writes what they flush.

    Attributes:
      run: the run.
      streams: the stream definitions.
    """

    run: Run
    streams: Sequence[Stream]

    def expand(self, slices: beam.PCollection[KeyedBytes]) -> Kept:
        """Two steps with a shuffle between them: what has state, and what writes."""
        keyed = beam.typehints.Tuple[int, bytes]
        kept = slices | "Keep" >> beam.ParDo(_Keep(self.run, self.streams)).with_outputs(
            PANES, CONSIGNMENTS, main="entries"
        )
        for tag, kind in ((PANES, keyed), (CONSIGNMENTS, keyed), ("entries", bytes)):
            kept[tag].element_type = kind
        written = kept[PANES] | "Write" >> beam.ParDo(WriteKept(self.run, self.streams)).with_outputs(
            CONSIGNMENTS, main="entries"
        )
        written[CONSIGNMENTS].element_type = keyed
        written.entries.element_type = bytes
        return Kept(
            (kept.entries, written.entries) | "Entries" >> beam.Flatten(),
            (kept[CONSIGNMENTS], written[CONSIGNMENTS]) | "Consignments" >> beam.Flatten(),
        )
