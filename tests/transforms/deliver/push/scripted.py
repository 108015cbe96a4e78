"""A receiver that answers what it is told to, and a clock that only moves when somebody waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from unittest import mock

import pyarrow as pa

from tests.transforms.deliver.support import Stream, part_of, rows_of
from transforms.deliver.answer import Answer
from transforms.deliver.destination import Outcome
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.parts import Part
from transforms.deliver.push import lane
from transforms.deliver.push.batch import Batch, Limits
from transforms.deliver.push.breaker import CircuitBreaker
from transforms.deliver.push.lane import deliver_lane
from transforms.deliver.push.options import Rate, Retry
from transforms.deliver.push.pace import Pace
from transforms.deliver.push.sender import Sender
from transforms.deliver.selection import Selection
from transforms.deliver.shapes import json_lines

BUSY = Failure(FailureKind.TRANSIENT, "the receiver answers 503", "wait")
DENIED = Failure(FailureKind.MISCONFIGURED, "the receiver answers 401", "correct the credentials")
REFUSED = Failure(FailureKind.REJECTED, "the receiver answers 400", "see what it says")
TOO_LARGE = Failure(FailureKind.TOO_LARGE, "the receiver answers 413", "send less")

WIDE = Limits(1_000, 10_000_000, 1_000_000)


class Clock:
    """A clock; `sleep` moves it on."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Request:
    """One request: the ids of its records, its bytes, when it came, and the ids of which were taken."""

    ids: list[int]
    sizes: list[int]
    at: float
    taken: list[int] = field(default_factory=list)


class Receiver:
    """Answers the first requests by a script, the others with success, and writes down what it took.

    Args:
      clock: moved on by `takes` seconds at each request.
      script: what to answer to the first requests.
      decide: what to answer after that; None: success.
    """

    def __init__(
        self,
        clock: Clock,
        script: Iterable[Answer | Callable[[list[int]], Answer]] = (),
        decide: Callable[[list[int]], Answer] = lambda ids: Answer(),
        takes: float = 0.01,
    ) -> None:
        self._clock, self._script, self._decide, self._takes = clock, iter(script), decide, takes
        self.requests: list[Request] = []

    def send(self, batch: Batch) -> Answer:
        ids = [int(str(number)) for number in batch.column("usage_id")]
        self.requests.append(request := Request(ids, batch.texts.str.len_bytes().to_list(), self._clock()))
        self._clock.now += self._takes
        scripted = next(self._script, self._decide)
        answer = scripted(ids) if callable(scripted) else scripted
        if answer.failure is None:
            request.taken = [number for place, number in enumerate(ids) if place not in answer.failures]
        return answer

    @property
    def taken(self) -> list[int]:
        """Ids of all records that were taken, in order."""
        return [number for request in self.requests for number in request.taken]


def sender_to(
    receiver: Receiver, clock: Clock, retry: Retry | None = None, rate: Rate | None = None, until: float | None = None
) -> Sender:
    """A sender of a lane of its own, on the clock."""
    pace = Pace(rate or Rate(), clock)
    return Sender(receiver.send, retry or Retry(), CircuitBreaker(clock), pace, until, clock, clock.sleep)


def batch_of(rows: pa.RecordBatch, stream: Stream | None = None) -> Batch:
    """Rows of usage as a batch."""
    return Batch(stream or Stream(), "usage", rows, json_lines("table", "usage", rows))


_ROW = rows_of("usage", {})


def usage(ids: Sequence[int], longer: Sequence[int] = ()) -> pa.RecordBatch:
    """Rows of usage with these ids; some have so many bytes more."""
    lengths = [*longer, *[0] * (len(ids) - len(longer))]
    own = {
        "usage_id": pa.array(ids, pa.int64()),
        "tags": pa.array(["x" * more for more in lengths], pa.string()),
        "endpoint_id": pa.array([number % 5 for number in ids], pa.int64()),
    }
    rows = _ROW.take(pa.array([0] * len(ids), pa.int64()))
    columns = [own.get(field.name, rows.column(field.name)) for field in rows.schema]
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def numbered_parts(sizes: Sequence[int]) -> list[tuple[Part, pa.RecordBatch]]:
    """Parts of so many rows; their ids go on from part to part."""
    parts, first = [], 1
    for pane, size in enumerate(sizes):
        parts.append((part_of(pane=pane), usage(range(first, first + size))))
        first += size
    return parts


def deliver(
    parts: Iterable[tuple[Part, pa.RecordBatch]], sender: Sender, limits: Limits = WIDE, ahead: bool = False
) -> list[tuple[Part, Outcome]]:
    """Delivers parts as one lane, which makes the next batch while a request is under way, or does not."""
    with mock.patch.object(lane, "AHEAD", 1 if ahead else limits.records + 1):
        return list(deliver_lane(((part, Selection(rows)) for part, rows in parts), Stream(), limits, sender))


def ids_of(rows: pa.RecordBatch) -> list[int]:
    return rows.column("usage_id").to_pylist()
