"""The journal of a live job: what was received and acknowledged, until it counts.

A block is appended and made durable before its messages are acknowledged; its entry, a *segment*, is given back after a
restart, with the same number and content, until it is done. So a kill at any moment loses nothing that was
acknowledged. And it doubles nothing: what a message is known by lies in the same entry, so that a message that was
kept, but not acknowledged in time, is told when it comes again.
"""

from __future__ import annotations

import functools
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from transforms.deduplicate.seen import SeenIds
from transforms.elements import Block, BlockCoder
from transforms.read.raw import RawBlock

FILE_BYTES = 64 << 20
"""Size from which on a file is full."""

KNOWN_BYTES = 128 << 20
"""So much of the journal is kept behind what is done, for the messages that come again: those of a minute, where 10,000
come in a second. Pub/Sub sends a message again some seconds after its acknowledgement deadline (10 s by default)."""

ITEM_BITS = 20
"""An item's offset is the number of its segment, shifted by so many bits, and its place in the segment."""

MOST_SEGMENTS = 1 << 32
"""Numbers of segments fit 32 bits: 13 years of ten a second."""

_VERSION = 2
"""Entries of version 1 know no messages."""
_HEAD = struct.Struct("<BIII")
"""Version, number of the segment, bytes of the entry behind head and checksum, bytes of its block unpacked."""
_CHECKSUM = struct.Struct("<I")
"""CRC-32 of head and entry: an entry that was cut by a kill is told from a whole one."""
_MESSAGES = struct.Struct("<?I")
"""Before the block: whether a message goes on in the next entry, the number of keys of messages, and these."""
_KEY = np.dtype("<u8")

_OPEN, _DONE = "segments-{:010d}", "done-{:010d}"
"""Files are named by the first number that they may hold; those of which all is done tell known messages only."""

_NO_MESSAGES = np.empty(0, np.uint64)

_zstd = pa.Codec("zstd", compression_level=1)
_coder = BlockCoder()


class JournalError(Exception):
    """The journal cannot be read, or written: text with what to do."""


class _Place(NamedTuple):
    file: Path
    start: int
    size: int
    unpacked: int


class _Entry(NamedTuple):
    number: int
    place: _Place
    is_cut: bool
    messages: np.ndarray


@dataclass
class _File:
    """A file of the journal: which segments it holds, which of these are not done, and the messages it knows."""

    segments: set[int] = field(default_factory=set)
    open: set[int] = field(default_factory=set)
    messages: SeenIds = field(default_factory=SeenIds)


