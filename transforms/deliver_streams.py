"""Deliver the streams, and report what became of every record.

Each type that stores has a branch, and is served by cell, where the cell's rows are. What is pushed over a network goes
through one shuffle on (stream, shard) into one step, whatever the type: there every stream has threads of its own, and
none waits for the receiver of another.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from schemas.records import FEEDS
from schemas.streams import Stream
from schemas.tables import TABLES
from transforms.dead_letters import DeadLetter, dead_letter_batch
from transforms.deliver import parcels
from transforms.deliver.destination import Receipt, keep
from transforms.deliver.failures import Failure
from transforms.deliver.lanes import Destinations, Lanes
from transforms.deliver.parcels import Parcel
from transforms.deliver.parts import Part
from transforms.deliver.push.identity import key_of
from transforms.deliver.registry import DESTINATIONS, STORED
from transforms.elements import Routed
from transforms.gather.claims import Spill
from transforms.gather_by_cell import KeyedBytes
from transforms.ledger.counts import Count, Entry, FileEntry, StreamError, encode
from transforms.route_streams import PUSHED
from transforms.run import Run

DEAD, ENTRIES = "dead", "entries"

_TRAVELS = 256 << 10
"""Bytes of rows up to which they travel through the shuffle themselves, also where workers share a disk: a file for a
few rows costs more."""


class Deliveries(NamedTuple):
    """Ledger entries of the streams, and dead letters KV<0, claim> of records that destinations refused."""

    entries: beam.PCollection[bytes]
    dead: beam.PCollection[KeyedBytes]


class _Store(beam.DoFn):
    """Delivers what a stored stream takes of a pane."""

    def __init__(self, run: Run, streams: Sequence[Stream]):
        self._run = run
        self._streams = {stream.name: stream for stream in streams}

    def setup(self) -> None:
        self._destinations = Destinations(self._streams)

    def teardown(self) -> None:
        self._destinations.close()

    def process(self, element: Routed) -> Iterator[object]:
        stream = self._streams[element.stream]
        part = Part(
            stream.name, element.table, element.cell.hour, element.cell.bucket, self._run.writer, element.number
        )
        yield encode(_seen(element))
        if element.selection.num_rows:
            receipt = self._receipt(part, element, stream)
            yield from (encode(entry) for entry in _entries(element.cell.kind, part, receipt))
            for claim in _dead_claims(self._run, receipt.dead_letters):
                yield beam.pvalue.TaggedOutput(DEAD, (0, claim))

    def _receipt(self, part: Part, pane: Routed, stream: Stream) -> Receipt:
        destination = self._destinations.of(stream.name)
        if isinstance(destination, Failure):
            return keep(part, pane.selection, self._run.output, destination)
        return destination.store(part, pane.selection, stream, self._run.output)


class _Post(beam.DoFn):
    """Makes parcels KV<key of (stream, shard), parcel> of what a pushed stream takes of a pane."""

    def __init__(self, run: Run, streams: Sequence[Stream]):
        self._run = run
        self._streams = {stream.name: stream for stream in streams}

    def setup(self) -> None:
        self._destinations = {
            name: DESTINATIONS[stream.destination.type](stream.destination) for name, stream in self._streams.items()
        }

    def process(self, element: Routed) -> Iterator[object]:
        yield beam.pvalue.TaggedOutput(ENTRIES, encode(_seen(element)))
        if element.selection.num_rows:
            yield from self._parcels(element)

    def _parcels(self, pane: Routed) -> Iterator[tuple[int, bytes]]:
        name, cell, rows = pane.stream, pane.cell, pane.selection.rows
        part = Part(name, pane.table, cell.hour, cell.bucket, self._run.writer, pane.number)
        lanes = self._destinations[name].lanes(part, rows)
        path = (
            None
            if rows.nbytes <= _TRAVELS
            else self._run.parcel_path(name, cell.kind, cell.hour, cell.bucket, pane.number)
        )
        with Spill(path, 0, 0) as spill:
            for shard in np.unique(lanes).tolist():
                own = rows if (lanes == shard).all() else rows.filter(pa.array(lanes == shard))
                for piece, claim in enumerate(spill.deposit_pieces(own)):
                    parcel = Parcel(
                        name, pane.table, cell.kind, cell.hour, cell.bucket, pane.number, shard, piece, claim
                    )  # fmt: skip
                    yield key_of(name, shard), parcels.encode(parcel)


class _Push(beam.DoFn):
    """Delivers the parcels of a bundle, all of its streams and shards side by side.

    Nothing is delivered before the bundle ends: then each (stream, shard) gets its thread, and the bundle takes as long
    as the slowest of them, which retries bound. A repeated bundle sends the same records under the same ids.
    """

    def __init__(self, run: Run, streams: Sequence[Stream], held: Mapping[str, Failure]):
        self._run, self._held = run, held
        self._streams = {stream.name: stream for stream in streams}

    def setup(self) -> None:
        self._destinations = Destinations(self._streams)
        self._directory = tempfile.mkdtemp(prefix="data-streamer-parcels-")

    def teardown(self) -> None:
        self._destinations.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def start_bundle(self) -> None:
        self._lanes = Lanes(self._streams, self._run.output, self._run.writer, self._held, self._directory)

    def process(self, element: tuple[int, Iterable[bytes]]) -> None:
        for data in element[1]:
            self._lanes.add(parcels.decode(data))

    def finish_bundle(self) -> Iterator[object]:
        for delivered in self._lanes.deliver(self._destinations):
            for entry in _entries(delivered.kind, delivered.part, delivered.receipt):
                yield _global(encode(entry))
            for claim in _dead_claims(self._run, delivered.receipt.dead_letters):
                yield beam.pvalue.TaggedOutput(DEAD, _global((0, claim)))


def _global(value: object) -> WindowedValue:
    return GlobalWindows.windowed_value(value)


def _seen(pane: Routed) -> Count:
    """What a stream's filter saw of a pane, and left out."""
    return Count(
        stage="stream", feed=FEEDS[pane.cell.kind], stream=pane.stream, hour=pane.cell.hour, pane=pane.number,
        unit=TABLES[pane.table].unit, received=pane.received, filtered_out=pane.received - pane.selection.num_rows,
    )  # fmt: skip


