"""A slice arrives: what of it is new is classified, kept for the flush, and handed to the streams that send at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from schemas.records import EVENTS_FEED, FEEDS, HOUR, ID_COLUMN
from schemas.streams import Stream
from schemas.tables import TABLES
from transforms.classify import event_rows, usage_rows
from transforms.deduplicate.seen import SeenIds
from transforms.deduplicate.within import NO_IDS, NO_LOSERS, judge
from transforms.deliver import spool
from transforms.deliver.parts import Part
from transforms.deliver.push.pushed import PushedDestination
from transforms.deliver.registry import DESTINATIONS
from transforms.deliver.selection import Selection
from transforms.deliver.storage import StoredFile
from transforms.gather.cells import Cell, column_int64, record_times
from transforms.keep import rows as kept_rows
from transforms.ledger import metrics
from transforms.ledger.counts import Count, Entry, FileEntry, Kept
from transforms.route.router import Router
from transforms.run import Run

_AHEAD = HOUR
"""Microseconds that a record's time may lie ahead without being counted apart."""


def count_ahead(cell: Cell, batch: pa.RecordBatch, keep: np.ndarray, now: int) -> int:
    """How many new records of a slice lie more than an hour ahead; they are counted apart, by a metric, and delivered.

    Args:
      cell: its cell.
      batch: its records.
      keep: mask of those that are new.
      now: microseconds since 1970.
    """
    latest = now + _AHEAD
    if cell.hour + HOUR <= latest:
        return 0
    ahead = int((record_times(batch, cell.kind)[keep] > latest).sum())
    metrics.count_ahead(ahead)
    return ahead


def note_lag(batch: pa.RecordBatch) -> float:
    """Seconds since the first message of a slice was published: how far behind its subscription the job is. It is a
    metric, too.
    """
    lag = time.time() - int(column_int64(batch.column("ingest_time")).min()) / 1e6
    metrics.observe_lag(lag)
    return lag


def sends_at_once(stream: Stream) -> bool:
    """Whether a stream gets records as they arrive: those that send requests, of records and not of sums."""
    return stream.content in FEEDS and issubclass(DESTINATIONS[stream.destination.type], PushedDestination)


class Arrivals:
    """Takes the slices of all cells within one worker.

    Args:
      run: the run.
      streams: the stream definitions; those that do not send at once are left to the flush.
    """

    def __init__(self, run: Run, streams: Sequence[Stream]):
        self._run = run
        self._streams = {stream.name: stream for stream in streams if sends_at_once(stream)}
        self._destinations = {
            name: DESTINATIONS[stream.destination.type](stream.destination) for name, stream in self._streams.items()
        }
        self._router = Router(list(self._streams.values()))

    def take(self, cell: Cell, number: int, batch: pa.RecordBatch, seen: SeenIds) -> tuple[list[Entry], np.ndarray]:
        """Takes a slice.

        Args:
          cell: its cell.
          number: running number of the slice in its cell: it names what is written.
          batch: its records, in the record schema of the cell's kind.
          seen: ids of the cell that came before.

        Returns:
          entries that count together, and a mask of the records that are new; the caller adds their ids to `seen`.

        Raises:
          OSError: the run's own directory is at fault.
        """
        count, keep = self.new(cell, batch, seen)
        entries: list[Entry] = [count]
        if count.delivered:
            entries += self._keep(cell, number, self.rows(cell, number, batch, keep))
        return entries, keep

    def new(self, cell: Cell, batch: pa.RecordBatch, seen: SeenIds) -> tuple[Count, np.ndarray]:
        """What of a slice is new: its count, and a mask of the records."""
        verdict = judge([batch], cell.kind, NO_IDS, NO_LOSERS)
        ids = column_int64(batch.column(ID_COLUMN[cell.kind]))
        keep = verdict.keep & ~seen.contains(ids)
        new = int(keep.sum())
        count = Count(
            stage="cell", feed=FEEDS[cell.kind], hour=cell.hour, pane=0, received=len(ids),
            duplicates=len(ids) - new, delivered=new,
        )  # fmt: skip
        return count, keep

    def rows(self, cell: Cell, number: int, batch: pa.RecordBatch, keep: np.ndarray) -> pa.RecordBatch:
        """Records that are new, classified: rows of the kind's table."""
        batch = batch if keep.all() else batch.filter(pa.array(keep))
        if cell.kind == EVENTS_FEED:
            return event_rows(batch, self._run.writer, number, self._run.reasons)
        return usage_rows(batch, self._run.writer, number)

    def routed(
        self, cell: Cell, number: int, rows: pa.RecordBatch
    ) -> Iterator[tuple[Count, Part, Selection, np.ndarray]]:
        """What each stream that sends at once takes of rows: its count, the part, the rows, and the shard of each."""
        table = FEEDS[cell.kind]
        for name, selection in self._router.route(table, rows).items():
            received, selected = rows.num_rows, selection.num_rows
            count = Count(
                stage="stream", feed=table, stream=name, hour=cell.hour, pane=0, unit=TABLES[table].unit,
                received=received, filtered_out=received - selected, pending=selected,
            )  # fmt: skip
            part = Part(name, table, cell.hour, cell.bucket, self._run.writer, number)
            lanes = self._destinations[name].lanes(part, selection.rows) if selected else np.empty(0, np.int64)
            yield count, part, selection, lanes

    def _keep(self, cell: Cell, number: int, rows: pa.RecordBatch) -> Iterator[Entry]:
        run, live = self._run, self._run.live
        assert live is not None
        path = kept_rows.path_of(live.directory, cell.number, number)
        kept_rows.put(path, rows)
        yield Kept(cell.number, number, path, rows.num_rows)
        for count, part, selection, lanes in self.routed(cell, number, rows):
            yield count
            if selection.num_rows:
                yield from spooled(run, lanes, part, selection)


def spooled(run: Run, lanes: np.ndarray, part: Part, selection: Selection) -> Iterator[FileEntry]:
    """Puts the rows of a part into the spool, each shard's into its own; yields the files."""
    for shard in np.unique(lanes).tolist():
        rows = selection.rows if (lanes == shard).all() else selection.rows.filter(pa.array(lanes == shard))
        own = Part(part.stream, part.table, part.hour, part.bucket, part.writer, part.pane, shard)
        yield file_entry(f"pending/{part.stream}", part.hour, spool.put(run.output, own, rows))


def file_entry(name: str, hour: int, file: StoredFile) -> FileEntry:
    """The entry of a file of a stream: ``streams/<name>`` or ``pending/<name>``."""
    return FileEntry(name, hour, file.path, int(file.row_count or 0), file.bytes, file.checksum)