class Journal:
    """The journal in a directory of this machine's disk; safe to use from many threads of one process.

    Args:
      directory: where the files lie; made if it is not there. No other process may use it.
      file_bytes: size from which on a file is full.
      known_bytes: files of which all is done go when those behind them have so many bytes.

    Raises:
      JournalError: a file is damaged, or of a newer version.
      OSError: the directory cannot be read or written.
    """

    def __init__(self, directory: str | Path, file_bytes: int = FILE_BYTES, known_bytes: int = KNOWN_BYTES):
        self._directory, self._file_bytes, self._known_bytes = Path(directory), file_bytes, known_bytes
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._files: dict[Path, _File] = {}
        self._places: dict[int, _Place] = {}  # of segments that are not done
        self._known: dict[Path, SeenIds] = {}  # by files of which all is done, the oldest first
        self._cut: list[int] = []  # segments that are kept and must not be handed on yet
        self._next = 0
        for path in self._paths(_DONE):
            self._recover(path, True)
            self._known[path] = self._files.pop(path).messages
        self._places.clear()
        paths = self._paths(_OPEN)
        for path in paths:
            self._recover(path, path == paths[-1])  # only of the last one a kill may have cut the end
        self._to_replay = sorted(self._places)
        self._path, self._log = self._begin_file()
        self._forget_files()

    def unknown(self, messages: np.ndarray) -> list[int]:
        """Places of the messages, given by their keys (uint64), that are not known yet; of equal ones the first."""
        with self._lock:
            every = [*self._known.values(), *(file.messages for file in self._files.values())]
            known = np.zeros(len(messages), bool)
            for some in every:
                known |= some.contains(messages)
        _, first = np.unique(messages, return_index=True)
        return sorted(first[~known[first]].tolist())

    def append(self, raw: RawBlock, messages: np.ndarray = _NO_MESSAGES, is_cut: bool = False) -> Iterator[Block]:
        """Gives a raw block its number, and keeps it.

        Args:
          raw: up to `1 << ITEM_BITS` items and faults; their offsets are set, in place.
          messages: keys (uint64) of the messages that it is the last block of: from now on they are known.
          is_cut: a message goes on in the next block. Only with that one are both durable: after a kill in between the
            message comes again as a whole.

        Returns:
          the blocks to hand on, each the only one of its segment: this one, behind those that waited for it; or, if it
          is cut itself, none. They are durable when this returns, and their messages may be acknowledged.

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
            before = _MESSAGES.pack(is_cut, len(messages)) + messages.astype(_KEY).tobytes()
            try:
                place = self._write(number, before, _zstd.compress(encoded, asbytes=True), len(encoded), is_cut)
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
            file.messages.add(messages)
            if is_cut:
                self._cut.append(number)
                return iter(())
            waiting, self._cut = [(self._places[one], one) for one in self._cut], []
            return chain((_read(*one) for one in waiting), [block])

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

    def _write(self, number: int, before: bytes, body: bytes, unpacked: int, is_cut: bool) -> _Place:
        if self._log.tell() >= self._file_bytes and not self._cut:  # a message's entries lie in one file
            self._log.close()
            self._path, self._log = self._begin_file()
            self._forget_files()
        size = len(before) + len(body)
        start = self._log.tell() + _HEAD.size + _CHECKSUM.size + len(before)
        head = _HEAD.pack(_VERSION, number, size, unpacked)
        self._log.write(head + _checksum(head, before, body) + before + body)
        self._log.flush()
        if not is_cut:
            os.fdatasync(self._log.fileno())
        return _Place(self._path, start, len(body), unpacked)

    def _begin_file(self) -> tuple[Path, BinaryIO]:
        """The file for the next segments: its name keeps their number, also when all before it are gone."""
        path = self._directory / _OPEN.format(self._next)
        log = path.open("ab")
        if path not in self._files:
            self._files[path] = _File()
            self._make_names_durable()
        return path, log

    def _forget_files(self) -> None:
        """Of files of which all is done, but for the one that is written, only messages are known, and not for ever."""
        done = [path for path, file in self._files.items() if not file.open and path != self._path]
        for path in done:
            name = path.rename(path.with_name(_DONE.format(_first_number(path))))
            self._known[name] = self._files.pop(path).messages
        if done:
            # Before anybody forgets that these segments are done: they must not be replayed.
            self._make_names_durable()
        behind = self._path.stat().st_size
        for path in sorted(self._known, reverse=True):
            size = path.stat().st_size
            if behind >= self._known_bytes or not size:
                path.unlink()
                del self._known[path]
            behind += size

    def _make_names_durable(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _paths(self, name: str) -> list[Path]:
        return sorted(self._directory.glob(name.format(0)[:-10] + "*"))

    def _recover(self, path: Path, may_be_cut: bool) -> None:
        """Takes up a file that an earlier process left."""
        file = self._files[path] = _File()
        self._next = max(self._next, _first_number(path))
        whole = 0
        size = path.stat().st_size
        cut: list[_Entry] = []
        with path.open("rb") as log:
            while entry := _next_entry(log, path):
                cut.append(entry)
                if entry.is_cut:
                    continue
                for number, place, _, messages in cut:
                    file.segments.add(number)
                    file.open.add(number)
                    file.messages.add(messages)
                    self._places[number] = place
                    self._next = max(self._next, number + 1)
                cut = []
                whole = entry.place.start + entry.place.size
        if whole == size:
            return
        if not may_be_cut:
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


def _first_number(path: Path) -> int:
    return int(path.name[-10:])


def _checksum(*parts: bytes) -> bytes:
    return _CHECKSUM.pack(functools.reduce(lambda checksum, part: zlib.crc32(part, checksum), parts, 0))


def _next_entry(log: BinaryIO, path: Path) -> _Entry | None:
    """The entry at which a file stands; None if it is not whole."""
    head, checksum = log.read(_HEAD.size), log.read(_CHECKSUM.size)
    if len(checksum) < _CHECKSUM.size:
        return None
    version, number, size, unpacked = _HEAD.unpack(head)
    start = log.tell()
    body = log.read(size)
    if len(body) < size or _checksum(head, body) != checksum:
        return None
    if version > _VERSION:
        raise JournalError(f"{path}: has an entry of version {version}, this program reads {_VERSION}; use a newer one")
    is_cut, messages, before = False, _NO_MESSAGES, 0
    if version > 1:
        is_cut, count = _MESSAGES.unpack_from(body)
        messages = np.frombuffer(body, _KEY, count, _MESSAGES.size).astype(np.uint64)
        before = _MESSAGES.size + messages.nbytes
    return _Entry(number, _Place(path, start + before, size - before, unpacked), is_cut, messages)


def _read(place: _Place, number: int) -> Block:
    with place.file.open("rb") as log:
        log.seek(place.start)
        body = log.read(place.size)
    block = _coder.decode(_zstd.decompress(body, place.unpacked, asbytes=True))
    if block.plan != number:
        raise JournalError(f"{place.file}: holds segment {block.plan} where {number} is expected; it was changed")
    return block
