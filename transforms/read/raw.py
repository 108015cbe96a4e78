"""What the reader hands on: plans of what to read, and blocks of raw records."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np

from transforms.dead_letters import DeadLetter

BLOCK_BYTES = 16 << 20
"""Bytes of (decompressed) input in a block."""

MAX_RECORD_BYTES = 16 << 20
"""Longest line, row or array element that is read into memory; a longer one is a dead letter ``too_large``."""

WHITESPACE = b" \t\r\n"
"""White space of JSON (RFC 8259). A line of nothing else is empty."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BlockPlan(msgspec.Struct, frozen=True):
    """A range of one file, read by one worker.

    Attributes:
      feed: 0 events, 1 usage, as the file was given.
      path: the file, on any Beam file system.
      ingest_time: time of the file in microseconds, UTC.
      gzip: whether the file is compressed.
      framing: ``lines``, ``documents`` or ``csv``.
      start, end: bytes of the file. The plan owns the lines whose first byte lies in [start, end). An end of -1 means
        that the whole file is read in sequence.
      header: column names of a CSV file, else None.
      number: number of the plan in the run, from 0.
    """

    feed: int
    path: str
    ingest_time: int
    gzip: bool
    framing: str
    start: int
    end: int
    header: tuple[str, ...] | None
    number: int


@dataclass
class RawBlock:
    """Raw records of one file. ``len(items) + len(faults) + empty`` is what was received.

    Attributes:
      feed, path, ingest_time, framing, header: as in the plan.
      items: bytes of one record each: a line without its line end, an array element, a CSV row (not its header).
      offsets: int64, where each item begins in the file, after decompression.
      empty: number of empty lines.
      faults: what the reader itself found: ``too_large``, ``gzip_cut``.
    """

    feed: int
    path: str
    ingest_time: int
    framing: str
    header: tuple[str, ...] | None
    items: list[bytes]
    offsets: np.ndarray
    empty: int = 0
    faults: list[DeadLetter] = field(default_factory=list)


def raw_block(
    plan: BlockPlan, items: list[bytes], offsets: np.ndarray, empty: int = 0, faults: list[DeadLetter] | None = None
) -> RawBlock:
    """A block of ``plan``'s file."""
    return RawBlock(
        plan.feed, plan.path, plan.ingest_time, plan.framing, plan.header, items, offsets, empty, faults or []
    )
