"""Deliver the parcels of many streams side by side: a thread for each (stream, shard); none waits for another."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.destinations import SecretError
from schemas.tables import TABLES
from transforms.deliver.destination import Destination, Receipt, StreamDefinition, keep, settle
from transforms.deliver.failures import Failure, FailureKind, SetupError
from transforms.deliver.parcels import Parcel
from transforms.deliver.parts import Part
from transforms.deliver.registry import DESTINATIONS
from transforms.deliver.selection import Selection
from transforms.gather.claims import batch_of, keep_claim

LANES_AT_ONCE = 64
"""Threads that deliver at a time. Each holds one batch and waits for an answer most of its time."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of the parcels of one part.

    Attributes:
      kind: kind of the cell's records.
      part: the part.
      receipt: its receipt.
    """

    kind: int
    part: Part
    receipt: Receipt


class Destinations:
    """The destinations of the streams within one worker, made and set up when first asked for.

    Args:
      streams: the stream definitions by name.
    """

    def __init__(self, streams: Mapping[str, StreamDefinition]):
        self._streams = streams
        self._made: dict[str, Destination[Any] | Failure] = {}
        self._locks = {name: threading.Lock() for name in streams}

    def of(self, name: str, again: bool = False) -> Destination[Any] | Failure:
        """The destination of a stream, or why it cannot be used; with `again` one that could not be is tried anew."""
        with self._locks[name]:  # of its own: a destination that takes long to set up holds back no other
            if name not in self._made or (again and isinstance(self._made[name], Failure)):
                self._made[name] = self._make(self._streams[name])
            return self._made[name]

    @staticmethod
    def _make(stream: StreamDefinition) -> Destination[Any] | Failure:
        destination = DESTINATIONS[stream.destination.type](stream.destination)
        try:
            destination.setup()
        except SecretError as error:
            remedy = "make the secret readable for the job, then deliver what is pending"
            return Failure(FailureKind.MISCONFIGURED, str(error), remedy)
        except SetupError as error:
            return error.failure
        return destination

    def close(self) -> None:
        """Close all that were made."""
        for destination in self._made.values():
            if not isinstance(destination, Failure):
                destination.close()
        self._made.clear()


class Lanes:
    """Parcels of a bundle by (stream, shard), and their delivery.

    Args:
      streams: the stream definitions by name.
      output: the run's output directory.
      writer: the run's writer.
      held: streams that are not to be delivered now, and why: what waits for them would be overtaken.
      directory: directory on this worker's disk for rows that travelled themselves, so that memory stays small.
    """

    def __init__(
        self,
        streams: Mapping[str, StreamDefinition],
        output: str,
        writer: str,
        held: Mapping[str, Failure],
        directory: str,
    ):
        self._streams, self._output, self._writer, self._held = streams, output, writer, held
        self._directory, self._numbers = directory, itertools.count()
        self._lanes: dict[tuple[str, int], list[Parcel]] = {}
        self._files: list[str] = []

    def add(self, parcel: Parcel) -> None:
        """Takes a parcel."""
        path = os.path.join(self._directory, f"parcel-{next(self._numbers):09d}.arrow")
        claim = keep_claim(parcel.claim, path)
        if claim is not parcel.claim:
            self._files.append(path)
            fields = {name: getattr(parcel, name) for name in Parcel.__struct_fields__}
            parcel = Parcel(**(fields | {"claim": claim}))
        self._lanes.setdefault((parcel.stream, parcel.shard), []).append(parcel)

    def deliver(self, destinations: Destinations) -> Iterator[Delivered]:
        """Delivers all that was added, the lanes side by side, and yields what became of each part.

        Raises:
          OSError: the run's own directory is at fault.
        """
        lanes, self._lanes = self._lanes, {}
        if not lanes:
            return
        # The first shard of every stream before the second of any: one that hangs does not get all threads.
        ordered = sorted(lanes, key=lambda lane: (lane[1], lane[0]))
        try:
            with ThreadPoolExecutor(min(len(lanes), LANES_AT_ONCE), "deliver") as pool:
                for delivered in pool.map(lambda lane: self._deliver(destinations, lane, lanes[lane]), ordered):
                    yield from delivered
        finally:
            for path in self._files:
                os.unlink(path)
            self._files.clear()

    def _deliver(self, destinations: Destinations, lane: tuple[str, int], parcels: Sequence[Parcel]) -> list[Delivered]:
        stream = self._streams[lane[0]]
        kind = parcels[0].kind
        failure = self._held.get(stream.name)
        destination = None
        if stream.state != "paused" and failure is None:
            found = destinations.of(stream.name)
            failure, destination = (found, None) if isinstance(found, Failure) else (None, found)
        if destination is None:
            parts = self._parts(parcels)
            return [Delivered(kind, part, keep(part, rows, self._output, failure)) for part, rows in parts]
        under_way: dict[Part, Selection] = {}

        def noted() -> Iterator[tuple[Part, Selection]]:
            for part, rows in self._parts(parcels):
                under_way[part] = rows
                yield part, rows

        return [
            Delivered(kind, part, settle(part, under_way.pop(part), outcome, stream, self._output))
            for part, outcome in destination.deliver_lane(noted(), stream, self._output)
        ]

    def _parts(self, parcels: Sequence[Parcel]) -> Iterator[tuple[Part, Selection]]:
        """The parts of a lane, in order, each with its rows; one is read at a time."""
        ordered = sorted(parcels, key=lambda parcel: parcel.turn)
        for part, pieces in itertools.groupby(ordered, key=lambda parcel: parcel.part(self._writer)):
            yield part, Selection(_rows(pieces))


def _rows(parcels: Iterable[Parcel]) -> pa.RecordBatch:
    batches = [batch_of(parcel.claim, TABLES[parcel.table].schema) for parcel in parcels]
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
