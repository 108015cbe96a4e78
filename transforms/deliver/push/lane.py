"""A lane: the parts of one stream and shard, in order, as batches; and from what became of records back to parts."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.tables import TABLES
from transforms.dead_letters import DELIVERY, DeadLetter, scrub
from transforms.deliver.destination import Outcome, StreamDefinition
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.parts import Part
from transforms.deliver.push.batch import Batch, Limits
from transforms.deliver.push.identity import record_ids
from transforms.deliver.push.sender import REFUSED, TAKEN, WAITING, Sender
from transforms.deliver.selection import Selection
from transforms.deliver.shapes import json_lines

CHUNK_ROWS = 4_096
"""Most rows that are made to text at a time; a chunk ends with a batch, so that batches are not put together from two
where they need not be, and each takes as long as the others."""

AHEAD = 500
"""Records of a batch from which on the next one is made while a request is under way. Of smaller ones a chunk of rows
holds several; making them would take the interpreter from the thread that waits for its answer."""

_SAID = 500
"""Most characters of a destination's reason that a dead letter keeps."""

_makers = threading.BoundedSemaphore(os.cpu_count() or 1)
"""Lanes that work ahead at the same time. More would not be faster, and each holds one batch more."""


@dataclass(slots=True)
class _Open:
    """A part under way: its rows, what became of each, and how many are still to be settled."""

    part: Part
    rows: pa.RecordBatch
    status: npt.NDArray[np.uint8]
    left: int
    letters: list[DeadLetter] = field(default_factory=list)

    def outcome(self, failure: Failure | None) -> Outcome:
        """The part's outcome; what still waits does so for `failure`."""
        if not self.left:
            failure = None
        rest = self.rows.filter(pa.array(self.status == WAITING)) if failure is not None else None
        return Outcome(int(np.count_nonzero(self.status == TAKEN)), [], self.letters, failure, rest)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Neighbouring rows of a part within a batch."""

    of: _Open
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class _Full:
    """A batch that is to be sent, and the parts that it is made of."""

    batch: Batch
    pieces: list[_Piece]


@dataclass(frozen=True, slots=True)
class _TooLarge:
    """A record that no request can carry."""

    of: _Open
    row: int
    record: Batch
    failure: Failure


@dataclass(frozen=True, slots=True)
class _Unread:
    """A part that came after the lane had failed."""

    part: Part


_Step = _Open | _Full | _TooLarge | _Unread


class _Cutter:
    """Makes the rows of parts into batches. It changes nothing that the lane looks at, so that it may work ahead."""

    def __init__(self, stream: StreamDefinition, limits: Limits, prepare: Callable[[Batch], object] | None):
        self._stream, self._limits, self._prepare = stream, limits, prepare
        self._held: list[Batch] = []
        self._pieces: list[_Piece] = []
        self._records = self._bytes = 0
        self._steps: list[_Step] = []
        self._stopped = threading.Event()

    def steps(self, parts: Iterable[tuple[Part, Selection]]) -> Iterator[list[_Step]]:
        """Yields what is to be done, in order; each list has a batch to send, or more."""
        for part, selection in parts:
            if self._stopped.is_set():
                yield [*self._taken(), _Unread(part)]
                continue
            rows = selection.rows
            opened = _Open(part, rows, np.zeros(rows.num_rows, np.uint8), rows.num_rows)
            self._steps.append(opened)
            start = 0
            while start < rows.num_rows and not self._stopped.is_set():
                chunk = rows.slice(start, self._chunk_rows())
                texts = json_lines(self._stream.shape, part.table, chunk)
                ids = record_ids(self._stream.name, part.table, chunk)  # of all at once: cheaper than batch by batch
                if self._cut(opened, start, Batch(self._stream, part.table, chunk, texts, ids)):
                    yield self._taken()
                start += chunk.num_rows
        self._close()
        yield self._taken()

    def _chunk_rows(self) -> int:
        """As many rows as the open batch has room for; many small batches where those are small."""
        most = self._limits.records
        if most <= CHUNK_ROWS // 2:
            return CHUNK_ROWS // most * most - self._records
        return min(CHUNK_ROWS, most - self._records)

    def stop(self) -> None:
        """No more batches: the lane has failed."""
        self._stopped.set()

    def _taken(self) -> list[_Step]:
        steps, self._steps = self._steps, []
        return steps

    def _cut(self, opened: _Open, offset: int, chunk: Batch) -> bool:
        """Puts the rows of a chunk into batches; returns whether one of them is full."""
        sizes = chunk.texts.str.len_bytes().to_numpy().astype(np.int64)
        large = np.flatnonzero(sizes > self._limits.record_bytes)
        sizes += self._limits.overhead
        before, first = len(self._steps), 0
        for place in (*large.tolist(), len(chunk)):
            self._fill(opened, offset, chunk, first, place, sizes)
            if place < len(chunk):
                failure = self._too_large(int(sizes[place]) - self._limits.overhead)
                self._steps.append(_TooLarge(opened, offset + place, chunk.slice(place, 1), failure))
            first = place + 1
        return any(isinstance(step, _Full) for step in self._steps[before:])

    def _fill(
        self, opened: _Open, offset: int, chunk: Batch, first: int, end: int, sizes: npt.NDArray[np.int64]
    ) -> None:
        """Puts neighbouring rows of a chunk into batches; a batch takes one record at least."""
        ends = np.cumsum(sizes[first:end])
        start = first
        while start < end:
            done = int(ends[start - first - 1]) if start > first else 0
            room = self._limits.bytes - self._bytes
            count = min(self._limits.records - self._records, end - start)
            if int(ends[start - first + count - 1]) - done > room:
                count = int(np.searchsorted(ends, done + room, side="right")) - (start - first)
            if count <= 0 and self._records:
                self._close()
                continue
            count = max(count, 1)
            self._held.append(chunk.slice(start, count))
            self._pieces.append(_Piece(opened, offset + start, count))
            self._records += count
            self._bytes += int(ends[start - first + count - 1]) - done
            start += count
            if self._records == self._limits.records:
                self._close()

    def _close(self) -> None:
        """Ends a batch, full or not."""
        if self._held:
            batch = Batch.joined(self._held)
            if self._prepare is not None:
                batch.prepared = self._prepare(batch)
            self._steps.append(_Full(batch, self._pieces))
            self._held, self._pieces, self._records, self._bytes = [], [], 0, 0

    def _too_large(self, size: int) -> Failure:
        error = f"the record has {size:,} bytes, more than the {self._limits.record_bytes:,} that a request may carry"
        return Failure(FailureKind.TOO_LARGE, error, "choose another shape, or mask long fields")


class _Lane:
    """Sends the batches, and puts what became of them together by part."""

    def __init__(self, sender: Sender):
        self._sender = sender
        self._opened: deque[_Open | _Unread] = deque()
        self.failure: Failure | None = None

    def take(self, step: _Step) -> None:
        """Does one step; after a failure nothing is sent any more."""
        if isinstance(step, _Open | _Unread):
            self._opened.append(step)
        elif self.failure is None and isinstance(step, _Full):
            self._send(step.batch, step.pieces)
        elif self.failure is None and isinstance(step, _TooLarge):
            self._bury(step.of, step.row, step.record, 0, step.failure)
            step.of.left -= 1

    def _send(self, batch: Batch, pieces: Sequence[_Piece]) -> None:
        sent = self._sender.deliver(batch)
        start = 0
        for piece in pieces:
            status = sent.status[start : start + piece.length]
            piece.of.status[piece.start : piece.start + piece.length] = status
            piece.of.left -= int(np.count_nonzero(status != WAITING))
            for place in range(start, start + piece.length) if sent.refused else ():
                if place in sent.refused:
                    self._bury(piece.of, piece.start + place - start, batch, place, sent.refused[place])
            start += piece.length
        self.failure = sent.failure

    def _bury(self, opened: _Open, row: int, batch: Batch, place: int, failure: Failure) -> None:
        opened.status[row] = REFUSED
        opened.letters.append(_dead_letter(batch, place, failure))

    def settled(self) -> Iterator[tuple[Part, Outcome]]:
        """Yields the parts of which each row is taken or refused; after a failure, all."""
        while self._opened:
            first = self._opened[0]
            if isinstance(first, _Open):
                if first.left and self.failure is None:
                    return
                outcome = first.outcome(self.failure)
            else:
                outcome = Outcome(failure=self.failure)
            self._opened.popleft()
            yield first.part, outcome


def deliver_lane(
    parts: Iterable[tuple[Part, Selection]],
    stream: StreamDefinition,
    limits: Limits,
    sender: Sender,
    prepare: Callable[[Batch], object] | None = None,
) -> Iterator[tuple[Part, Outcome]]:
    """Delivers the parts of a lane in order, and yields what became of each, in order.

    Batches reach over parts: only the last of a lane is not full. Where batches are large, the next one is made while a
    request is under way, and with it what `prepare` makes of it. After a failure nothing more is read into batches, and
    what was not taken waits.
    """
    works_ahead = limits.records >= AHEAD
    cutter, lane = _Cutter(stream, limits, prepare if works_ahead else None), _Lane(sender)
    for steps in _ahead(cutter.steps(parts)) if works_ahead else cutter.steps(parts):
        for step in steps:
            lane.take(step)
            if isinstance(step, _Full):
                if lane.failure is not None:
                    cutter.stop()
                yield from lane.settled()
        yield from lane.settled()


def _ahead(steps: Iterator[list[_Step]]) -> Iterator[list[_Step]]:
    """Each list of steps, the next one being made meanwhile on another thread, if a processor is left for it."""
    if not _makers.acquire(blocking=False):
        yield from steps
        return
    try:
        with ThreadPoolExecutor(1, "batches") as pool:
            coming = pool.submit(next, steps, None)
            while (made := coming.result()) is not None:
                coming = pool.submit(next, steps, None)
                yield made
    finally:
        _makers.release()


def _dead_letter(batch: Batch, place: int, failure: Failure) -> DeadLetter:
    payload = batch.texts[place].encode()
    names = TABLES[batch.table].schema.names

    def value(name: str) -> object:
        # Times as microseconds: no zone data is asked for.
        column = batch.rows.column(name).slice(place, 1)
        return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column)[0].as_py()

    identity = {"events": "event_id", "usage": "usage_id"}.get(batch.table)
    lineage = "source_file" in names
    return DeadLetter(
        kind=DELIVERY,
        feed=0 if batch.table in ("events", "device_events_hourly") else 1,
        reason="too_large" if failure.kind is FailureKind.TOO_LARGE else "delivery_rejected",
        message=scrub(failure.error.encode()).decode(errors="replace")[:_SAID],
        payload=payload,
        source_file=str(value("source_file") or "") if lineage else "",
        byte_offset=int(str(value("byte_offset") or 0)) if lineage else 0,
        ingest_time=int(str(value("ingest_time") or 0)) if lineage else int(str(value("hour"))),
        error_type=failure.kind.value,
        record_id=None if identity is None else int(str(value(identity))),
        stream=batch.stream.name,
    )
