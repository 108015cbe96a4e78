"""Send the streams of a live job whose workers share no disk (Dataflow): a key of the runner for each (stream, shard).

What a shard gets waits in the runner's state until its batch is full, or until the stream's ``batch.seconds`` (an
archive's ``rotate_interval``), else ``max_delay``, have passed. Of what a destination writes together, as files of
archives, one part is made first, in a bundle of its own: a bundle that is repeated may see more, but what was tried
once is the same at every attempt. What cannot be delivered moves into the spool under the output directory, and a
reference stays in the state: it is tried again after a pause that grows, first and in order. No key waits for another.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
import msgspec
import pyarrow as pa
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow

from schemas.records import FEEDS
from schemas.streams import Stream
from schemas.tables import DEVICE_USAGE_HOURLY, TABLES, USAGE
from transforms.dead_letters import dead_letter_batch
from transforms.deliver import spool, storage
from transforms.deliver.consignments import Consignment, decode, encode, of_spooled
from transforms.deliver.courier import pause_after
from transforms.deliver.destination import Destination, Outcome, Waits
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.joining import join
from transforms.deliver.lanes import Destinations
from transforms.deliver.parts import Part
from transforms.deliver.registry import waits_of
from transforms.deliver.selection import Selection
from transforms.gather.claims import Spill
from transforms.gather_by_cell import KeyedBytes
from transforms.keep.arrivals import file_entry
from transforms.ledger.commit import listed_files
from transforms.ledger.counts import Count, Entry, Group, StreamError, Unlisted, encode_group
from transforms.run import Live, Run

DEAD = "dead"

SECONDS_AT_ONCE = 10.0
"""Seconds after which a delivery tries nothing more: a worker serves many keys with few threads."""

PARTS_AT_ONCE = 256
"""Parts that are taken for one delivery: their rows fill several batches."""

FULL = 1_000
"""Records from which on a delivery is due where the stream does not say how large its batches are."""

_NO_STREAM = Waits(None, 1 << 62)
"""What waits for a stream that the job does not define any more is not delivered, however much it is."""

_TURN = 8
"""Bytes in front of a consignment in the state: the order of arrival, which a bag does not keep."""


class _Lane(msgspec.Struct, array_like=True):
    """How a key stands: next turn, rows that wait, when its timer is due (0: not set), failures in a row, paths that
    were read from the ledger when the key was touched first: these are known, should they come by themselves too;
    whether the job is drained, and since when the first that is not joined waits (0: nothing does).
    """

    next: int = 0
    rows: int = 0
    due: float = 0.0
    attempts: int = 0
    taken_up: list[str] = []
    ended: bool = False
    since: float = 0.0


_Item = tuple[bytes, Consignment]
"""What waits for a key: its turn, and itself."""

_encoder, _lanes = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_Lane)


@dataclass(slots=True)
class _Result:
    """What a delivery came to: entries of the ledger, dead letters, what is left, and why; from when on (seconds since
    1970) it is due again, if nothing failed.
    """

    entries: list[Entry]
    dead: list[bytes]
    left: list[_Item]
    failure: Failure | None = None
    progress: bool = False
    again: float = 0.0


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
        self._destinations = Destinations(self._streams)

    def teardown(self) -> None:
        self._destinations.close()

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
        path = self._path(one.part(self._run.writer))
        if one.claim is not None or path not in lane.taken_up:
            _add(waiting, lane, one)
        now = time.time()
        lane.since = lane.since or now
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
        results: list[_Result] = []
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
    def _due(lane: _Lane, result: _Result, now: float) -> float:
        """When what is left of a delivery is to be tried again."""
        return max(now, result.again) if result.failure is None else now + pause_after(lane.attempts, result.failure)

    def _again(self, results: Sequence[_Result]) -> bool:
        """Whether anything is left that is to be tried again, and not only once the job is changed."""
        return any(
            result.left and (stream := self._streams.get(result.left[0][1].stream)) is not None
            and stream.state != "paused"
            for result in results
        )  # fmt: skip

    def _deliver(self, waiting: Any, lane: _Lane) -> tuple[list[_Item], list[_Result]]:
        """Delivers what waits for a key, in order; returns what is left, and what became of the rest."""
        items = sorted(((data[:_TURN], decode(data[_TURN:])) for data in waiting.read()), key=lambda item: item[0])
        # Two lanes share a key only where two hashes of 63 bits meet.
        lanes: dict[tuple[str, int], list[_Item]] = {}
        for item in items:
            lanes.setdefault((item[1].stream, item[1].shard), []).append(item)
        results = [self._deliver_lane(name, lane, own) for (name, _), own in sorted(lanes.items())]
        if any(result.failure is not None for result in results):
            lane.attempts = 1 if any(result.progress for result in results) else lane.attempts + 1
        else:
            lane.attempts = 0
        return list(itertools.chain.from_iterable(result.left for result in results)), results

    def _deliver_lane(self, name: str, lane: _Lane, items: Sequence[_Item]) -> _Result:
        stream = self._streams.get(name)
        result = _Result([], [], [])
        if stream is None:
            error = f"records wait for stream {name}, which the job does not define any more"
            result.failure = Failure(FailureKind.MISCONFIGURED, error, f"define {name} again, and update the job")
        if stream is None or stream.state == "paused":
            result.left = [self._spooled(item, result) for item in items]
            return result
        destination = self._destinations.of(name)
        if isinstance(destination, Failure):
            result.failure = destination
            result.left = [self._spooled(item, result) for item in items]
            return result
        now, rest = self._taken(stream, destination, lane, items, result)
        self._push(stream, destination, now, result)
        result.left += rest if result.failure is None else [self._spooled(item, result) for item in rest]
        return result

    def _taken(
        self, stream: Stream, destination: Destination[Any], lane: _Lane, items: Sequence[_Item], result: _Result
    ) -> tuple[Sequence[_Item], Sequence[_Item]]:
        """What is delivered now, and what is not. Where the destination writes parts together, it is what was joined
        before; else those that are next are joined, and nothing is delivered yet.
        """
        joined = [item for item in items if item[1].rest]
        fresh = [item for item in items if not item[1].rest]
        waiting = [(one.part(self._run.writer), one.row_count) for _, one in fresh[:PARTS_AT_ONCE]]
        if not any(destination.joins(part) is not None for part, _ in waiting):
            return items[:PARTS_AT_ONCE], items[PARTS_AT_ONCE:]
        seconds, most = self._waits[stream.name]
        if joined:
            if len(joined) <= PARTS_AT_ONCE and sum(one.row_count for _, one in fresh) < (most or FULL):
                result.again = lane.since + (self._live.max_delay if seconds is None else seconds)
            return joined[:PARTS_AT_ONCE], [*joined[PARTS_AT_ONCE:], *fresh]
        # All of it is in the spool: streams of such destinations do not send at once.
        found = join(destination, waiting, most, self._run.output)
        assert found is not None
        taken, groups = found
        lane.since = time.time() if taken < len(fresh) else 0.0
        for one in groups:
            turn, first = fresh[one.first]
            joined.append((turn, first.spooled(one.part.rest, one.row_count)))
            result.entries += one.entries
        return [], [*joined, *fresh[taken:]]

    def _push(self, stream: Stream, destination: Destination[Any], items: Sequence[_Item], result: _Result) -> None:
        output, writer = self._run.output, self._run.writer
        taken: dict[Part, tuple[_Item, pa.RecordBatch]] = {}

        def parts() -> Iterator[tuple[Part, Selection]]:
            for item in items:
                part, rows = item[1].rows(output, writer)
                taken[part] = item, rows
                yield part, Selection(rows)

        until = time.monotonic() + SECONDS_AT_ONCE
        for part, outcome in destination.deliver_lane(parts(), stream, output, until):
            item, rows = taken.pop(part)
            self._settle(part, item, rows, outcome, result)

    def _settle(self, part: Part, item: _Item, rows: pa.RecordBatch, outcome: Outcome, result: _Result) -> None:
        """Notes what became of a part."""
        settled = outcome.delivered + len(outcome.dead_letters)
        result.progress |= settled > 0
        result.failure = result.failure or outcome.failure
        if settled:
            kind = 1 if part.table in (USAGE.name, DEVICE_USAGE_HOURLY.name) else 0
            result.entries.append(
                Count(
                    stage="stream", feed=FEEDS[kind], stream=part.stream, hour=part.hour, pane=0,
                    unit=TABLES[part.table].unit, delivered=outcome.delivered,
                    dead_lettered=len(outcome.dead_letters), pending=-settled,
                )
            )  # fmt: skip
            result.entries += [file_entry(f"streams/{part.stream}", part.hour, file) for file in outcome.files]
        if outcome.dead_letters:
            letters = dead_letter_batch(outcome.dead_letters, self._run.writer, self._run.dead)
            result.dead += Spill(None, 0, 0).deposit_pieces(letters)
        in_spool = item[1].claim is None
        if outcome.failure is None:
            if in_spool:
                result.entries.append(Unlisted(self._path(part)))
        elif in_spool and not settled:
            result.left.append(item)
        else:
            rest = rows if outcome.rest is None else outcome.rest
            left = dataclasses.replace(part, rest=part.rest + in_spool)
            if in_spool:
                result.entries.append(Unlisted(self._path(part)))
            result.left.append((item[0], self._put(left, item[1], rest, result)))

    def _spooled(self, item: _Item, result: _Result) -> _Item:
        """What waits, waiting in the spool."""
        turn, one = item
        if one.claim is None:
            return item
        part, rows = one.rows(self._run.output, self._run.writer)
        return turn, self._put(part, one, rows, result)

    def _put(self, part: Part, one: Consignment, rows: pa.RecordBatch, result: _Result) -> Consignment:
        stored = spool.put(self._run.output, part, rows)
        result.entries.append(file_entry(f"{spool.DIRECTORY}/{part.stream}", part.hour, stored))
        return one.spooled(part.rest, rows.num_rows)

    def _path(self, part: Part) -> str:
        return storage.relative(self._run.output, spool.path_of(self._run.output, part))

    @staticmethod
    def _reported(result: _Result) -> Iterator[object]:
        entries = list(result.entries)
        if result.failure is not None and result.left:
            entries.append(StreamError(result.left[0][1].stream, result.failure.error, result.failure.remedy))
        if entries:
            yield encode_group(Group(("deliver", 0, 0, 0), entries))
        for claim in result.dead:
            yield beam.pvalue.TaggedOutput(DEAD, (0, claim))


def _add(waiting: Any, lane: _Lane, one: Consignment) -> None:
    waiting.add(lane.next.to_bytes(_TURN) + encode(one))
    lane.next += 1
    lane.rows += one.row_count


def _replace(waiting: Any, lane: _Lane, left: Sequence[_Item]) -> None:
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
