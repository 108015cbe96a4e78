"""The journal of a live job: what was received and acknowledged, until it counts.

A block is appended and made durable before its messages are acknowledged; its entry, a *segment*, is given back after a
restart, with the same number and content, until it is done. So a kill at any moment loses nothing that was
acknowledged.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from transforms.elements import Block, BlockCoder
from transforms.read.raw import RawBlock

FILE_BYTES = 64 << 20
"""Size from which on a file is full."""

ITEM_BITS = 20
"""An item's offset is the number of its segment, shifted by so many bits, and its place in the segment."""

MOST_SEGMENTS = 1 << 32
"""Numbers of segments fit 32 bits: 13 years of ten a second."""

_VERSION = 1
_HEAD = struct.Struct("<BIII")
"""Version, number of the segment, bytes of the entry as it lies there and unpacked."""
_CHECKSUM = struct.Struct("<I")
"""CRC-32 of head and entry: an entry that was cut by a kill is told from a whole one."""

_NAME = "segments-{:010d}"
"""Files are named by the first number that they may hold."""

_zstd = pa.Codec("zstd", compression_level=1)
_coder = BlockCoder()


class JournalError(Exception):
    """The journal cannot be read, or written: text with what to do."""


class _Place(NamedTuple):
    file: Path
    start: int
    size: int
    unpacked: int


@dataclass
class _File:
    """A file of the journal: which segments it holds, and which of these are not done."""

    segments: set[int] = field(default_factory=set)
    open: set[int] = field(default_factory=set)


class Journal:
    """The journal in a directory of this machine's disk; safe to use from many threads of one process.

    Args:
      directory: where the files lie; made if it is not there. No other process may use it.
      file_bytes: size from which on a file is full.

    Raises:
      JournalError: a file is damaged, or of a newer version.
      OSError: the directory cannot be read or written.
    """

    def __init__(self, directory: str | Path, file_bytes: int = FILE_BYTES):
        self._directory, self._file_bytes = Path(directory), file_bytes
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._files: dict[Path, _File] = {}
        self._places: dict[int, _Place] = {}  # of segments that are not done
        self._next = 0
        paths = sorted(self._directory.glob(_NAME.format(0)[:-10] + "*"))
        for path in paths:
            self._recover(path, path == paths[-1])
        self._to_replay = sorted(self._places)
        self._path, self._log = self._begin_file()
        self._forget_files()

    def append(self, raw: RawBlock) -> Block:
        """Gives a raw block its number, and keeps it: it is durable when this returns.

        Args:
          raw: up to `1 << ITEM_BITS` items and faults; their offsets are set, in place.

        Returns:
          the block to hand on, the only one of its segment.

        Raises:
          JournalError: it could not be written; nothing may be acknowledged, nor appended any more.
        """
        if len(raw.items) + len(raw.faults) > 1 << ITEM_BITS:
            raise ValueError(f"a segment has at most {1 << ITEM_BITS} items")
        with self._lock:
            number = self._next
            if self._log.closed:
                raise JournalError(f"{self._path}: is closed, or could not be written before")
            if number >= MOST_SEGMENTS:
                raise JournalError(f"{self._directory}: all {MOST_SEGMENTS} numbers are used; start a new output")
            block = Block(number, 0, numbered(raw, number))
            encoded = _coder.encode(block)
            body = _zstd.compress(encoded, asbytes=True)
            try:
                place = self._write(number, body, len(encoded))
            except OSError as error:
                # What lies in the file now is not known; the next start finds out.
                self._log.close()
                raise JournalError(
                    f"{self._path}: could not be written ({error.strerror}); no message of it was acknowledged. "
                    "Make room on the disk, then start the job again"
                ) from error
            self._next += 1
            self._places[number] = place
            file = self._files[self._path]
            file.segments.add(number)
            file.open.add(number)
            return block

    def replay(self) -> Iterator[Block]:
        """Yields, in order, the segments that were there at the start and are not done, as `append` gave them.

        Each is yielded once in the life of a journal, whoever asks.
        """
        while True:
            with self._lock:
                self._to_replay = [number for number in self._to_replay if number in self._places]
                if not self._to_replay:
                    return
                number = self._to_replay.pop(0)
                place = self._places[number]
            yield _read(place, number)

    def done(self, segment: int) -> None:
        """A segment is not needed any more; said twice, or of an unknown one, it does nothing.

        Not durable: after a restart whoever knows says so again.
        """
        with self._lock:
            place = self._places.pop(segment, None)
            if place is None:
                return
            file = self._files[place.file]
            file.open.discard(segment)
            if not file.open:
                self._forget_files()

    def alive(self) -> set[int]:
        """Segments that a start of now would give back, done or not: of others nothing has to be remembered."""
        with self._lock:
            return set().union(*(file.segments for file in self._files.values()))

    @property
    def unfinished(self) -> tuple[int, int]:
        """How many segments are not done, and how many bytes they unpack to."""
        with self._lock:
            return len(self._places), sum(place.unpacked for place in self._places.values())

    def close(self) -> None:
        """Closes the file; what is in the journal stays."""
        with self._lock:
            self._log.close()

    def _write(self, number: int, body: bytes, unpacked: int) -> _Place:
        if self._log.tell() >= self._file_bytes:
            self._log.close()
            self._path, self._log = self._begin_file()
            self._forget_files()
        start = self._log.tell() + _HEAD.size + _CHECKSUM.size
        head = _HEAD.pack(_VERSION, number, len(body), unpacked)
        self._log.write(head + _checksum(head, body) + body)
        self._log.flush()
        os.fdatasync(self._log.fileno())
        return _Place(self._path, start, len(body), unpacked)

    def _begin_file(self) -> tuple[Path, BinaryIO]:
        """The file for the next segments: its name keeps their number, also when all before it are gone."""
        path = self._directory / _NAME.format(self._next)
        log = path.open("ab")
        if path not in self._files:
            self._files[path] = _File()
            descriptor = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return path, log

    def _forget_files(self) -> None:
        """Removes files of which all is done, but for the one that is written."""
        for path in [path for path, file in self._files.items() if not file.open and path != self._path]:
            path.unlink()
            del self._files[path]

    def _recover(self, path: Path, newest: bool) -> None:
        """Takes up a file that an earlier process left."""
        file = self._files[path] = _File()
        self._next = max(self._next, int(path.name[-10:]))
        whole = 0
        size = path.stat().st_size
        with path.open("rb") as log:
            while entry := _next_entry(log, path):
                number, place = entry
                file.segments.add(number)
                file.open.add(number)
                self._places[number] = place
                self._next = max(self._next, number + 1)
                whole = place.start + place.size
        if whole == size:
            return
        if not newest:
            raise JournalError(
                f"{path}: is damaged at byte {whole} of {size}; the messages behind it were acknowledged. Restore the "
                "file, or cut it there to go on without them"
            )
        # The entry that was being written when the process was killed: none of its messages was acknowledged.
        os.truncate(path, whole)


