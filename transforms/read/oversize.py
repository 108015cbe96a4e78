"""Records that are too large for memory: measured, digested and stored as they stream by."""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO

import xxhash
from apache_beam.io.filesystems import FileSystems

from transforms.dead_letters import MALFORMED, DeadLetter, scrub
from transforms.read.raw import MAX_RECORD_BYTES, BlockPlan

_SCRUB_PIECE = 1 << 20
_MARGIN = 8 << 10
_CUTS = 64


class OversizedRecord:
    """A record of more than `MAX_RECORD_BYTES`, taken piece by piece.

    Its bytes go, secrets replaced, to ``dead_dir/<sha256 of the bytes as received>``; without a ``dead_dir`` they are
    only measured. Memory: two pieces of 1 MiB.
    """

    def __init__(self, plan: BlockPlan, offset: int, dead_dir: str | None) -> None:
        self._plan, self._offset, self._dead_dir = plan, offset, dead_dir
        self._digest = hashlib.sha256()
        self._size = 0
        self._scrubber = Scrubber()
        self._file: BinaryIO | None = None
        self._temporary = ""
        if dead_dir is not None:
            # The name is the record's place: a second run takes over what a killed one has left.
            place = xxhash.xxh3_64_hexdigest(f"{plan.path}\0{offset}".encode("utf-8", "surrogateescape"))
            self._temporary = FileSystems.join(dead_dir, f".tmp-{place}")
            if "://" not in dead_dir:
                os.makedirs(dead_dir, exist_ok=True)
            self._file = FileSystems.create(self._temporary)

    def add(self, data: bytes) -> None:
        """Takes the next bytes."""
        for start in range(0, len(data), _SCRUB_PIECE):
            piece = data[start : start + _SCRUB_PIECE]
            self._digest.update(piece)
            self._size += len(piece)
            if self._file is not None:
                self._file.write(self._scrubber.add(piece))

    def finish(self) -> DeadLetter:
        """Closes the file under its final name and gives the dead letter."""
        sha256 = self._digest.hexdigest()
        if self._file is not None and self._dead_dir is not None:
            self._file.write(self._scrubber.finish())
            self._file.close()
            _publish(self._temporary, FileSystems.join(self._dead_dir, sha256))
        return DeadLetter(
            kind=MALFORMED,
            feed=self._plan.feed,
            reason="too_large",
            message=f"expected a record of at most {MAX_RECORD_BYTES} bytes, found one of {self._size} bytes",
            payload=None,
            source_file=self._plan.path,
            byte_offset=self._offset,
            ingest_time=self._plan.ingest_time,
            payload_size=self._size,
            payload_sha256=sha256,
        )


def oversized(plan: BlockPlan, offset: int, data: bytes, dead_dir: str | None) -> DeadLetter:
    """The dead letter of a record that is too large but at hand."""
    record = OversizedRecord(plan, offset, dead_dir)
    record.add(data)
    return record.finish()


def _publish(temporary: str, path: str) -> None:
    if "://" not in path:
        os.replace(temporary, path)
    elif FileSystems.exists(path):
        # Named by its content: another attempt has stored the same bytes.
        FileSystems.delete([temporary])
    else:
        FileSystems.rename([temporary], [path])


class Scrubber:
    """`scrub` over a stream: the same result as over the whole, as long as no secret exceeds 8 KiB."""

    def __init__(self) -> None:
        self._held = b""

    def add(self, data: bytes) -> bytes:
        """Takes bytes and gives those, scrubbed, that no later byte can change."""
        self._held += data
        if len(self._held) < _SCRUB_PIECE:
            return b""
        cut = _safe_cut(self._held)
        ready, self._held = self._held[:cut], self._held[cut:]
        return scrub(ready)

    def finish(self) -> bytes:
        """The rest."""
        ready, self._held = self._held, b""
        return scrub(ready)


def _safe_cut(data: bytes) -> int:
    """A place near the end of ``data`` where no secret is cut: both sides scrubbed apart give the same as together."""
    for step in range(1, _CUTS):
        cut = len(data) - step * _MARGIN
        if cut < _MARGIN:
            break
        before, after = data[cut - _MARGIN : cut], data[cut : cut + _MARGIN]
        if scrub(before) + scrub(after) == scrub(before + after):
            return cut
    # Nothing but secrets for half a mebibyte: each side is scrubbed by itself.
    return len(data)
