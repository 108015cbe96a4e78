"""A lane: the parts of one stream and shard, in order, as batches; and from what became of records back to parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
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
from transforms.deliver.push.sender import REFUSED, TAKEN, WAITING, Sender
from transforms.deliver.selection import Selection
from transforms.deliver.shapes import json_lines

CHUNK_ROWS = 2_048
"""Rows that are made to text at a time: what a lane holds beside the batch that it fills."""

_SAID = 500
"""Most characters of a destination's reason that a dead letter keeps."""


@dataclass(slots=True)
class _Open:
    """A part under way: its rows, and what became of each."""

    part: Part
    rows: pa.RecordBatch
    status: npt.NDArray[np.uint8]
    letters: list[DeadLetter] = field(default_factory=list)
    cut: bool = False
    """Whether all of its rows are in batches."""

    def outcome(self, failure: Failure | None) -> Outcome:
        """The part's outcome; what still waits does so for `failure`."""
        waiting = self.status == WAITING
        if not waiting.any():
            failure = None
        rest = self.rows.filter(pa.array(waiting)) if failure is not None else None
        return Outcome(int(np.count_nonzero(self.status == TAKEN)), [], self.letters, failure, rest)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Neighbouring rows of a part within a batch."""

    of: _Open
    start: int
    length: int


class _Lane:
    def __init__(self, stream: StreamDefinition, limits: Limits, sender: Sender):
        self._stream, self._limits, self._sender = stream, limits, sender
        self._opened: deque[_Open] = deque()
        self._held: list[Batch] = []
        self._pieces: list[_Piece] = []
        self._records = self._bytes = 0
        self.failure: Failure | None = None

    def add(self, part: Part, rows: pa.RecordBatch) -> None:
        """Takes a part's rows, and sends each batch that they fill."""
        opened = _Open(part, rows, np.zeros(rows.num_rows, np.uint8))
        self._opened.append(opened)
        for start in range(0, rows.num_rows, CHUNK_ROWS):
            if self.failure is not None:
                break
            chunk = rows.slice(start, CHUNK_ROWS)
            texts = json_lines(self._stream.shape, part.table, chunk)
            self._cut(opened, start, Batch(self._stream, part.table, chunk, texts))
        opened.cut = True

    def _cut(self, opened: _Open, offset: int, chunk: Batch) -> None:
        """Puts the rows of a chunk into batches."""
        sizes = chunk.texts.str.len_bytes().to_numpy().astype(np.int64)
        for place in np.flatnonzero(sizes > self._limits.record_bytes):
            self._bury(opened, offset + int(place), chunk, int(place), self._too_large(int(sizes[place])))
        kept = np.flatnonzero(sizes <= self._limits.record_bytes)
        sizes = sizes + self._limits.overhead
        while len(kept) and self.failure is None:
            fits = self._fitting(sizes[kept])
            if fits == 0:
                self.flush()
                continue
            run = _run_length(kept[:fits])
            first = int(kept[0])
            self._held.append(chunk.slice(first, run))
            self._pieces.append(_Piece(opened, offset + first, run))
            self._records += run
            self._bytes += int(sizes[kept[:run]].sum())
            kept = kept[run:]

    def _fitting(self, sizes: npt.NDArray[np.int64]) -> int:
        """How many of the next records the batch has room for; a batch takes one record at least."""
        by_bytes = int(np.searchsorted(np.cumsum(sizes), self._limits.bytes - self._bytes, side="right"))
        fits = min(by_bytes, self._limits.records - self._records)
        return 1 if fits <= 0 and not self._records else max(fits, 0)

    def flush(self) -> None:
        """Sends the batch as far as it is filled."""
        if not self._held or self.failure is not None:
            return
        batch = Batch.joined(self._held)
        sent = self._sender.deliver(batch)
        start = 0
        for piece in self._pieces:
            piece.of.status[piece.start : piece.start + piece.length] = sent.status[start : start + piece.length]
            for place in range(start, start + piece.length) if sent.refused else ():
                if place in sent.refused:
                    self._bury(piece.of, piece.start + place - start, batch, place, sent.refused[place])
            start += piece.length
        self.failure = sent.failure
        self._held, self._pieces, self._records, self._bytes = [], [], 0, 0

    def _too_large(self, size: int) -> Failure:
        error = f"the record has {size:,} bytes, more than the {self._limits.record_bytes:,} that a request may carry"
        return Failure(FailureKind.TOO_LARGE, error, "choose another shape, or mask long fields")

    def _bury(self, opened: _Open, row: int, batch: Batch, place: int, failure: Failure) -> None:
        opened.status[row] = REFUSED
        opened.letters.append(_dead_letter(batch, place, failure))

    def settled(self) -> Iterator[tuple[Part, Outcome]]:
        """Yields the parts of which each row is taken or refused; after a failure, all."""
        while self._opened:
            first = self._opened[0]
            in_hand = any(piece.of is first for piece in self._pieces)
            if self.failure is None and (in_hand or not first.cut):
                return
            self._opened.popleft()
            yield first.part, first.outcome(self.failure)


def _run_length(places: npt.NDArray[np.int64]) -> int:
    """How many of the places follow each other without a gap, from the first."""
    gaps = np.flatnonzero(np.diff(places) != 1)
    return int(gaps[0]) + 1 if len(gaps) else len(places)


def deliver_lane(
    parts: Iterable[tuple[Part, Selection]], stream: StreamDefinition, limits: Limits, sender: Sender
) -> Iterator[tuple[Part, Outcome]]:
    """Delivers the parts of a lane in order, and yields what became of each, in order.

    Batches reach over parts: only the last of a lane is not full. After a failure nothing more is read into batches,
    and what was not taken waits.
    """
    lane = _Lane(stream, limits, sender)
    for part, selection in parts:
        if lane.failure is not None:
            yield from lane.settled()
            yield part, Outcome(failure=lane.failure)
            continue
        lane.add(part, selection.rows)
        yield from lane.settled()
    lane.flush()
    yield from lane.settled()


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
