"""Read subscriptions: messages of Pub/Sub in, blocks of raw records out.

On Dataflow by Beam's own source, which only that runner has made fast and durable; elsewhere by a splittable DoFn that
keeps what it takes in a journal before it acknowledges it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import xxhash
from apache_beam.io.gcp.pubsub import PubsubMessage, ReadFromPubSub
from apache_beam.io.iobase import RestrictionTracker
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.metrics import Metrics
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import GlobalWindows, TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from schemas.records import FEEDS
from transforms.elements import Block
from transforms.ledger.desk import Desk, desk_of
from transforms.read.journal import numbered
from transforms.read.known import message_keys
from transforms.read.messages import message_blocks
from transforms.read.raw import BLOCK_BYTES
from transforms.read.subscriber import Received, Subscriber
from transforms.run import Run

MOST_MESSAGES = 20_000
"""Messages of a gathering: under a backlog the size of bundles decides the speed."""

LINGER, LONGEST_LINGER, LINGER_OF_AGE = 0.02, 0.25, 0.1
"""Seconds that a gathering waits for more behind its first message: a bundle costs about as much, whatever its size.
Where messages have waited for long (a backlog), a tenth of their age more matters less than that; within limits.
"""

_IDLE = 1.0
"""Seconds that a gathering waits for its first message: bundles without output cost as well."""

_LOOK = 0.1
"""Seconds between two looks whether the job is to stop, or there is room."""

_LAST_PULLS = 3.0
"""Seconds that pulls under way have to come back when the job is to stop; what they bring later comes again."""

UNFINISHED_SEGMENTS, UNFINISHED_BYTES = 64, 256 << 20
"""Segments under way from which on nothing more is taken, or their bytes: the runner itself holds nothing back."""

_END = (1 << 62) - 1


class _Tracker(OffsetRestrictionTracker):
    """Gatherings, numbered, without an end. It can be left off, but not divided: there is one subscription."""

    def try_split(self, fraction_of_remainder: float) -> tuple[OffsetRange, OffsetRange] | None:
        return super().try_split(0) if fraction_of_remainder == 0 else None

    def is_bounded(self) -> bool:
        return False


class _Gatherings(RestrictionProvider):
    def initial_restriction(self, element: bytes) -> OffsetRange:
        return OffsetRange(0, _END)

    def create_tracker(self, restriction: OffsetRange) -> RestrictionTracker:
        return _Tracker(restriction)

    def restriction_size(self, element: bytes, restriction: OffsetRange) -> int:
        return 1


class _Watermark(beam.transforms.core.WatermarkEstimatorProvider):
    def initial_estimator_state(self, element: bytes, restriction: OffsetRange) -> Timestamp:
        return Timestamp.now()

    def create_watermark_estimator(self, estimator_state: Timestamp) -> ManualWatermarkEstimator:
        return ManualWatermarkEstimator(estimator_state)


_TRACKER = beam.DoFn.RestrictionParam(_Gatherings())
_WATERMARK = beam.DoFn.WatermarkEstimatorParam(_Watermark())


def linger_of(age: float) -> float:
    """Seconds that the next gathering waits for more, where the messages of the last one were so many seconds old."""
    return min(max(LINGER, LINGER_OF_AGE * age), LONGEST_LINGER)


class _Source:
    """The subscriptions of a job, as read by its process, which has its journal."""

    def __init__(self, run: Run, desk: Desk):
        if desk.journal is None:
            raise RuntimeError(f"the live job of {run.output} has no journal: open its desk with one")
        assert run.live is not None
        self._desk, self._journal, self._dead = desk, desk.journal, run.dead
        self._linger = LINGER
        self._subscribers = [(feed, desk.subscriber(name)) for feed, name in run.live.subscriptions]

    def gathering(self, count: Callable[[int], None]) -> Iterator[Block]:
        """Yields a segment that is to be replayed, or blocks of what comes; none if nothing does for a while."""
        replayed = next(self._journal.replay(), None)
        if replayed is not None:
            yield replayed
            return
        for _ in range(round(_IDLE / _LOOK)):
            if self._desk.draining:
                return
            if self._is_full():
                time.sleep(_LOOK)
            elif self._has_news():
                yield from self._taken(count)
                return

    def rest(self, count: Callable[[int], None]) -> Iterator[Block]:
        """Yields blocks of all that was pulled, and pulls no more."""
        for _, subscriber in self._subscribers:
            subscriber.stop()
        yield from self._journal.replay()
        until = time.monotonic() + _LAST_PULLS
        while True:
            # Asked first: what a pull brought before it ended is taken.
            pulling = any(subscriber.is_pulling for _, subscriber in self._subscribers)
            more = pulling and time.monotonic() < until
            blocks = list(self._taken(count))
            yield from blocks
            if not blocks and not more:
                break
            if not blocks:
                time.sleep(_LOOK)
        for _, subscriber in self._subscribers:
            subscriber.close()

    def _is_full(self) -> bool:
        segments, size = self._journal.unfinished
        return segments >= UNFINISHED_SEGMENTS or size >= UNFINISHED_BYTES

    def _has_news(self) -> bool:
        """Waits a little for messages of any subscription, and behind the first for more; whether some came."""
        every = [subscriber for _, subscriber in self._subscribers]
        with self._desk.arrived:
            if not self._desk.arrived.wait_for(lambda: any(one.has_news() for one in every), _LOOK):
                return False
            self._desk.received = time.monotonic()
            self._desk.arrived.wait_for(
                lambda: any(one.is_filled(MOST_MESSAGES, BLOCK_BYTES) for one in every), self._linger
            )
            return True

    def _taken(self, count: Callable[[int], None]) -> Iterator[Block]:
        """Blocks of what came."""
        for feed, subscriber in self._subscribers:
            received = subscriber.take(MOST_MESSAGES, BLOCK_BYTES, 0, 0)
            if received:
                count(len(received))
                self._linger = linger_of(time.time() - received[0].published / 1e6)
                yield from self._keep(feed, subscriber, received)

    def _keep(self, feed: int, subscriber: Subscriber, received: Sequence[Received]) -> Iterator[Block]:
        """Blocks of messages, which are acknowledged as they get into the journal; it does not take what it knows."""
        keys = message_keys(subscriber.subscription, received)
        unknown = self._journal.unknown(keys)
        fresh, keys = [received[place] for place in unknown], keys[unknown]
        messages = ((message.data, message.published) for message in fresh)
        known = kept = 0
        for block in message_blocks(feed, subscriber.subscription, messages, self._dead):
            blocks = self._journal.append(block.raw, keys[known : block.messages], block.is_cut)
            known = block.messages
            if not block.is_cut:
                subscriber.acknowledge([message.ack_id for message in fresh[kept:known]])
                kept = known
            yield from blocks
        if len(fresh) < len(received):
            # Only now: of two that came together, one has just been kept.
            again = sorted(set(range(len(received))) - set(unknown))
            subscriber.acknowledge([received[place].ack_id for place in again])


class _Gather(beam.DoFn):
    """An impulse → the blocks of all subscriptions, a gathering in each bundle: it costs as much, whatever is in it."""

    def __init__(self, run: Run):
        self._run = run

    def setup(self) -> None:
        self._desk = desk_of(self._run)
        self._source = _Source(self._run, self._desk)

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: bytes,
        tracker: Any = _TRACKER,
        watermark: Any = _WATERMARK,
    ) -> Iterator[TimestampedValue]:
        tracker.try_claim(tracker.current_restriction().start)
        # The time of arrival: that of the records themselves decides about cells, not about windows.
        now = max(Timestamp.now(), watermark.current_watermark())
        watermark.set_watermark(now)
        for block in self._source.gathering(_count):
            yield TimestampedValue(block, now)
        if self._desk.draining:
            for block in self._source.rest(_count):
                yield TimestampedValue(block, now)
            tracker.try_claim(_END)
        else:
            tracker.defer_remainder(Duration(0))


def _count(messages: int) -> None:
    Metrics.counter("source", "messages").inc(messages)
    Metrics.distribution("source", "messages_in_bundle").update(messages)


class _GatherBundle(beam.DoFn):
    """Messages of Beam's own source → blocks of those that come in one bundle."""

    def __init__(self, run: Run, feed: int, subscription: str):
        self._run, self._feed, self._subscription = run, feed, subscription

    def start_bundle(self) -> None:
        self._messages: list[tuple[bytes, int]] = []
        self._bytes = self._blocks = 0
        self._first = b""

    def process(self, element: PubsubMessage, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[Block]:
        if not self._messages:
            self._first, self._timestamp = str(element.message_id).encode(), timestamp
        published = element.publish_time or timestamp.to_utc_datetime(has_tz=True)
        self._messages.append((element.data, round(published.timestamp() * 1e6)))
        self._bytes += len(element.data)
        if self._bytes >= BLOCK_BYTES or len(self._messages) >= MOST_MESSAGES:
            yield from self._gathered()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for block in self._gathered():
            yield GlobalWindows.windowed_value(block, self._timestamp)

    def _gathered(self) -> Iterator[Block]:
        if not self._messages:
            return
        _count(len(self._messages))
        # Of its first message: a number that no other bundle has, whichever worker has it.
        plan = xxhash.xxh32_intdigest(self._first)
        blocks = message_blocks(self._feed, self._subscription, self._messages, self._run.dead)
        for number, block in enumerate(blocks):
            yield Block(plan, number, numbered(block.raw, plan))
        self._messages, self._bytes = [], 0


@dataclass
class ReadSubscriptions(beam.PTransform):
    """Root transform: yields the blocks of the subscriptions of a live job; unbounded.

    Each message is in a block once, and in the same block again after a restart; one that comes again is known by its
    id (see `transforms.read.journal`; on Dataflow Beam's source does that). Elements have the time of their arrival.

    On this machine the worker has to be the process that has opened the run's desk; the flag `draining` of the desk
    ends the source: what was pulled is handed on, and nothing more.

    Attributes:
      run: the run; `run.live` says which subscriptions.
    """

    run: Run

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[Block]:
        """Beam's own source where workers share no disk (Dataflow), else the one with a journal."""
        assert self.run.live is not None
        if self.run.spill is not None:
            return begin | beam.Impulse() | "Gather" >> beam.ParDo(_Gather(self.run)).with_output_types(Block)
        return [
            begin | f"{FEEDS[feed].title()}{number}" >> _ReadSubscription(self.run, feed, subscription)
            for number, (feed, subscription) in enumerate(self.run.live.subscriptions)
        ] | "Blocks" >> beam.Flatten()


@dataclass
class _ReadSubscription(beam.PTransform):
    """Beam's own source of one subscription, and blocks of its messages."""

    run: Run
    feed: int
    subscription: str

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[Block]:
        gather_bundle = _GatherBundle(self.run, self.feed, self.subscription)
        return (
            begin
            | "Read" >> ReadFromPubSub(subscription=self.subscription, with_attributes=True)
            | "GatherBundle" >> beam.ParDo(gather_bundle).with_output_types(Block)
        )