def _entries(kind: int, part: Part, receipt: Receipt) -> Iterator[Entry]:
    """What became of a part."""
    name, hour = part.stream, part.hour
    yield Count(
        stage="stream", feed=FEEDS[kind], stream=name, hour=hour, pane=part.pane, unit=TABLES[part.table].unit,
        delivered=receipt.delivered, dead_lettered=len(receipt.dead_letters), pending=receipt.pending,
    )  # fmt: skip
    for file in (*receipt.files, receipt.spooled):
        if file is not None:
            directory = "pending" if file is receipt.spooled else "streams"
            yield FileEntry(f"{directory}/{name}", hour, file.path, int(file.row_count or 0), file.bytes, file.checksum)
    if receipt.error is not None:
        yield StreamError(name, receipt.error, receipt.remedy)


def _dead_claims(run: Run, letters: Sequence[DeadLetter]) -> Iterator[bytes]:
    if letters:
        yield from Spill(None, 0, 0).deposit_pieces(dead_letter_batch(letters, run.writer, run.dead))


@dataclass
class DeliverStreams(beam.PTransform):
    """Delivers routed panes: a branch per registered type that stores, used or not, and one for all that is pushed.

    Every record is delivered, a dead letter, or pending in the spool; a destination at fault holds back no other
    stream, and a fault of the run's own directory fails the run. Delivered again (retried bundle, second run), a part
    replaces its files, and pushed records keep their ids.

    Attributes:
      run: the run.
      streams: the stream definitions; secrets in them are references that the workers resolve.
      held: streams that are not delivered now, and why: their earlier records still wait, and must not be overtaken.
    """

    run: Run
    streams: Sequence[Stream]
    held: Mapping[str, Failure] = field(default_factory=dict)

    def expand(self, branches: dict[str, beam.PCollection[Routed]]) -> Deliveries:
        """Delivers each branch, and flattens what they report."""
        streams = list(self.streams)
        stored = [
            branches[kind] | f"To {kind}" >> beam.ParDo(_Store(self.run, streams)).with_outputs(DEAD, main=ENTRIES)
            for kind in STORED
        ]
        posted = branches[PUSHED] | "Post" >> beam.ParDo(_Post(self.run, streams)).with_outputs(ENTRIES, main="parcels")
        posted.parcels.element_type = beam.typehints.Tuple[int, bytes]
        posted[ENTRIES].element_type = bytes
        pushed = (
            posted.parcels
            | "Shuffle" >> beam.GroupByKey()
            | "Push" >> beam.ParDo(_Push(self.run, streams, dict(self.held))).with_outputs(DEAD, main=ENTRIES)
        )
        for outputs in (*stored, pushed):
            outputs[ENTRIES].element_type = bytes
            outputs[DEAD].element_type = beam.typehints.Tuple[int, bytes]
        entries = (*(outputs[ENTRIES] for outputs in (*stored, pushed)), posted[ENTRIES])
        return Deliveries(
            entries | "Entries" >> beam.Flatten(),
            tuple(outputs[DEAD] for outputs in (*stored, pushed)) | "Dead" >> beam.Flatten(),
        )