def numbered(raw: RawBlock, segment: int) -> RawBlock:
    """Sets the offsets of a block's items and faults, in place: no two of a source have the same."""
    first = segment << ITEM_BITS
    raw.offsets = np.arange(first, first + len(raw.items), dtype=np.int64)
    for offset, fault in enumerate(raw.faults, first + len(raw.items)):
        fault.byte_offset = offset
    return raw


def _checksum(head: bytes, body: bytes) -> bytes:
    return _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(head)))


def _next_entry(log: BinaryIO, path: Path) -> tuple[int, _Place] | None:
    """The entry at which a file stands; None if it is not whole."""
    head, checksum = log.read(_HEAD.size), log.read(_CHECKSUM.size)
    if len(checksum) < _CHECKSUM.size:
        return None
    version, number, size, unpacked = _HEAD.unpack(head)
    start = log.tell()
    body = log.read(size)
    if len(body) < size or _checksum(head, body) != checksum:
        return None
    if version != _VERSION:
        raise JournalError(f"{path}: has an entry of version {version}, this program reads {_VERSION}; use a newer one")
    return number, _Place(path, start, size, unpacked)


def _read(place: _Place, number: int) -> Block:
    with place.file.open("rb") as log:
        log.seek(place.start)
        body = log.read(place.size)
    block = _coder.decode(_zstd.decompress(body, place.unpacked, asbytes=True))
    if block.plan != number:
        raise JournalError(f"{place.file}: holds segment {block.plan} where {number} is expected; it was changed")
    return block
