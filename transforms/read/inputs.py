"""Which files a run reads, and the writer that they make it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import msgspec
import xxhash
from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from schemas.records import FEEDS
from transforms.read.raw import BYTE_ORDER_MARK, WHITESPACE
from transforms.read.sources import GZIP_MAGIC

FILES_AT_ONCE = 8
"""Files that are looked into at the same time: an object store answers in tens of milliseconds."""

_MEBIBYTE = 1 << 20


class InputError(ValueError):
    """Inputs that cannot be read; names every one of them, and what to do."""


class InputFile(msgspec.Struct, frozen=True):
    """One file to read.

    Attributes:
      feed: 0 events, 1 usage, as the file was given. What a record is, is recognised record by record.
      path: on any Beam file system.
      size: bytes as stored.
      ingest_time: when the file was last changed, microseconds, UTC.
      digest: of its size and its first and last MiB.
      gzip: whether it is compressed.
    """

    feed: int
    path: str
    size: int
    ingest_time: int
    digest: str
    gzip: bool


def expand_inputs(events: str | None, usage: str | None) -> list[InputFile]:
    """The files that the globs match, events first, then by path. A file that several globs match is read once.

    Args:
      events, usage: comma-separated globs for each feed, local paths or any Beam file system; None or empty: no such
        feed.

    Raises:
      InputError: no feed is given, globs match nothing, or files cannot be read: all of them in one message.
    """
    globs = [(feed, glob) for feed, text in enumerate((events, usage)) for glob in _split(text)]
    if not globs:
        raise InputError("no feed is given: expected --events=GLOB[,GLOB...], --usage=GLOB[,GLOB...] or both")
    found: dict[str, tuple[int, FileMetadata]] = {}
    mistakes: list[str] = []
    for feed, glob in globs:
        try:
            for metadata in _match(glob):
                found.setdefault(_identity(metadata.path), (feed, metadata))
        except InputError as error:
            mistakes.append(f"--{FEEDS[feed]}={glob}: {error}")
    ordered = sorted(found.values(), key=lambda item: (item[0], item[1].path))
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        files = list(pool.map(_look_into, ordered, repeat(mistakes)))
    if mistakes:
        raise InputError("\n".join(mistakes))
    return [file for file in files if file is not None]


def writer_id(files: Iterable[InputFile]) -> str:
    """The writer of a batch run: 16 hexadecimal characters, by feeds and content, not by paths, times or order."""
    text = "\n".join(sorted(f"{file.feed} {file.digest}" for file in files))
    return xxhash.xxh3_64_hexdigest(text.encode())


def _split(text: str | None) -> list[str]:
    return [glob.strip() for glob in (text or "").split(",") if glob.strip()]


def _match(glob: str) -> list[FileMetadata]:
    try:
        matched: list[FileMetadata] = FileSystems.match([glob])[0].metadata_list
    except (BeamIOError, ValueError, OSError) as error:
        raise InputError(f"cannot be listed ({error}); check the address and your permission") from error
    if not matched:
        raise InputError("matches no file; check the path (quote it, so that the shell leaves it alone)")
    if any(os.path.isdir(metadata.path) for metadata in matched):
        raise InputError(f"is a directory; name its files: {os.path.join(glob, '*')}")
    return matched


def _identity(path: str) -> str:
    return path if "://" in path else os.path.realpath(path)


def _look_into(item: tuple[int, FileMetadata], mistakes: list[str]) -> InputFile | None:
    """Reads the file's first and last MiB. Adds to ``mistakes`` what prevents it."""
    feed, metadata = item
    path, size = metadata.path, metadata.size_in_bytes
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            head = file.read(_MEBIBYTE)
            tail = b""
            if size > _MEBIBYTE:
                file.seek(max(_MEBIBYTE, size - _MEBIBYTE))
                tail = file.read(_MEBIBYTE)
    except Exception as error:  # noqa: BLE001 - clients of object stores raise many kinds
        mistakes.append(f"--{FEEDS[feed]}: {path} cannot be read ({error}); check your permission")
        return None
    digest = xxhash.xxh3_128(f"{size}\n".encode())
    digest.update(head)
    digest.update(tail)
    ingest_time = round((metadata.last_updated_in_seconds or 0) * 1_000_000)
    return InputFile(feed, path, size, ingest_time, digest.hexdigest(), _is_gzip(path, head))


def _is_gzip(path: str, head: bytes) -> bool:
    """By its first bytes. A name in .gz counts too, unless the content is plainly JSON or CSV (unpacked on arrival)."""
    if head.startswith(GZIP_MAGIC):
        return True
    plain = head.removeprefix(BYTE_ORDER_MARK).lstrip(WHITESPACE).startswith((b"{", b"[", b'"', b"id,"))
    return path.endswith(".gz") and bool(head) and not plain
