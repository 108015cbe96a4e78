"""Read single records back from an input file, by offset and length."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

from apache_beam.io.filesystems import CompressionTypes, FileSystems

_GZIP_MAGIC = b"\x1f\x8b"
_SKIP = 1 << 20


def read_payloads(path: str, offsets: Sequence[int], lengths: Sequence[int]) -> Iterator[bytes]:
    """Yields the bytes at each offset of the file, as decompressed, in one pass.

    Args:
      path: an input file, gzip or not.
      offsets: ascending offsets in the decompressed file.
      lengths: length at each offset.

    Raises:
      OSError: the file cannot be read, or is shorter than it was.
    """
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as plain:
        packed = plain.read(2) == _GZIP_MAGIC
        plain.seek(0)
        file = cast(BinaryIO, gzip.GzipFile(fileobj=plain) if packed else plain)
        position = 0
        for offset, length in zip(offsets, lengths, strict=True):
            if packed:
                while position < offset:
                    position += len(file.read(min(_SKIP, offset - position))) or _shorter(path, offset)
            else:
                file.seek(offset)
            payload = file.read(length)
            position = offset + len(payload)
            if len(payload) != length:
                _shorter(path, offset)
            yield payload


def _shorter(path: str, offset: int) -> int:
    raise OSError(f"{path}: no longer holds the record at byte {offset}; it was changed meanwhile. Run the job again.")
