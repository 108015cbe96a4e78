"""Archives: files of streams in a bucket of an object store; what the destination types ``gcs`` and ``s3`` share."""

from __future__ import annotations

import abc
import io
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import IO, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, field_validator
from pydantic_core import InitErrorDetails

from transforms.deliver import formats, layout, storage
from transforms.deliver.answer import Answer
from transforms.deliver.destination import Destination, Kind, Outcome, StreamDefinition, Waits
from transforms.deliver.failures import Failure
from transforms.deliver.parts import Part
from transforms.deliver.push.attempts import Attempts, is_transient
from transforms.deliver.push.breaker import CircuitBreaker
from transforms.deliver.push.identity import shard_of_hour
from transforms.deliver.push.options import PushOptions
from transforms.deliver.push.pace import Pace
from transforms.deliver.selection import Selection

LEAST_FLUSH, MOST_FLUSH = 10_000, 100_000
"""Entries of a file, as emnify's S3 streams have them."""

_SHARDS = 4


class ArchiveOptions(PushOptions):
    """What the files of an archive are like."""

    bucket: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$",
        description="Name of the bucket. It must be there.",
        examples=["acme-iot-archive"],
    )
    prefix: str = Field(
        default="{stream}",
        description=f"Directory in the bucket; empty: its root. {layout.ABOUT}",
        examples=["iot/{stream}/dt={date}/hh={hour}"],
    )
    flush_size: int = Field(
        default=LEAST_FLUSH,
        ge=LEAST_FLUSH,
        le=MOST_FLUSH,
        description="Most entries of a file: what a pane of an hour has more becomes further files. A live job writes "
        "as soon as so many entries wait in a lane.",
    )
    rotate_interval: float = Field(
        default=10,
        ge=10,
        le=900,
        description="Longest time that a live job lets entries wait for others of their file, in seconds. A batch job "
        "closes each file when its rows are written, and has no use for it.",
    )
    shards: int = Field(
        default=_SHARDS,
        ge=1,
        le=256,
        description="Lanes that write side by side, one request in flight in each. The hours are spread over them; "
        "there is no order between files.",
    )
    timeout: float = Field(default=20, ge=1, le=300, description="Seconds to wait for each answer of the store.")

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        layout.check_places(prefix)
        return prefix.strip("/")

    @classmethod
    def mistakes_across(cls, given: Mapping[str, Any]) -> list[InitErrorDetails]:
        """A rate over several shards, which are more than one by default."""
        return super().mistakes_across({"shards": _SHARDS, **given})


class ObjectStoreError(OSError):
    """What was asked of an object store failed.

    Attributes:
      failure: why, and what to do about it.
    """

    def __init__(self, failure: Failure):
        super().__init__(f"{failure.error}: {failure.remedy}")
        self.failure = failure


class ObjectStore(abc.ABC):
    """The client of an object store. Each call makes one attempt, which ends in bounded time; objects are named by
    their URLs. May be used by several threads.

    All raise `ObjectStoreError` where the store refuses or does not answer.
    """

    @abc.abstractmethod
    def check(self, url: str) -> None:
        """Whether the bucket of an object is there, and the object may be written, as far as that shows without
        leaving one.
        """

    @abc.abstractmethod
    def put(self, url: str, data: bytes) -> None:
        """Store an object, replacing an older one; it appears whole."""

    @abc.abstractmethod
    def get(self, url: str) -> bytes:
        """The bytes of an object, as stored.

        Raises:
          FileNotFoundError: there is none.
        """

    @abc.abstractmethod
    def remove(self, url: str) -> None:
        """Delete an object, if it is there."""

    @abc.abstractmethod
    def list_objects(self, url: str) -> Iterator[str]:
        """URLs of the objects whose names begin like this."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connections."""


Options = TypeVar("Options", bound=ArchiveOptions)


