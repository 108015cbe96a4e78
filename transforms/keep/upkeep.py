"""The upkeep of a live job's cells on one machine: those that are due are flushed, those whose time is over closed.

A thread of the process looks after all cells, not timers of the runner: each timer would be a bundle, and late records
keep a hundred cells open.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.streams import Stream
from transforms.gather.cells import Cell
from transforms.keep.closing import closes_at
from transforms.keep.flush import Flushes, flush_cell
from transforms.ledger.counts import Flushed
from transforms.ledger.desk import Desk, OpenCell
from transforms.run import Run


class Upkeep:
    """Looks after the cells at a desk; one thread does.

    Args:
      run: the run; it is live.
      streams: the stream definitions.
      desk: the run's desk.
    """

    def __init__(self, run: Run, streams: Sequence[Stream], desk: Desk):
        assert run.live is not None
        self._desk, self._close_after = desk, run.live.close_after
        self._flushes = Flushes(run, streams)

    def close(self) -> None:
        """Closes the destinations."""
        self._flushes.close()

    def look(self) -> None:
        """Looks at each open cell once. While the job drains nothing is done: who launched it flushes what is left.

        Raises:
          OSError: the run's own directory is at fault.
        """
        for number, known in list(self._desk.cells.items()):
            if self._desk.draining:
                return
            if known.due is not None and self._desk.clock() >= known.due:
                self._flush(number, known)
            self._close(number, known)

    def flush(self, number: int) -> set[int]:
        """Flushes what a cell has kept, and returns the numbers of the slices that it was."""
        books = self._desk.books
        groups = [group for group in flush_cell(self._flushes, books, number) if books.commit(group)]
        books.sync()
        return {
            done for group in groups for entry in group.entries if isinstance(entry, Flushed) for done in entry.numbers
        }

    def _flush(self, number: int, known: OpenCell) -> None:
        with known.lock:
            newest, known.due = known.newest, None
        # Without the lock: slices that come meanwhile do not wait.
        flushed = self.flush(number)
        with known.lock:
            if newest not in flushed and known.due is None:
                known.due = self._desk.clock()  # it is on its way to the books

    def _close(self, number: int, known: OpenCell) -> None:
        with known.lock:
            now = self._desk.clock()
            if known.due is None and self._desk.books.kept(number):
                known.due = now  # a slice that has come into the books behind a later one
            over = now >= closes_at(Cell.of_number(number), known.last, self._close_after)
            if over and known.due is None and not known.closed:
                # What comes later finds the ids in the warehouse.
                self._desk.close_cell(number)
