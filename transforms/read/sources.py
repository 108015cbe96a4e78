"""Bytes of a file, decompressed, in pieces.

`ByteSource` reads any Beam file system, plain or gzip (also of several members), and never holds more than the piece
that was asked for. A gzip file that is cut short or corrupt is not an exception: what is readable is handed out, then
the source ends and `ByteSource.cut` says why.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO, Protocol

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from isal import igzip_lib, isal_zlib

GZIP_MAGIC = b"\x1f\x8b"
_COMPRESSED_PIECE = 64 << 10
_PIECE = 1 << 20
_GZIP_FORMAT = 31  # window bits: a gzip header and trailer, checksum verified


class _Inflater(Protocol):
    eof: bool
    unused_data: bytes
    unconsumed_tail: bytes

    def decompress(self, data: bytes, max_length: int = 0) -> bytes: ...


class ByteSource:
    """A file as a stream of bytes after decompression. A context manager.

    Attributes:
      cut: why a gzip file could not be read to its end, else None. Known once `read` has returned less than asked for.

    Args:
      path: the file, or an open one.
      gzip: whether it is compressed.
      start: where to begin, in a plain file.

    Raises:
      OSError: the file cannot be opened or read.
    """

    def __init__(self, path: str | BinaryIO, gzip: bool, start: int = 0) -> None:
        self.cut: str | None = None
        self._unread = b""
        self._file: BinaryIO = (
            FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) if isinstance(path, str) else path
        )
        if start:
            self._file.seek(start)
        self._members = _Members(self._file) if gzip else None

    def __enter__(self) -> ByteSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes; less only at the end."""
        pieces = [self._unread] if self._unread else []
        self._unread = b""
        missing = size - sum(map(len, pieces))
        while missing > 0:
            piece = self._members.read(missing) if self._members else self._file.read(missing)
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        if self._members:
            self.cut = self._members.cut
        if missing < 0:
            self._unread = pieces[0][size:]
            return pieces[0][:size]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def unread(self, data: bytes) -> None:
        """Gives back what was read too far; the next `read` begins with it."""
        self._unread = data + self._unread


class _Members:
    """The members of a gzip file, decompressed one after another."""

    def __init__(self, file: BinaryIO) -> None:
        self.cut: str | None = None
        self._file = file
        self._compressed = b""
        self._inflater: _Inflater | None = None
        # Where the present member begins in the file, how much of it was handed out: to read it again after an error.
        self._fed = 0
        self._member_start = 0
        self._member_bytes = 0
        self._rest: bytes | None = None
        self._ended = False

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        while not self._ended:
            if self._rest is not None:
                piece, self._rest = self._rest[:size], self._rest[size:]
                self._ended = not self._rest
                if piece:
                    return piece
                continue
            if not self._compressed:
                self._compressed = self._file.read(_COMPRESSED_PIECE)
                self._fed += len(self._compressed)
                if not self._compressed and self._inflater is None:
                    self._ended = True
                    continue
            if self._inflater is None and not self._begin_member():
                continue
            at_end = not self._compressed
            piece = self._inflate(min(size, _PIECE))
            if piece:
                self._member_bytes += len(piece)
                return piece
            if at_end and self._inflater is not None and self._rest is None:
                # Nothing was left inside of the decompressor either.
                self._end("it ends in the middle")
        return b""

    def _end(self, cut: str) -> None:
        self.cut = cut
        self._ended = True

    def _begin_member(self) -> bool:
        """Starts on the next member. False if there is none in what was read so far."""
        # Padding with zeros after the last member is allowed (gzip manual, "tapes").
        self._compressed = self._compressed.lstrip(b"\0") if self._fed > len(self._compressed) else self._compressed
        if not self._compressed:
            return False
        if len(self._compressed) == 1:
            self._compressed += self._file.read(1)
            self._fed += len(self._compressed) - 1
        if not self._compressed.startswith(GZIP_MAGIC[: len(self._compressed)]):
            self._end("what follows is not gzip data")
            return False
        self._member_start = self._fed - len(self._compressed)
        self._member_bytes = 0
        self._inflater = isal_zlib.decompressobj(wbits=_GZIP_FORMAT)
        return True

    def _inflate(self, size: int) -> bytes:
        inflater = self._inflater
        assert inflater is not None
        try:
            piece = inflater.decompress(self._compressed, size)
        except igzip_lib.IsalError as error:  # type: ignore[misc]  # its stub declares an instance, not a class
            self.cut = f"it is corrupt ({error})"
            self._rest = self._read_again()
            return b""
        if inflater.eof:
            self._compressed = inflater.unused_data
            self._inflater = None
        else:
            self._compressed = inflater.unconsumed_tail
        return piece

    def _read_again(self) -> bytes:
        """What is readable between the bytes handed out and the error.

        The decompressor drops the output of the call that fails. That of zlib can be copied before each step, so the
        member is read once more with it, byte by byte around the error.
        """
        self._file.seek(self._member_start)
        inflater = zlib.decompressobj(wbits=_GZIP_FORMAT)
        skip, kept = self._member_bytes, b""
        while data := self._file.read(_COMPRESSED_PIECE):
            before = inflater.copy()
            try:
                piece = inflater.decompress(data)
            except zlib.error:
                piece = _until_error(before, data)
                return kept + piece[skip:]
            kept += piece[skip:]
            skip = max(0, skip - len(piece))
        return kept


def _until_error(inflater: zlib._Decompress, data: bytes) -> bytes:
    pieces = []
    try:
        for position in range(len(data)):
            pieces.append(inflater.decompress(data[position : position + 1]))
    except zlib.error:
        return b"".join(pieces)
    return b"".join(pieces)
