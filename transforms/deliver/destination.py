"""What a destination is: one class that takes the parts of streams and says, as values, what became of them.

A destination of another type is one new file with a subclass of `Destination` (of
`transforms.deliver.push.pushed.PushedDestination`, if it sends requests), and one line in
`transforms.deliver.registry`. The subclass writes `deliver`, or `send`; pausing, spooling and counting are here.

Delivery guarantee of `Destination.store` and `settle`: each record of a part is delivered, a dead letter, or pending in
the spool, and the same part stored again leaves the same files. They raise only for faults of the run itself: then the
run fails.
"""

from __future__ import annotations

import abc
import enum
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.destinations import DestinationOptions
from transforms.deliver import spool, storage
from transforms.deliver.answer import Answer
from transforms.deliver.failures import Failure, FailureKind, of_remote_error
from transforms.deliver.parts import Part
from transforms.deliver.selection import Selection
from transforms.deliver.storage import StoredFile

if TYPE_CHECKING:
    from schemas.streams import Batch
    from transforms.dead_letters import DeadLetter

Options = TypeVar("Options", bound=DestinationOptions)


class StreamDefinition(Protocol):
    """What delivering needs to know of a stream (`schemas.streams.Stream` has it)."""

    @property
    def name(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def shape(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def destination(self) -> DestinationOptions: ...
    @property
    def batch(self) -> Batch: ...


class Waits(NamedTuple):
    """How long what a shard of a live job has waits for more to go with.

    Attributes:
      seconds: from when on it goes, however few records it is; None: as the job says (``--max_delay``).
      rows: records from which on it goes at once; None: as whoever delivers says.
    """

    seconds: float | None
    rows: int | None


class Kind(enum.Enum):
    """When a destination is served."""

    STORED = "stored"
    """By cell, where the cell's rows are: files, tables."""
    PUSHED = "pushed"
    """Behind a shuffle on (stream, shard), so that no stream waits for another's receiver."""


@dataclass(slots=True)
class Outcome:
    """What a destination did with rows.

    Attributes:
      delivered: records that it took.
      files: files that it published.
      dead_letters: records that it refused.
      failure: why it took no more; the rows that are left wait in the spool.
      rest: with a failure: the rows that are left, or None where it took none of them.
    """

    delivered: int = 0
    files: list[StoredFile] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    failure: Failure | None = None
    rest: pa.RecordBatch | None = None


@dataclass(slots=True)
class Receipt:
    """What became of a part: delivered + pending + dead letters = its rows.

    Attributes:
      delivered: records that the destination took.
      pending: records that wait in the spool.
      dead_letters: records that it refused.
      files: files that it published, paths as in the ledger.
      error: what is wrong with the destination, or None (a paused stream has none).
      remedy: what to do about the error.
      spooled: the spool's file, where records are pending.
    """

    delivered: int = 0
    pending: int = 0
    dead_letters: list[DeadLetter] = field(default_factory=list)
    files: list[StoredFile] = field(default_factory=list)
    error: str | None = None
    remedy: str | None = None
    spooled: StoredFile | None = None


class Destination(abc.ABC, Generic[Options]):
    """A type of destination; an instance serves the streams with the same options within one worker.

    Making an instance is cheap and touches nothing outside; `setup` does, on the worker. Subclasses set the class
    variables:

      options_model: the pydantic model of its options, whose ``type`` is its name in the registry.
      kind: whether it is served by cell or behind a shuffle.
      recountable: whether `audit` can count again what lies there, or only check receipts.
      extra: the extra of this package that brings its client; None where none is needed.
      packs: whether the stream's format and shape apply to it.
    """

    options_model: ClassVar[type[DestinationOptions]]
    kind: ClassVar[Kind]
    recountable: ClassVar[bool]
    packs: ClassVar[bool] = True
    extra: ClassVar[str | None] = None

    def __init__(self, options: Options) -> None:
        self.options = options

    def setup(self) -> None:
        """Resolve secrets and open connections, on the worker. May be called again.

        Raises:
          SecretError: a secret cannot be read.
          MissingExtraError: the client is not installed.
          SetupError: anything else that keeps it from being used at all.
        """

    def close(self) -> None:
        """Let go of what `setup` opened."""

    @classmethod
    def validate(cls, stream: StreamDefinition) -> list[str]:
        """Mistakes that show without touching the target, one sentence each."""
        del stream
        return []

    @classmethod
    def place(cls, stream: StreamDefinition) -> str | None:
        """What two streams must not share, because one would replace the other's files; None where they may."""
        del stream
        return None

    @classmethod
    def waits(cls, stream: StreamDefinition) -> Waits:
        """How long the records of a live job wait for others: until their batch is full, or its time is over."""
        return Waits(stream.batch.seconds, stream.batch.size)

    @classmethod
    def is_directory(cls, stream: StreamDefinition) -> bool:
        """Whether the target is a directory of a worker's machine that the stream names."""
        del stream
        return False

    def preflight(self, stream: StreamDefinition, output: str) -> Failure | None:
        """Look, before a run, whether the target can be reached and is as it should be."""
        del stream, output
        return None

    def roots(self, stream: StreamDefinition, output: str) -> list[str]:
        """Directories below which its files lie, for sweeping; none where it writes none."""
        del stream, output
        return []

    def sweep(
        self, stream: StreamDefinition, output: str, writer: str, listed: Collection[str], before: Collection[str]
    ) -> Failure | None:
        """Remove what a writer wrote for a stream outside the output directory and does not list any more.

        Args:
          stream: the stream.
          output: the output directory.
          writer: whose files; those of others stay.
          listed: full paths of the files that the writer has committed.
          before: full paths of the stream's files that it had committed before.

        Returns:
          why files stay that should go; None where none do.

        Raises:
          OSError: a local directory is at fault.
        """
        place = output
        try:
            for place in sorted(set(before) - set(listed)):
                storage.remove(place)
            for place in self.roots(stream, output):
                if not place.startswith(f"{output}/"):
                    storage.sweep(place, writer, listed)
        except Exception as error:
            if not storage.is_remote(place):
                raise
            return of_remote_error(place, error, "remove old files from")
        return None

    def opened(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """A file that it wrote, for `audit`: by Beam's file systems, unless the destination has a client of its own.

        Raises:
          OSError: there is none, or it cannot be read.
        """
        return storage.opened(path)

    def recount(self, paths: Sequence[str]) -> Mapping[str, int] | Failure | None:
        """Rows that lie at the target now, for `audit`, where it is a table and not files.

        Args:
          paths: what the ledger lists of a stream.

        Returns:
          rows by path, also of what the same writers put there and no path names; why it cannot be counted; or None:
          the paths are files, and are read.
        """
        del paths
        return None

    @abc.abstractmethod
    def deliver(self, part: Part, rows: Selection, stream: StreamDefinition, output: str) -> Outcome:
        """Deliver rows, once: what the target refuses or cannot take comes back in the outcome.

        Args:
          part: which rows they are; names what is written, so that doing it again replaces it.
          rows: selected rows of the stream's table; at least one.
          stream: the stream.
          output: the run's output directory.

        Raises:
          OSError: the run's own directory is at fault.
        """

    @classmethod
    def pushes(cls, stream: StreamDefinition) -> bool:
        """Whether a stream is served behind the shuffle: where its target is reached over a network."""
        del stream
        return cls.kind is Kind.PUSHED

    def joins(self, part: Part) -> str | None:
        """Where a part goes, whatever its table: a live job makes one part of those of one place and table.

        None: it takes each part by itself, and makes requests of its own of them.
        """
        del part
        return None

    def lanes(self, part: Part, rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
        """The shard of each row of a pushed stream: rows of one shard are delivered together, in order."""
        del part
        return np.zeros(rows.num_rows, np.int64)

    def deliver_lane(
        self,
        parts: Iterable[tuple[Part, Selection]],
        stream: StreamDefinition,
        output: str,
        until: float | None = None,
    ) -> Iterator[tuple[Part, Outcome]]:
        """Deliver the parts of one shard in order, up to the first failure; yields what became of each, in order.

        Args:
          parts: the parts, read one by one.
          stream: the stream.
          output: the run's output directory.
          until: monotonic time after which nothing more is tried; None: no such time.

        Raises:
          OSError: the run's own directory is at fault.
        """
        failure: Failure | None = None
        for part, rows in parts:
            if failure is None and until is not None and time.monotonic() > until:
                failure = Failure(FailureKind.TRANSIENT, "there was no time left to deliver", "deliver what is pending")
            outcome = self.deliver(part, rows, stream, output) if failure is None else Outcome(failure=failure)
            failure = outcome.failure
            yield part, outcome

    def try_out(self, part: Part, rows: pa.RecordBatch, stream: StreamDefinition, output: str) -> Answer:
        """Deliver one sample record, as `data-streamer test` does; what it leaves, it removes where it can."""
        outcome = self.deliver(part, Selection(rows), stream, output)
        for file in outcome.files:
            storage.remove(storage.absolute(output, file.path))
        wrote = [f"wrote {file.path} ({file.bytes:,} bytes), and removed it" for file in outcome.files]
        return Answer(outcome.failure, said="; ".join(wrote))

    def store(self, part: Part, rows: pa.RecordBatch | Selection, stream: StreamDefinition, output: str) -> Receipt:
        """Deliver a part, or keep what cannot be delivered in the spool.

        Raises:
          OSError: the run's own directory is at fault: the run fails.
        """
        selection = Selection.of(rows)
        if selection.num_rows == 0:
            return Receipt()
        if stream.state == "paused":
            return keep(part, selection, output)
        return settle(part, selection, self.deliver(part, selection, stream, output), stream, output)


def keep(part: Part, selection: Selection, output: str, failure: Failure | None = None) -> Receipt:
    """Keep a part in the spool: its stream is paused, or cannot be served.

    Raises:
      OSError: the run's own directory is at fault: the run fails.
    """
    receipt = Receipt(pending=selection.num_rows, spooled=spool.put(output, part, selection.rows))
    if failure is not None:
        receipt.error, receipt.remedy = failure.error, failure.remedy
    return receipt


def settle(part: Part, selection: Selection, outcome: Outcome, stream: StreamDefinition, output: str) -> Receipt:
    """The receipt of an outcome; what the destination did not take is kept in the spool.

    Raises:
      OSError: the run's own directory is at fault: the run fails.
      AssertionError: the destination lost count.
    """
    receipt = Receipt(outcome.delivered, 0, outcome.dead_letters, outcome.files)
    if outcome.failure is None:
        # What an earlier attempt at the same part left there is delivered now.
        spool.discard(output, part)
    else:
        rest = selection.rows if outcome.rest is None else outcome.rest
        receipt.pending, receipt.spooled = rest.num_rows, spool.put(output, part, rest)
        receipt.error, receipt.remedy = outcome.failure.error, outcome.failure.remedy
    if receipt.delivered + receipt.pending + len(receipt.dead_letters) != selection.num_rows:
        raise AssertionError(
            f"destination {stream.destination.type} of stream {stream.name} lost count: of {selection.num_rows} "
            f"rows {receipt.delivered} delivered, {receipt.pending} pending, {len(receipt.dead_letters)} dead"
        )
    return receipt
