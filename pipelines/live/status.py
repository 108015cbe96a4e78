"""How a live job stands: measured in its process, kept in a file for the command ``status``."""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipelines.live.workplace import Workplace
from transforms.deliver import storage
from transforms.deliver.destination import StreamDefinition
from transforms.deliver.failures import Failure
from transforms.deliver.registry import waits_of
from transforms.ledger.counts import FEED, Count

FILE = "status.json"
"""Name of the file in the directory of the live job."""

RATE_SECONDS = 10.0
"""Span over which rates are measured, and after which a lag is one no more."""

SLOW_SECONDS = 5.0
"""Seconds above the longest delay from which on a stream whose records wait is pending."""

RUNNING, DRAINING, STOPPED = "running", "draining", "stopped"
"""States of a job."""


class StreamStatus(msgspec.Struct, frozen=True):
    """How a stream stands.

    Attributes:
      name: the stream.
      state: Running; Paused; Error: its destination fails; Pending: its records wait although nothing fails.
      reason: why its destination fails, and what mends that; None where it does not.
      delivered: records, or rows of sums, that were delivered since the writer began.
      dead_letters: records that the destination refused.
      filtered_out: records that the filter left out.
      pending: records that wait.
      oldest_seconds: how long the first of them has waited in this process; None where none waits.
      rate: records delivered a second.
    """

    name: str
    state: str
    reason: str | None
    delivered: int
    dead_letters: int
    filtered_out: int
    pending: int
    oldest_seconds: float | None
    rate: float


class Status(msgspec.Struct, frozen=True):
    """How a live job stands.

    Attributes:
      writer: its name.
      process: its process id.
      state: running, draining or stopped.
      started: when the process began (seconds since 1970, UTC).
      updated: when this was measured.
      received: items of all feeds since the writer began.
      dead_letters: those of them that are no records.
      duplicates: records that were there already.
      rate_in: items received a second.
      rate_out: records delivered a second, to all streams.
      segments: entries of the journal that are not done.
      segment_bytes: their bytes, unpacked.
      cells: cells with rows that are in no part yet.
      ids: ids held, to know duplicates by.
      lag: seconds from a message's publication until its records are kept; 0 where none has come for a while.
      source: by subscription, what is wrong with it at present.
      streams: the streams in the order of their file.
    """

    writer: str
    process: int
    state: str
    started: float
    updated: float
    received: int
    dead_letters: int
    duplicates: int
    rate_in: float
    rate_out: float
    segments: int
    segment_bytes: int
    cells: int
    ids: int
    source: dict[str, str]
    streams: list[StreamStatus]
    lag: float = 0.0


class _Sums(NamedTuple):
    at: float
    received: int
    settled: dict[str, int]


class Meter:
    """Measures a live job; for one thread.

    Args:
      place: where it works.
    """

    def __init__(self, place: Workplace):
        assert place.run.live is not None
        self._place, self._live = place, place.run.live
        self._started = time.time()
        self._past: deque[_Sums] = deque()

    def read(self, state: str | None = None) -> Status:
        """Returns how the job stands now.

        Args:
          state: its state; None: running, or draining if it is.
        """
        place, counts = self._place, self._place.books.counts
        received, dead, duplicates = _feed_sums(counts)
        streams = self._streams(counts)
        rates = self._rates(received, {stream.name: stream.delivered + stream.dead_letters for stream in streams})
        segments, segment_bytes = place.journal.unfinished
        lag, since = place.desk.lag
        return Status(
            writer=place.run.writer, process=os.getpid(),
            state=state or (DRAINING if place.desk.draining else RUNNING), started=self._started, updated=time.time(),
            received=received, dead_letters=dead, duplicates=duplicates, rate_in=rates[0],
            rate_out=round(sum(rates[1].values()), 1),
            segments=segments, segment_bytes=segment_bytes, cells=len(place.books.cells_with_kept_rows),
            ids=sum(list(place.desk.ids.values())),
            source={name: one.failure for name, one in list(place.desk.subscribers.items()) if one.failure is not None},
            streams=[msgspec.structs.replace(stream, rate=rates[1][stream.name]) for stream in streams],
            lag=round(lag, 3) if time.monotonic() < since + RATE_SECONDS else 0.0,
        )  # fmt: skip

    def write(self, status: Status) -> None:
        """Keeps how the job stands, for `read_statuses`."""
        path = self._place.directory / FILE
        storage.publish(str(path), msgspec.json.format(msgspec.json.encode(status), indent=1))

    def _streams(self, counts: list[Count]) -> list[StreamStatus]:
        sums: dict[str, list[int]] = {stream.name: [0, 0, 0, 0] for stream in self._place.job.streams}
        for count in counts:
            if count.stream in sums:
                values = (count.delivered, count.dead_lettered, count.filtered_out, count.pending)
                sums[count.stream] = [total + value for total, value in zip(sums[count.stream], values, strict=True)]
        standing, oldest = self._place.courier.standing(), self._place.courier.oldest()
        found = []
        for stream in self._place.job.streams:
            delivered, dead, filtered, pending = sums[stream.name]
            failure = standing.get(stream.name, (0, None))[1]
            age = oldest.get(stream.name)
            state = self._state(stream, failure, age)
            reason = f"{failure.error}; {failure.remedy}" if failure is not None and state == "Error" else None
            found.append(
                StreamStatus(stream.name, state, reason, delivered, dead, filtered, pending, age and round(age, 1), 0.0)
            )
        return found

    def _state(self, stream: StreamDefinition, failure: Failure | None, age: float | None) -> str:
        if stream.state == "paused":
            return "Paused"
        if failure is not None:
            return "Error"
        seconds = waits_of(stream).seconds
        delay = self._live.max_delay if seconds is None else seconds
        return "Pending" if age is not None and age > delay + SLOW_SECONDS else "Running"

    def _rates(self, received: int, settled: dict[str, int]) -> tuple[float, dict[str, float]]:
        now = time.monotonic()
        self._past.append(_Sums(now, received, settled))
        while len(self._past) > 2 and now - self._past[1].at >= RATE_SECONDS:
            self._past.popleft()
        first = self._past[0]
        seconds = now - first.at
        if seconds <= 0:
            return 0.0, dict.fromkeys(settled, 0.0)
        out = {name: round((value - first.settled[name]) / seconds, 1) for name, value in settled.items()}
        return round((received - first.received) / seconds, 1), out


def read_statuses(output: str | os.PathLike[str]) -> list[Status]:
    """Returns how the live jobs of an output directory stand, or stood when they last said so, by name.

    Raises:
      msgspec.DecodeError: a file was changed.
    """
    return [
        msgspec.json.decode(path.read_bytes(), type=Status) for path in sorted(Path(output).glob(f".live/*/{FILE}"))
    ]


def _feed_sums(counts: list[Count]) -> tuple[int, int, int]:
    """Received, dead letters, duplicates."""
    received = dead = duplicates = 0
    for count in counts:
        if count.stage == FEED:
            received += count.received
            dead += count.dead_lettered
        elif count.stage == "cell":
            duplicates += count.duplicates
    return received, dead, duplicates