class ArchiveDestination(Destination[Options], abc.ABC):
    """Writes each part as files in a bucket. A subclass names the scheme of its URLs and makes the client."""

    kind: ClassVar[Kind] = Kind.PUSHED
    recountable: ClassVar[bool] = True
    scheme: ClassVar[str]

    def __init__(self, options: Options):
        super().__init__(options)
        self._breaker = CircuitBreaker()
        # For all deliveries of a lane, one after another; with a rate there is only one lane.
        self._pace = Pace(options.rate)

    @abc.abstractmethod
    def connect(self) -> ObjectStore:
        """The client. Nothing is asked of the store yet.

        Raises:
          MissingExtraError: it is not installed.
          SetupError: there are no credentials, or the options do not fit together.
        """

    def setup(self) -> None:
        """Make the client."""
        self._store = self.connect()

    def close(self) -> None:
        """Close the connections."""
        self._store.close()

    @classmethod
    def validate(cls, stream: StreamDefinition) -> list[str]:
        """A size that is given as that of a batch."""
        if stream.batch.size is None and stream.batch.seconds is None:
            return []
        return ["takes no batch: use destination.flush_size and destination.rotate_interval"]

    @classmethod
    def place(cls, stream: StreamDefinition) -> str | None:
        """Bucket and prefix, with what differs from stream to stream filled in, and what the files are called."""
        options = stream.destination
        assert isinstance(options, ArchiveOptions)
        prefix = layout.of_stream(f"{cls.scheme}://{options.bucket}/{options.prefix}", stream.name, stream.content)
        name = f"{_EXPORTS[stream.content]} csv" if _is_export(stream) else formats.FORMATS[stream.format].extension
        return f"{prefix.rstrip('/')} {name}"

    @classmethod
    def waits(cls, stream: StreamDefinition) -> Waits:
        """Until a file is full, or has been waited for long enough."""
        options = stream.destination
        assert isinstance(options, ArchiveOptions)
        return Waits(options.rotate_interval, options.flush_size)

    def preflight(self, stream: StreamDefinition, output: str) -> Failure | None:
        """Whether the bucket is there, and takes files as far as that shows without leaving one."""
        del output
        # Rights may be given for some directories only: as a first file would lie.
        first = Part(stream.name, stream.content, hour=0, bucket=0, writer="preflight", pane=0)
        try:
            self._store.check(self.path_of(first, stream))
        except ObjectStoreError as error:
            return error.failure
        return None

    def path_of(self, part: Part, stream: StreamDefinition, number: int = 0) -> str:
        """Where a file of a part lies: ``<prefix>/part-<writer>-<bucket>-<pane>.<extension>``; the part's further files
        have their number behind a dot.

        Shape csv in format csv has emnify's file names, ``cdr_YYYYMMDD_HHmmss.csv`` and ``events_YYYYMMDD_HHmmss.csv``,
        whose time is the hour of the records. As it tells neither writers nor files of an hour apart, and a suffix
        would change the name, each lies in a directory of its own: ``part=<writer>-<bucket>-<pane>``.
        """
        name = storage.part_name(part.writer, part.bucket, part.pane, formats.FORMATS[stream.format].extension, number)
        if _is_export(stream):
            moment = datetime.fromtimestamp(part.hour // 1_000_000, UTC)
            export = f"{_EXPORTS[part.table]}_{moment:%Y%m%d_%H%M%S}.csv"
            name = f"part={name.removeprefix('part-').removesuffix('.csv')}/{export}"
        return storage.join(self._directory(part), name)

    def _directory(self, part: Part) -> str:
        return layout.directory(layout.complete(f"{self.scheme}://{self.options.bucket}/{self.options.prefix}"), part)

    def joins(self, part: Part) -> str:
        """Parts of one hour are one file, where the prefix does not keep them apart."""
        return f"{part.hour} {self._directory(part)}"

    def lanes(self, part: Part, rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
        """By the hour."""
        return np.full(rows.num_rows, shard_of_hour(part.hour, self.options.shards))

    def deliver_lane(
        self,
        parts: Iterable[tuple[Part, Selection]],
        stream: StreamDefinition,
        output: str,
        until: float | None = None,
    ) -> Iterator[tuple[Part, Outcome]]:
        """Write the parts of one shard, one file at a time; after a failure the others wait."""
        del output
        failure: Failure | None = None
        attempts = Attempts(self.options.retry, self._breaker, self._pace, until)
        for part, rows in parts:
            outcome = self._write(part, rows, stream, attempts) if failure is None else Outcome(failure=failure)
            failure = outcome.failure
            yield part, outcome

    def deliver(self, part: Part, rows: Selection, stream: StreamDefinition, output: str) -> Outcome:
        """Write one part by itself."""
        ((_, outcome),) = self.deliver_lane([(part, rows)], stream, output)
        return outcome

    def _write(self, part: Part, rows: Selection, stream: StreamDefinition, attempts: Attempts) -> Outcome:
        """Write a part's files. A part of which one file fails waits as a whole: its files are replaced later."""
        files = []
        for number, start in enumerate(range(0, rows.num_rows, self.options.flush_size)):
            piece = rows if rows.num_rows <= self.options.flush_size else self._piece(rows, start)
            path = self.path_of(part, stream, number)
            data = formats.encode(stream.format, stream.shape, part.table, piece)

            def attempt(path: str = path, data: bytes = data, records: int = piece.num_rows) -> Failure | None:
                return attempts.one(lambda: self._put(path, data), records).failure

            failure = attempts.until_settled(attempt)
            if failure is not None:
                return Outcome(failure=failure)
            files.append(storage.StoredFile(path, piece.num_rows, len(data), storage.checksum(data)))
        return Outcome(delivered=rows.num_rows, files=files)

    def _piece(self, rows: Selection, start: int) -> Selection:
        return Selection(rows.rows.slice(start, self.options.flush_size))

    def _put(self, path: str, data: bytes) -> Answer:
        try:
            self._store.put(path, data)
        except ObjectStoreError as error:
            return Answer(error.failure)
        return Answer()

    def try_out(self, part: Part, rows: pa.RecordBatch, stream: StreamDefinition, output: str) -> Answer:
        """One attempt at a file of one sample record, which is removed again."""
        del output
        path = self.path_of(part, stream)
        data = formats.encode(stream.format, stream.shape, part.table, rows)
        answer = self._put(path, data)
        if answer.failure is not None:
            return answer
        wrote = f"wrote {path} ({len(data):,} bytes)"
        try:
            self._store.remove(path)
        except ObjectStoreError as error:
            return Answer(said=f"{wrote}, which could not be removed: {error.failure.error}")
        return Answer(said=f"{wrote}, and removed it")

    def opened(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """A file that was delivered, read by the destination's own client."""
        return io.BytesIO(self._store.get(path))

    def sweep(
        self, stream: StreamDefinition, output: str, writer: str, listed: Collection[str], before: Collection[str]
    ) -> Failure | None:
        """Remove the writer's files that it does not list any more, by the destination's own client.

        Credentials that may only write cannot list: then what a killed run left stays, with a warning.
        """
        del output
        template = layout.complete(f"{self.scheme}://{self.options.bucket}/{self.options.prefix}")
        # As far as it is the same for all files of the stream: no more of the bucket is listed than has to be.
        fixed, _, _ = layout.of_stream(template, stream.name, stream.content).partition("{")
        own = storage.parts_of(writer)
        stale = {path for path in before if path not in listed}
        try:
            found = self._store.list_objects(fixed)
            stale.update(path for path in found if path not in listed and own(_as_part(path)))
        except ObjectStoreError as error:
            if is_transient(error.failure):
                return _unswept(error.failure)
            _log.warning("stream %s: its files cannot be listed to remove old ones: %s", stream.name, error)
        try:
            for path in sorted(stale):
                self._store.remove(path)
        except ObjectStoreError as error:
            return _unswept(error.failure)
        return None


_EXPORTS = {"usage": "cdr", "events": "events"}
"""What emnify calls the files of a content."""

_EXPORT = re.compile(r"(.*/)part=([^/]+)/(?:cdr|events)_\d{8}_\d{6}\.csv")

_log = logging.getLogger(__name__)


def _unswept(failure: Failure) -> Failure:
    text = f"files that an earlier run wrote, and this one did not, could not be removed: {failure.error}"
    return Failure(failure.kind, text, f"{failure.remedy}; then run the job again")


def _is_export(stream: StreamDefinition) -> bool:
    """Whether files are those of emnify's S3 export."""
    return stream.format == "csv" and stream.shape == "csv"


def _as_part(path: str) -> str:
    """The path that the file of an export would have as any other part."""
    return _EXPORT.sub(r"\1part-\2.csv", path)
