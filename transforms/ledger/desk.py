"""Where a live job's process keeps what all its steps share: one desk for each output directory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from transforms.deduplicate.seen import SeenIds
from transforms.ledger.books import Books
from transforms.read.journal import Journal
from transforms.read.subscriber import Subscriber
from transforms.run import Run


@dataclass(slots=True)
class OpenCell:
    """What this process holds of a cell that is open.

    Attributes:
      last: when something last came (seconds since 1970).
      due: when it has to be flushed; None while there is nothing new.
      newest: number of the last slice with something new.
      seen: its ids.
      loaded: whether these are there that were committed before.
      closed: whether it is open no more.
      lock: held by whoever works on it.
    """

    last: float
    due: float | None = None
    newest: int = -1
    seen: SeenIds = field(default_factory=SeenIds)
    loaded: bool = False
    closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Desk:
    """What the steps of a live job share within the process.

    Attributes:
      books: its books.
      journal: what was received and does not count yet; a job that reads no subscription has none.
      subscribers: who reads the subscriptions, by their full names.
      arrived: notified when there is news of one of them.
      received: when the first of the messages came that are worked on, or were last (monotonic).
      cells: the open cells, by number.
      draining: whether the job is about to stop: who launched it flushes what is left then.
      ahead: records that were kept though their time lay more than an hour ahead.
      clock: seconds since 1970.
      lag: how far behind its subscription the job was last (seconds), and since when (monotonic).
    """

    def __init__(self, books: Books, journal: Journal | None = None, clock: Callable[[], float] = time.time):
        self.books, self.journal, self.clock = books, journal, clock
        self.subscribers: dict[str, Subscriber] = {}
        self.arrived = threading.Condition()
        self.received = time.monotonic()
        self.cells: dict[int, OpenCell] = {}
        self.ahead = 0
        self.lag = 0.0, float("-inf")
        self.draining = False
        self._lock = threading.Lock()

    @property
    def ids(self) -> dict[int, int]:
        """How many ids are held to know duplicates by, by the number of their cell."""
        return {number: len(cell.seen) for number, cell in list(self.cells.items())}

    def open_cell(self, number: int) -> OpenCell:
        """What is held of a cell; whoever works on it holds its lock."""
        with self._lock:
            if number not in self.cells:
                self.cells[number] = OpenCell(self.clock())
            return self.cells[number]

    def close_cell(self, number: int) -> None:
        """Forgets a cell, whose lock the caller holds."""
        with self._lock:
            self.cells.pop(number).closed = True

    def count_ahead(self, records: int) -> None:
        """Counts records whose time lies more than an hour ahead."""
        with self._lock:
            self.ahead += records

    def note_lag(self, seconds: float) -> None:
        """Keeps how far behind its subscription the job is, at this moment."""
        self.lag = seconds, time.monotonic()

    def subscriber(self, subscription: str) -> Subscriber:
        """Who reads a subscription, from the first time on that this is asked.

        Raises:
          MissingExtraError: Google's client is not installed.
          SubscriptionError: there are no credentials.
        """
        with self._lock:
            if subscription not in self.subscribers:
                self.subscribers[subscription] = Subscriber(subscription, changed=self.arrived)
            return self.subscribers[subscription]


_desks: dict[str, Desk] = {}
_lock = threading.Lock()


def open_desk(run: Run, books: Books, journal: Journal | None = None) -> Desk:
    """Opens the desk of a run; the launching process does, which is the worker as well.

    What the books know as done, the journal does not replay; what the journal has no more, the books forget.
    """
    if journal is not None:
        for segment in filter(books.is_done, sorted(journal.alive())):
            journal.done(segment)
        books.forgotten(journal.alive())
    with _lock:
        desk = _desks[run.output] = Desk(books, journal)
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
