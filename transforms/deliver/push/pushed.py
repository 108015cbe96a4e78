"""The base of destinations that push."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from typing import ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.deliver.answer import Answer
from transforms.deliver.destination import Destination, Kind, Outcome, StreamDefinition
from transforms.deliver.parts import Part
from transforms.deliver.push.batch import Batch, Limits
from transforms.deliver.push.breaker import CircuitBreaker
from transforms.deliver.push.identity import shards_of
from transforms.deliver.push.lane import deliver_lane
from transforms.deliver.push.options import PushOptions
from transforms.deliver.push.pace import Pace
from transforms.deliver.push.sender import Sender
from transforms.deliver.selection import Selection
from transforms.deliver.shapes import json_lines

Options = TypeVar("Options", bound=PushOptions)


class PushedDestination(Destination[Options], abc.ABC):
    """A destination that sends batches of JSON records. A subclass writes `limits` and `send`; batches, retries,
    halving, the circuit breaker, the pace, dead letters and what waits are here.

    Guarantee: at least once, in order within a shard. A retried bundle, a second run and a delivery from the spool send
    the same records under the same ids (`Batch.ids`), by which a receiver drops repeats.
    """

    kind: ClassVar[Kind] = Kind.PUSHED
    recountable: ClassVar[bool] = False

    def __init__(self, options: Options):
        super().__init__(options)
        self._breaker = CircuitBreaker()
        # For all deliveries of a lane, one after another; with a rate there is only one lane.
        self._pace = Pace(options.rate)

    @classmethod
    def validate(cls, stream: StreamDefinition) -> list[str]:
        """A format that is no JSON."""
        if stream.format not in ("ndjson", "json"):
            return [f"sends JSON: format {stream.format} is for files; leave format out, or use ndjson"]
        return []

    @abc.abstractmethod
    def limits(self, stream: StreamDefinition) -> Limits:
        """How much one request may carry."""

    @abc.abstractmethod
    def send(self, batch: Batch) -> Answer:
        """One attempt, which returns within a bounded time. Faults of the target are part of the answer, not raised."""

    def prepare(self, batch: Batch) -> object:
        """What `send` will need and can be made before, such as the text of a request: made, where batches are large,
        while the request before is under way, and kept in `Batch.prepared`. `send` must do without it too.
        """
        del batch
        return None

    def lanes(self, part: Part, rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
        """The shard of each row, by its device."""
        del part
        return shards_of(rows, self.options.shards)

    def deliver_lane(
        self,
        parts: Iterable[tuple[Part, Selection]],
        stream: StreamDefinition,
        output: str,
        until: float | None = None,
    ) -> Iterator[tuple[Part, Outcome]]:
        """Deliver the parts of one shard, in order; yields what became of each."""
        del output
        sender = Sender(self.send, self.options.retry, self._breaker, self._pace, until)
        return deliver_lane(parts, stream, self.limits(stream), sender, self.prepare)

    def deliver(self, part: Part, rows: Selection, stream: StreamDefinition, output: str) -> Outcome:
        """Deliver one part by itself."""
        ((_, outcome),) = self.deliver_lane([(part, rows)], stream, output)
        return outcome

    def try_out(self, part: Part, rows: pa.RecordBatch, stream: StreamDefinition, output: str) -> Answer:
        """One attempt at one sample record."""
        del output
        return self.send(Batch(stream, part.table, rows, json_lines(stream.shape, part.table, rows)))
