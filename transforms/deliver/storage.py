"""How a file is published: whole or not at all, under a name that a second attempt overwrites.

Local files are written beside their place under a temporary name and renamed over it; a reader never meets half a file,
and a killed process leaves a name that begins with ``.tmp-``. Object stores get the final name at once, since they
publish an object when it is closed (their rename is a copy). Files are not forced to disk: the process may be killed at
any moment, a machine that loses power is expected to run the same command again.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, cast

import xxhash

from schemas.file_systems import is_remote

_ALGORITHM = "xxh3_128"
_CHUNK = 1 << 20

TEMPORARY = ".tmp-"
"""Prefix of files that are not published yet."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One published file.

    Attributes:
      path: where it lies; in ledgers as `relative` gives it.
      row_count: rows in it; None for files that hold no rows.
      bytes: its size.
      checksum: ``xxh3_128:<hex>`` of its bytes.
    """

    path: str
    row_count: int | None
    bytes: int
    checksum: str


def publish(path: str, data: bytes, row_count: int | None = None) -> StoredFile:
    """Write a file under its final name, replacing an older one.

    Args:
      path: local path, or a URL of a Beam file system (``gs://…``, ``s3://…``).
      data: the whole content.
      row_count: how many rows it holds, for the ledger.

    Raises:
      OSError: the local file system refused. No temporary file is left.
      Exception: what the remote file system raises (`failures.classify` tells the kinds apart).
    """
    if is_remote(path):
        _write_remote(path, data)
    else:
        _write_local(path, data)
    return StoredFile(path, row_count, len(data), checksum(data))


def checksum(data: bytes) -> str:
    """``xxh3_128:<hex>`` of bytes: the form in `ledger_files`."""
    return f"{_ALGORITHM}:{xxhash.xxh3_128_hexdigest(data)}"


def measure(path: str) -> tuple[int, str]:
    """Size and checksum of a published file, without holding it in memory."""
    with opened(path) as file:
        return measure_file(file)


def measure_file(file: IO[bytes]) -> tuple[int, str]:
    """Size and checksum of what is left of an open file."""
    digest, size = xxhash.xxh3_128(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return size, f"{_ALGORITHM}:{digest.hexdigest()}"


def read(path: str) -> bytes:
    """The bytes of a published file."""
    with opened(path) as file:
        return bytes(file.read())


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """A published file, as stored: Beam would decompress by suffix otherwise."""
    if not is_remote(path):
        with open(path, "rb") as file:
            yield file
        return
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        yield cast(IO[bytes], file)


def copy(source: str, path: str) -> None:
    """Copy a local file to an object store, without holding it in memory.

    Raises:
      OSError: the local file cannot be read.
      Exception: what the remote file system raises.
    """
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    with (
        open(source, "rb") as file,
        FileSystems.create(path, "application/octet-stream", CompressionTypes.UNCOMPRESSED) as target,
    ):
        shutil.copyfileobj(file, target, _CHUNK)


def remove(path: str) -> bool:
    """Delete a file; returns whether it was there."""
    if not is_remote(path):
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True
    from apache_beam.io.filesystems import FileSystems

    if not FileSystems.exists(path):
        return False
    FileSystems.delete([path])
    return True


def list_files(directory: str) -> Iterator[str]:
    """Paths of all files below a directory, at any depth, in order of their names; none where it does not exist."""
    if not is_remote(directory):
        for parent, directories, names in os.walk(directory):
            directories.sort()
            yield from (f"{parent}/{name}" for name in sorted(names))
        return
    from apache_beam.io.filesystems import FileSystems

    (match,) = FileSystems.match([f"{directory.rstrip('/')}/**"])
    yield from sorted(found.path for found in match.metadata_list)


def _write_local(path: str, data: bytes) -> None:
    directory, name = os.path.split(path)
    # Random, so that two attempts at the same file never write into each other's bytes.
    temporary = os.path.join(directory, f"{TEMPORARY}{uuid.uuid4().hex[:12]}-{name}")
    try:
        file = open(temporary, "xb")  # noqa: SIM115 - closed below, and unlinked where writing fails
    except FileNotFoundError:
        os.makedirs(directory, exist_ok=True)
        file = open(temporary, "xb")  # noqa: SIM115
    try:
        with file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def _write_remote(path: str, data: bytes) -> None:
    # Beam's file systems import their cloud clients: only where one is used.
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    # Not compressed by Beam: a name that ends in .gz holds bytes that are gzip already.
    with FileSystems.create(path, "application/octet-stream", CompressionTypes.UNCOMPRESSED) as file:
        file.write(data)


def join(directory: str, *parts: str) -> str:
    """A path below a directory, local or remote."""
    return "/".join((directory.rstrip("/") or "/", *parts)) if parts else directory


def relative(output: str, path: str) -> str:
    """A path as the ledger lists it: relative to the output directory where it lies below it, else as it is."""
    prefix = output.rstrip("/") + "/"
    return path.removeprefix(prefix) if path.startswith(prefix) else path


def absolute(output: str, path: str) -> str:
    """The reverse of `relative`."""
    return path if is_remote(path) or os.path.isabs(path) else join(output, path)


def date_of(hour: int) -> str:
    """``YYYY-MM-DD`` of an hour in microseconds, UTC."""
    return f"{_moment(hour):%Y-%m-%d}"


def hour_of(hour: int) -> str:
    """``HH`` of an hour in microseconds, UTC."""
    return f"{_moment(hour):%H}"


def hour_directory(hour: int) -> str:
    """``dt=YYYY-MM-DD/hh=HH`` of an hour in microseconds, UTC. No key has the name of a column."""
    return f"dt={date_of(hour)}/hh={hour_of(hour)}"


def part_name(writer: str, bucket: int, pane: int, extension: str, number: int = 0) -> str:
    """``part-<writer>-<bucket>-<pane>.<extension>``: the same output of the same writer has the same name.

    Where an output is several files, those after the first have their number behind a dot: ``part-w-0-0.1.csv``. Behind
    a hyphen it could not be told from the bucket of a writer whose name ends in a number.
    """
    return f"part-{writer}-{bucket}-{pane}{f'.{number}' if number else ''}.{extension}"


def _moment(hour: int) -> datetime:
    return datetime.fromtimestamp(hour // 1_000_000, UTC)


_BATCH_PART = re.compile(r"(?:part|\d{8}T\d{2})-([0-9a-f]{16})-(?:\d+-)?\d+(?:\.\d+)?\.[a-z.]+")
"""A batch writer's part, or what waits of it: its name is a digest of 16 hexadecimal digits."""


def sweep(directory: str, writer: str, listed: Collection[str]) -> list[str]:
    """Remove what a writer left below a directory and did not commit.

    That is: its parts that are not listed (a narrowed filter, a killed run) and its temporary files. Files of other
    writers, and files that are no parts, stay.

    Args:
      directory: where to look, at any depth.
      writer: whose files.
      listed: the full paths that the writer committed.

    Returns:
      the paths that were removed.
    """
    return remove_stale(directory, parts_of(writer), listed)


def parts_of(writer: str) -> Callable[[str], bool]:
    """A function that tells the paths of a writer's parts and temporary files from all others."""
    temporary = rf"(?:{re.escape(TEMPORARY)}[0-9a-f]+-)?"
    parts = re.compile(rf"{temporary}part-{re.escape(writer)}-(\d+-)?\d+(?:\.\d+)?\.[a-z.]+")

    def own(path: str) -> bool:
        *parents, name = path.rsplit("/", 3)
        found = parts.fullmatch(name)
        # Directly below a table lie parts with one number, elsewhere parts with two: "job" and "job-2" stay apart.
        return found is not None and (found[1] is None) == (parents[-2:-1] == ["warehouse"])

    return own


def sweep_abandoned(directory: str, known: Collection[str]) -> list[str]:
    """Remove what batch writers left below a directory that never committed and are not known, and return the paths.

    Whoever reads the directory would count it. Only while no other batch writer works there.

    Args:
      directory: where to look, at any depth.
      known: writers whose files stay.
    """

    def abandoned(path: str) -> bool:
        found = _BATCH_PART.fullmatch(path.rsplit("/", 1)[1])
        return found is not None and found[1] not in known

    return remove_stale(directory, abandoned, ())


def sweep_temporary(directory: str) -> list[str]:
    """Remove all temporary files below a directory. Only while no other writer works there."""
    return remove_stale(directory, lambda path: path.rsplit("/", 1)[1].startswith(TEMPORARY), ())


def remove_stale(directory: str, own: Callable[[str], bool], listed: Collection[str]) -> list[str]:
    """Remove the files below a directory that are a writer's own and not listed; returns their paths."""
    stale = [path for path in list_files(directory) if path not in listed and own(path)]
    for path in stale:
        remove(path)
    return stale
