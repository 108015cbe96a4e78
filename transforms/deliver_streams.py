"""Deliver the streams: each destination type has its branch, and reports what became of every record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam

from schemas.records import FEEDS
from schemas.streams import Stream
from schemas.tables import TABLES
from transforms.dead_letters import dead_letter_batch
from transforms.deliver.destination import Destination, Receipt
from transforms.deliver.parts import Part
from transforms.deliver.registry import DESTINATIONS
from transforms.elements import Routed
from transforms.gather.claims import Spill
from transforms.gather_by_cell import KeyedBytes
from transforms.ledger.counts import Count, Entry, FileEntry, StreamError, encode
from transforms.run import Run

DEAD = "dead"


class Deliveries(NamedTuple):
    """Ledger entries of the streams, and dead letters KV<0, claim> of records that destinations refused."""

    entries: beam.PCollection[bytes]
    dead: beam.PCollection[KeyedBytes]


class _Deliver(beam.DoFn):
    def __init__(self, run: Run, streams: Sequence[Stream]):
        self._run = run
        self._streams = {stream.name: stream for stream in streams}

    def setup(self) -> None:
        self._destinations: dict[str, Destination] = {}

    def teardown(self) -> None:
        for destination in self._destinations.values():
            destination.close()

    def process(self, element: Routed) -> Iterator[object]:
        stream = self._streams[element.stream]
        cell = element.cell
        part = Part(stream.name, element.table, cell.hour, cell.bucket, self._run.writer, element.number)
        receipt = self._destination(stream).store(part, element.selection, stream, self._run.output)
        for entry in _entries(element, receipt):
            yield encode(entry)
        if receipt.dead_letters:
            letters = dead_letter_batch(receipt.dead_letters, self._run.writer, self._run.dead)
            for claim in Spill(None, 0, 0).deposit_pieces(letters):
                yield beam.pvalue.TaggedOutput(DEAD, (0, claim))

    def _destination(self, stream: Stream) -> Destination:
        if stream.name not in self._destinations:
            destination = DESTINATIONS[stream.destination.type](stream.destination)
            destination.setup()
            self._destinations[stream.name] = destination
        return self._destinations[stream.name]


def _entries(pane: Routed, receipt: Receipt) -> Iterator[Entry]:
    name, hour = pane.stream, pane.cell.hour
    yield Count(
        stage="stream", feed=FEEDS[pane.cell.kind], stream=name, hour=hour, pane=pane.number,
        unit=TABLES[pane.table].unit, received=pane.received, filtered_out=pane.received - pane.selection.num_rows,
        delivered=receipt.delivered, dead_lettered=len(receipt.dead_letters), pending=receipt.pending,
    )  # fmt: skip
    for file in (*receipt.files, receipt.spooled):
        if file is not None:
            directory = "pending" if file is receipt.spooled else "streams"
            yield FileEntry(f"{directory}/{name}", hour, file.path, int(file.row_count or 0), file.bytes, file.checksum)
    if receipt.error is not None:
        yield StreamError(name, receipt.error, receipt.remedy)


@dataclass
class DeliverStreams(beam.PTransform):
    """Delivers routed panes, one branch per registered destination type, used or not.

    Every record is delivered, a dead letter, or pending in the spool; a destination at fault holds back no other
    stream, and a fault of the run's own directory fails the run. Delivered again (retried bundle, second run), a part
    replaces its files.

    Attributes:
      run: the run.
      streams: the stream definitions; secrets in them are references that the workers resolve.
    """

    run: Run
    streams: Sequence[Stream]

    def expand(self, branches: dict[str, beam.PCollection[Routed]]) -> Deliveries:
        """Delivers each branch, and flattens what they report."""
        streams = list(self.streams)
        delivered = [
            branches[kind] | f"To {kind}" >> beam.ParDo(_Deliver(self.run, streams)).with_outputs(DEAD, main="entries")
            for kind in sorted(DESTINATIONS)
        ]
        for outputs in delivered:
            outputs.entries.element_type = bytes
            outputs[DEAD].element_type = beam.typehints.Tuple[int, bytes]
        return Deliveries(
            tuple(outputs.entries for outputs in delivered) | "Entries" >> beam.Flatten(),
            tuple(outputs[DEAD] for outputs in delivered) | "Dead" >> beam.Flatten(),
        )
