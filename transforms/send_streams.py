"""Send the streams of a live job whose workers share no disk (Dataflow): a key of the runner for each (stream, shard).

What a shard gets waits in the runner's state until its batch is full, or until the stream's ``batch.seconds`` (an
archive's ``rotate_interval``), else ``max_delay``, have passed. Of what a destination writes together, as files of
archives, one part is made first, in a bundle of its own: a bundle that is repeated may see more, but what was tried
once is the same at every attempt. What cannot be delivered moves into the spool under the output directory, and a
reference stays in the state: it is tried again after a pause that grows, first and in order. No key waits for another.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
import msgspec
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow

from schemas.streams import Stream
from transforms.deliver import spool, storage
from transforms.deliver.consignments import Consignment, decode, encode, of_spooled
from transforms.deliver.courier import pause_after
from transforms.deliver.destination import Waits
from transforms.deliver.dispatch import FULL, Dispatch, Item, Result
from transforms.deliver.registry import waits_of
from transforms.gather_by_cell import KeyedBytes
from transforms.ledger.commit import listed_files
from transforms.ledger.counts import Group, StreamError, encode_group
from transforms.run import Live, Run

DEAD = "dead"

_NO_STREAM = Waits(None, 1 << 62)
"""What waits for a stream that the job does not define any more is not delivered, however much it is."""

_TURN = 8
"""Bytes in front of a consignment in the state: when it came (microseconds since 1970), and later than those before
it: a bag keeps no order.
"""


class _Lane(msgspec.Struct, array_like=True):
    """How a key stands: next turn, rows that wait, when its timer is due (0: not set), failures in a row, paths that
    were read from the ledger when the key was touched first: these are known, should they come by themselves too;
    and whether the job is drained.
    """

    next: int = 0
    rows: int = 0
    due: float = 0.0
    attempts: int = 0
    taken_up: list[str] = []
    ended: bool = False


_encoder, _lanes = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_Lane)


class _Send(beam.DoFn):
    """Consignments of a shard → groups of entries, and dead letters."""

    WAITING = BagStateSpec("waiting", BytesCoder())
    LANE = ReadModifyWriteStateSpec("lane", BytesCoder())
    DUE = TimerSpec("due", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def __init__(self, run: Run, streams: Sequence[Stream]):
        self._run = run
        self._streams = {stream.name: stream for stream in streams}
        self._waits = {stream.name: waits_of(stream) for stream in streams}

    def setup(self) -> None:
        self._dispatch = Dispatch(self._run, self._streams, self._waits)

    def teardown(self) -> None:
        self._dispatch.close()

    def process(
        self,
        element: KeyedBytes,
        waiting: Any = beam.DoFn.StateParam(WAITING),
        state: Any = beam.DoFn.StateParam(LANE),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
    ) -> None:
        one = decode(element[1])
        data = state.read()
        if data:
            lane = _lanes.decode(data)
        else:
            lane = self._begin(one, waiting)
            end.set(GlobalWindow().max_timestamp())
        path = storage.relative(self._run.output, spool.path_of(self._run.output, one.part(self._run.writer)))
        if one.claim is not None or path not in lane.taken_up:
            _add(waiting, lane, one)
        now = time.time()
        seconds, rows = self._waits.get(one.stream, _NO_STREAM)
        full = lane.rows >= (rows or FULL)
        if not lane.due:
            lane.due = now if full else now + (self._live.max_delay if seconds is None else seconds)
            due.set(lane.due)
        elif full and not lane.attempts and lane.due > now:
            lane.due = now
            due.set(lane.due)
        state.write(_encoder.encode(lane))

    @on_timer(DUE)
    def on_due(
        self,
        waiting: Any = beam.DoFn.StateParam(WAITING),
        state: Any = beam.DoFn.StateParam(LANE),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[object]:
        lane = _lanes.decode(state.read())
        lane.due = 0.0
        left, results = self._deliver(waiting, lane)
        for result in results:
            yield from self._reported(result)
        if self._again(results) and not lane.ended:
            now = time.time()
            lane.due = max(self._due(lane, result, now) for result in results)
            due.set(lane.due)
        _replace(waiting, lane, left)
        state.write(_encoder.encode(lane))

    @on_timer(END)
    def on_end(
        self,
        waiting: Any = beam.DoFn.StateParam(WAITING),
        state: Any = beam.DoFn.StateParam(LANE),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[object]:
        """The job is drained: delivers what can be delivered, and leaves the rest in the spool."""
        lane = _lanes.decode(state.read())
        lane.ended = True  # a timer that is under way must not set itself again: the drain would wait for it
        if lane.due:
            due.clear()
            lane.due = 0.0
        results: list[Result] = []
        while True:
            left, latest = self._deliver(waiting, lane)
            _replace(waiting, lane, left)
            results += latest
            if not self._again(latest) or any(result.failure is not None for result in latest):
                break
        for result in results:
            yield from self._reported(result)
        state.write(_encoder.encode(lane))

    @property
    def _live(self) -> Live:
        assert self._run.live is not None
        return self._run.live

    def _begin(self, one: Consignment, waiting: Any) -> _Lane:
        """A key that is touched for the first time: what an earlier job of the same name left in the spool is first."""
        lane = _Lane()
        name = f"{spool.DIRECTORY}/{one.stream}"
        files = [file for file in listed_files(self._run.output, self._run.writer) if file.table_or_stream == name]
        for file in sorted(files, key=lambda file: (file.hour or 0, file.path)):
            old = of_spooled(file, self._run.output)
            if old is not None and old.shard == one.shard:
                _add(waiting, lane, old)
                lane.taken_up.append(file.path)
        return lane

    @staticmethod
    def _due(lane: _Lane, result: Result, now: float) -> float:
        """When what is left of a delivery is to be tried again."""
        return max(now, result.again) if result.failure is None else now + pause_after(lane.attempts, result.failure)

    def _again(self, results: Sequence[Result]) -> bool:
        """Whether anything is left that is to be tried again, and not only once the job is changed."""
        return any(
            result.left and (stream := self._streams.get(result.left[0][1].stream)) is not None
            and stream.state != "paused"
            for result in results
        )  # fmt: skip

    def _deliver(self, waiting: Any, lane: _Lane) -> tuple[list[Item], list[Result]]:
        """Delivers what waits for a key, in order; returns what is left, and what became of the rest."""
        items = sorted(((data[:_TURN], decode(data[_TURN:])) for data in waiting.read()), key=lambda item: item[0])
        # Two lanes share a key only where two hashes of 63 bits meet.
        lanes: dict[tuple[str, int], list[Item]] = {}
        for item in items:
            lanes.setdefault((item[1].stream, item[1].shard), []).append(item)
        results = [self._dispatch.deliver(name, own) for (name, _), own in sorted(lanes.items())]
        if any(result.failure is not None for result in results):
            lane.attempts = 1 if any(result.progress for result in results) else lane.attempts + 1
        else:
            lane.attempts = 0
        return list(itertools.chain.from_iterable(result.left for result in results)), results

    @staticmethod
    def _reported(result: Result) -> Iterator[object]:
        entries = list(result.entries)
        if result.failure is not None and result.left:
            entries.append(StreamError(result.left[0][1].stream, result.failure.error, result.failure.remedy))
        if entries:
            yield encode_group(Group(("deliver", 0, 0, 0), entries))
        for claim in result.dead:
            yield beam.pvalue.TaggedOutput(DEAD, (0, claim))


def _add(waiting: Any, lane: _Lane, one: Consignment) -> None:
    turn = max(lane.next, int(time.time() * 1e6))
    waiting.add(turn.to_bytes(_TURN) + encode(one))
    lane.next = turn + 1
    lane.rows += one.row_count


def _replace(waiting: Any, lane: _Lane, left: Sequence[Item]) -> None:
    waiting.clear()
    for turn, one in left:
        waiting.add(turn + encode(one))
    lane.rows = sum(one.row_count for _, one in left)


class Sent(NamedTuple):
    """Groups of entries, and dead letters KV<0, claim> of records that destinations refused."""

    entries: beam.PCollection[bytes]
    dead: beam.PCollection[KeyedBytes]


@dataclass
class SendStreams(beam.PTransform):
    """Delivers the consignments KV<key of (stream, shard), bytes> of all streams.

    At least once: a repeated attempt sends the same records under the same ids, by which receivers drop repeats; in
    order within a shard.

    Attributes:
      run: the run.
      streams: the stream definitions; secrets in them are references that the workers resolve.
    """

    run: Run
    streams: Sequence[Stream]

    def expand(self, consignments: beam.PCollection[KeyedBytes]) -> Sent:
        """One step, with state by (stream, shard)."""
        sent = consignments | "Send" >> beam.ParDo(_Send(self.run, self.streams)).with_outputs(DEAD, main="entries")
        sent.entries.element_type = bytes
        sent[DEAD].element_type = beam.typehints.Tuple[int, bytes]
        return Sent(sent.entries, sent[DEAD])
