"""Where a live job works: its journal, books, spool and kept rows, taken up again as the last process left them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.job import Job
from pipelines.lock import RUNNING
from schemas.records import FEEDS
from transforms.deliver import storage
from transforms.deliver.courier import Courier
from transforms.gather.cells import Cell
from transforms.keep import rows as kept_rows
from transforms.keep.arrivals import sends_at_once
from transforms.keep.compact import compact
from transforms.keep.letters import merge_dead_letters
from transforms.keep.upkeep import Upkeep
from transforms.ledger.books import Books
from transforms.ledger.commit import commit, publish
from transforms.ledger.counts import Entry, Kept, StreamError
from transforms.ledger.desk import Desk, close_desk, open_desk
from transforms.ledger.in_flight import InFlight
from transforms.memory import give_back
from transforms.read.journal import Journal
from transforms.run import Live

SPILL = "spill"
"""Directory of the spill files of segments that are not done."""


class Workplace:
    """What a live job has on this machine while it runs; what a process that was killed has left is settled first.

    Attributes:
      job: the job, with its spill directory.
      books: what counts.
      journal: what was acknowledged and does not count yet.
      courier: who delivers.
      desk: what the steps share.
      upkeep: who flushes and closes cells.
    """

    def __init__(self, job: Job):
        live = _live(job)
        self.job = job.with_run(spill=os.path.join(live.directory, SPILL))
        self.run = self.job.run
        self.directory = Path(live.directory)
        for directory in (SPILL, kept_rows.DIRECTORY):
            (self.directory / directory).mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.directory / "journal")
        self.books = Books(self.directory / "books", self._forget, live.close_after)
        self.desk: Desk = open_desk(self.run, self.books, self.journal)
        self.upkeep = Upkeep(self.run, job.streams, self.desk)
        self._publishing = threading.Lock()
        self._recover()
        # Only now: what it takes later, it is told of; what is there already, by `Courier.resume`.
        self.courier = Courier(self.run, job.streams, self.books, live.max_delay, lambda: self.desk.received)

    def _recover(self) -> None:
        """Settles what a process that was killed has left: flushes rows, publishes, removes what does not count."""
        self.flush()
        self._commit([])
        for directory in ("warehouse", "streams", "pending", os.path.relpath(self.directory, self.run.output)):
            storage.sweep_temporary(storage.join(self.run.output, directory))
        kept = {kept.path for cell in self.books.cells_with_kept_rows for kept in self.books.kept(cell)}
        storage.remove_stale(str(self.directory / kept_rows.DIRECTORY), lambda path: True, kept)
        # What is replayed is decoded again.
        storage.remove_stale(str(self.directory / SPILL), lambda path: True, ())

    def flush(self) -> None:
        """Flushes all cells; nobody else may meanwhile."""
        for cell in self.books.cells_with_kept_rows:
            self.upkeep.flush(cell)

    def publish(self) -> None:
        """Merges the parts of closed cells, and small ones of dead letters; publishes the ledger, and then removes the
        files that it lists no more.
        """
        with self._publishing:
            compact(self.run, self.books, self.job.streams, self._goes_on)
            merge_dead_letters(self.run, self.books, self._goes_on)
            settled = self.books.settled()
            entries = settled.entries + self._errors()
            publish(self.run, self.job.stream_facts, self.job.streams, entries, self._in_flight(settled.kept))
            for path in settled.obsolete:
                storage.remove(storage.absolute(self.run.output, path))
            self.books.review(self.journal.alive)
        give_back()  # merging holds a cell's rows, and the ledger all entries

    def finish(self) -> None:
        """Publishes the ledger for the last time, sweeps, and says that the job has ended in order."""
        self._commit(self._errors())
        self.upkeep.close()
        self.books.close()
        self.journal.close()
        if not self.books.cells_with_kept_rows:
            (self.directory / RUNNING).unlink()

    def _goes_on(self) -> bool:
        return not self.desk.draining

    def _commit(self, errors: list[Entry]) -> None:
        with self._publishing:
            settled = self.books.settled()
            commit(self.run, self.job.stream_facts, self.job.streams, settled.entries + errors)
            for path in settled.obsolete:
                storage.remove(storage.absolute(self.run.output, path))

    def _errors(self) -> list[Entry]:
        """Why streams fail at present."""
        standing = self.courier.standing().items()
        return [
            StreamError(name, failure.error, failure.remedy) for name, (_, failure) in standing if failure is not None
        ]

    def _in_flight(self, kept: Sequence[Kept]) -> InFlight:
        """What is counted and in no part yet, for whoever audits while the job runs."""
        rows: dict[str, dict[int, int]] = {feed: {} for feed in FEEDS}
        for one in kept:
            cell = Cell.of_number(one.cell)
            of_feed = rows[FEEDS[cell.kind]]
            of_feed[cell.hour] = of_feed.get(cell.hour, 0) + one.rows
        at_once = [stream.name for stream in self.job.streams if sends_at_once(stream)]
        return InFlight(rows, at_once)

    def _forget(self, segment: int) -> None:
        """A segment is done: its messages, and its slices, are not needed any more."""
        self.journal.done(segment)
        path = self.run.spill_path(segment, 0)
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


@contextmanager
def opened(job: Job) -> Iterator[Workplace]:
    """The workplace of a job, of which the caller holds the output directory's lock."""
    directory = Path(_live(job).directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / RUNNING).touch()
    place = Workplace(job)
    try:
        yield place
    finally:
        close_desk(place.run)


def _live(job: Job) -> Live:
    assert job.run.live is not None
    return job.run.live
