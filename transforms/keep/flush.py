"""A cell is flushed: what it kept becomes a part of each table, partial sums, and what streams store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from schemas.records import EVENTS_FEED, FEEDS
from schemas.streams import Stream
from schemas.tables import DEVICE_EVENTS_HOURLY, DEVICE_USAGE_HOURLY, TABLES
from transforms.aggregate import device_events, device_usage
from transforms.deduplicate.within import PANE_ROWS
from transforms.deliver.destination import keep
from transforms.deliver.failures import Failure
from transforms.deliver.lanes import Destinations
from transforms.deliver.parts import Part
from transforms.deliver.registry import DESTINATIONS
from transforms.deliver.selection import Selection
from transforms.deliver.warehouse import write_table_part
from transforms.gather.cells import Cell
from transforms.keep import rows as kept_rows
from transforms.keep.arrivals import file_entry, sends_at_once, spooled
from transforms.ledger.books import Books
from transforms.ledger.counts import Count, Entry, FileEntry, Flushed, Group, Kept
from transforms.route.router import Router
from transforms.run import Run


class Flushes:
    """Flushes the cells of one worker.

    Args:
      run: the run.
      streams: the stream definitions; those that send at once have had their records already.
    """

    def __init__(self, run: Run, streams: Sequence[Stream]):
        self._run = run
        self._streams = {stream.name: stream for stream in streams if not sends_at_once(stream)}
        self._destinations = Destinations(self._streams)
        self._router = Router(list(self._streams.values()))

    def close(self) -> None:
        """Closes the destinations."""
        self._destinations.close()

    def flush(self, cell: Cell, number: int, kept: Sequence[Kept]) -> list[Entry]:
        """Writes what a cell has kept, as one pane.

        Args:
          cell: the cell.
          number: number of the pane, used for no other.
          kept: what it kept; at most `PANE_ROWS` rows, or one slice.

        Returns:
          entries that count together. What was kept may be removed once they are committed.

        Raises:
          OSError: the run's own directory is at fault.
        """
        schema = TABLES[FEEDS[cell.kind]].schema
        batches = [kept_rows.take(one.path, schema) for one in kept]
        return [Flushed(cell.number, [one.number for one in kept]), *self.write(cell, number, batches)]

    def write(self, cell: Cell, number: int, batches: Sequence[pa.RecordBatch]) -> list[Entry]:
        """Writes rows of a cell as one pane; for the arguments see `flush`, which reads them from where they are kept.

        The same rows give the same files.
        """
        table = FEEDS[cell.kind]
        rows = with_pane(pa.concat_batches(batches) if len(batches) > 1 else batches[0], number)
        entries = list(self._write(cell, number, table, rows))
        if cell.kind == EVENTS_FEED:
            entries += self._write(cell, number, DEVICE_EVENTS_HOURLY.name, device_events(rows))
        else:
            entries += self._write(cell, number, DEVICE_USAGE_HOURLY.name, device_usage(rows))
        return entries

    def _write(self, cell: Cell, number: int, table: str, rows: pa.RecordBatch) -> Iterator[Entry]:
        run = self._run
        part = write_table_part(run.output, table, cell.hour, cell.bucket, run.writer, number, rows)
        yield FileEntry(table, cell.hour, part.path, rows.num_rows, part.bytes, part.checksum)
        for name, selection in self._router.route(table, rows).items():
            yield from self._store(cell, number, self._streams[name], table, rows.num_rows, selection)

    def _store(
        self, cell: Cell, number: int, stream: Stream, table: str, received: int, selection: Selection
    ) -> Iterator[Entry]:
        part = Part(stream.name, table, cell.hour, cell.bucket, self._run.writer, number)
        selected, delivered, pending = selection.num_rows, 0, 0
        if selected and DESTINATIONS[stream.destination.type].pushes(stream):
            destination = DESTINATIONS[stream.destination.type](stream.destination)
            yield from spooled(self._run, destination.lanes(part, selection.rows), part, selection)
            pending = selected
        elif selected:
            found = self._destinations.of(stream.name)
            if isinstance(found, Failure):
                receipt = keep(part, selection, self._run.output, found)
            else:
                receipt = found.store(part, selection, stream, self._run.output)
            delivered, pending = receipt.delivered, receipt.pending
            for file in receipt.files:
                yield file_entry(f"streams/{stream.name}", cell.hour, file)
            if receipt.spooled is not None:
                yield file_entry(f"pending/{stream.name}", cell.hour, receipt.spooled)
        yield Count(
            stage="stream", feed=FEEDS[cell.kind], stream=stream.name, hour=cell.hour, pane=0, unit=TABLES[table].unit,
            received=received, filtered_out=received - selected, delivered=delivered, pending=pending,
        )  # fmt: skip


def flush_cell(flushes: Flushes, books: Books, number: int) -> Iterator[Group]:
    """Flushes what a cell has kept and not flushed yet, pane by pane."""
    for kept in panes(books.kept(number)):
        pane = books.next_pane(number)
        yield Group(("flush", number, pane, 0), flushes.flush(Cell.of_number(number), pane, kept))


def panes(kept: Sequence[Kept]) -> Iterator[list[Kept]]:
    """What was kept, in panes of at most `PANE_ROWS` rows; a slice is never cut."""
    pane: list[Kept] = []
    rows = 0
    for one in kept:
        if pane and rows + one.rows > PANE_ROWS:
            yield pane
            pane, rows = [], 0
        pane.append(one)
        rows += one.rows
    if pane:
        yield pane


def with_pane(rows: pa.RecordBatch, number: int) -> pa.RecordBatch:
    """The same rows as those of another pane."""
    place = rows.schema.get_field_index("pane")
    column = pa.array([number] * rows.num_rows, rows.schema.field(place).type)
    return rows.set_column(place, rows.schema.field(place), column)
