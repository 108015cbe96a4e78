"""Where a live job's process keeps what all its steps share: one desk for each output directory."""

from __future__ import annotations

import threading

from transforms.ledger.books import Books
from transforms.run import Run


class Desk:
    """What the steps of a live job share within the process.

    Attributes:
      books: its books.
      draining: whether the job is about to stop: cells are flushed at their next look.
    """

    def __init__(self, books: Books):
        self.books = books
        self.draining = False


_desks: dict[str, Desk] = {}
_lock = threading.Lock()


def open_desk(run: Run, books: Books) -> Desk:
    """Opens the desk of a run; the launching process does, which is the worker as well."""
    with _lock:
        desk = _desks[run.output] = Desk(books)
        return desk


def desk_of(run: Run) -> Desk:
    """The desk of a run.

    Raises:
      RuntimeError: this process has none: it did not launch the job.
    """
    with _lock:
        if run.output not in _desks:
            raise RuntimeError(
                f"no live job of {run.output} in this process: its worker has to be the launching process"
            )
        return _desks[run.output]


def close_desk(run: Run) -> None:
    """Forgets the desk of a run."""
    with _lock:
        _desks.pop(run.output, None)
