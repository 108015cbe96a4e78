"""Destination type ``files``: one file per part, local or in an object store."""

from __future__ import annotations

import errno
import os
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from schemas.destinations import DestinationOptions
from transforms.deliver import failures, formats, layout, storage
from transforms.deliver.destination import Destination, Kind, Outcome, StreamDefinition
from transforms.deliver.parts import Part
from transforms.deliver.push.identity import shard_of_hour
from transforms.deliver.selection import Selection

DIRECTORY = "streams"
LANES = 4
"""Lanes of a stream to an object store."""

_OWN_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENFILE, errno.EMFILE)
"""Errors that mean, below the output directory, that the run itself cannot go on."""


class FilesOptions(DestinationOptions):
    """Files in a directory, or in Cloud Storage or S3."""

    type: Literal["files"] = Field(default="files", description="Type of the destination.")
    path: str | None = Field(
        default=None,
        min_length=1,
        description=f"Directory of the files: a local path, gs://… or s3://…. {layout.ABOUT} "
        "Default: streams/{stream}/dt={date}/hh={hour} in the output directory.",
        examples=["gs://acme-iot/dt={date}/hh={hour}"],
    )

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str | None) -> str | None:
        if path is not None:
            layout.check_places(path)
            _check_scheme(path)
        return path


def _check_scheme(path: str) -> None:
    scheme, separator, rest = path.partition("://")
    if separator and (scheme not in failures.FILE_SYSTEMS or not rest.strip("/")):
        schemes = " or ".join(f"{name}://BUCKET/…" for name in failures.FILE_SYSTEMS)
        raise PydanticCustomError("path", f"must be a local path or {schemes}")


class FilesDestination(Destination[FilesOptions]):
    """Writes each part as one file, in the stream's format and shape.

    Guarantee: exactly once. A file has the name of its cell, writer and pane: written again it is replaced with the
    same bytes, and two writers never write the same file. Local files appear whole (temporary name, rename), objects on
    close. Order: none between files. `audit` counts the files again.

    A target that refuses (rights, read-only, no space, no such bucket, a missing package) leaves the records pending.
    An error of the output directory's own disk fails the run.

    ``gs://`` and ``s3://`` are reached by Beam's file systems, as the job's own options say. The destinations ``gcs``
    and ``s3`` are faster there, bound each request in time, try again, and know roles and addresses for each stream.
    """

    options_model: ClassVar[type[DestinationOptions]] = FilesOptions
    kind: ClassVar[Kind] = Kind.STORED
    recountable: ClassVar[bool] = True

    @classmethod
    def place(cls, stream: StreamDefinition) -> str | None:
        """The path, with what differs from stream to stream filled in, and the extension."""
        options = stream.destination
        if not isinstance(options, FilesOptions) or options.path is None:
            return None
        path = options.path if storage.is_remote(options.path) else os.path.abspath(options.path)
        path = layout.of_stream(path, stream.name, stream.content)
        return f"{path.rstrip('/')} {formats.FORMATS[stream.format].extension}"

    @classmethod
    def is_directory(cls, stream: StreamDefinition) -> bool:
        """Where the path is none of an object store."""
        options = stream.destination
        return isinstance(options, FilesOptions) and options.path is not None and not storage.is_remote(options.path)

    def preflight(self, stream: StreamDefinition, output: str) -> failures.Failure | None:
        """Whether the path's file system is installed, and a local target, as far as it exists, takes files."""
        root = self.roots(stream, output)[0]
        if storage.is_remote(root):
            return failures.of_missing_file_system(root)
        while not os.path.lexists(root):
            root = os.path.dirname(root) or "."
        if not os.path.isdir(root):
            return failures.of_os_error(root, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
        if not os.access(root, os.W_OK | os.X_OK):
            return failures.of_os_error(root, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        return None

    def roots(self, stream: StreamDefinition, output: str) -> list[str]:
        """The directory above the first part of the path that differs from file to file."""
        return [layout.root(self._template(output), stream.name, stream.content)]

    def path_of(self, part: Part, stream: StreamDefinition, output: str) -> str:
        """Where a part's file lies."""
        directory = layout.directory(self._template(output), part)
        extension = formats.FORMATS[stream.format].extension
        return storage.join(directory, storage.part_name(part.writer, part.bucket, part.pane, extension))

    def _template(self, output: str) -> str:
        template = self.options.path
        if template is None:
            # Braces in the output directory's own name are no places.
            template = storage.join(output.replace("{", "{{").replace("}", "}}"), DIRECTORY, "{stream}")
        elif not storage.is_remote(template):
            template = os.path.abspath(template)
        return layout.complete(template)

    @classmethod
    def pushes(cls, stream: StreamDefinition) -> bool:
        """Where the path is in an object store, which may hang."""
        options = stream.destination
        return isinstance(options, FilesOptions) and options.path is not None and not cls.is_directory(stream)

    def lanes(self, part: Part, rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
        """By the hour: no order is promised between files."""
        return np.full(rows.num_rows, shard_of_hour(part.hour, LANES))

    def deliver(self, part: Part, rows: Selection, stream: StreamDefinition, output: str) -> Outcome:
        """Write the part's file."""
        path = self.path_of(part, stream, output)
        data = formats.encode(stream.format, stream.shape, part.table, rows)
        failure = _publish(path, data, own=storage.relative(output, path) != path)
        if failure is not None:
            return Outcome(failure=failure)
        stored = storage.StoredFile(storage.relative(output, path), rows.num_rows, len(data), storage.checksum(data))
        return Outcome(delivered=rows.num_rows, files=[stored])


def _publish(path: str, data: bytes, own: bool) -> failures.Failure | None:
    if not storage.is_remote(path):
        try:
            storage.publish(path, data)
        except OSError as error:
            if own and error.errno in _OWN_FAULTS:
                raise
            return failures.of_os_error(path, error)
        return None
    missing = failures.of_missing_file_system(path)
    if missing is not None:
        return missing
    try:
        storage.publish(path, data)
    except Exception as error:  # noqa: BLE001 - clients of object stores raise many kinds: `of_remote_error` sorts them
        return failures.of_remote_error(path, error)
    return None
