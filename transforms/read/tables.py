"""CSV framing: one record a row, a header row first.

A line feed ends a row only outside of quotes, that is where the number of quotes before it is even. Therefore a CSV file is
read in sequence; every block carries the header. One stray quote does not swallow the rows behind it: a row that is open
ends, as one faulty item, before the next line that is a whole row of the header's width by itself.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import repeat

import numpy as np

from transforms.dead_letters import DeadLetter
from transforms.read.lines import read_lines
from transforms.read.raw import BlockPlan, RawBlock, raw_block
from transforms.read.sources import ByteSource

LONGEST_ROW = 1 << 20
"""A row that is still open after so many bytes is given up."""


def read_table(source: ByteSource, plan: BlockPlan, block_bytes: int, dead_dir: str | None) -> Iterator[RawBlock]:
    """Blocks of the rows of a CSV file, without its header.

    Args:
      source: the file's bytes, from its beginning.
      plan: the file; its header tells how wide a row is.
      block_bytes: bytes read for a block.
      dead_dir: where lines that are too large are stored, or None.
    """
    rows = _Rows(plan)
    for block in read_lines(source, plan, block_bytes, dead_dir):
        rows.add(block)
        yield rows.take(block)
    if rows.open:
        rows.close()
        yield rows.take(raw_block(plan, [], np.empty(0, np.int64)))


class _Rows:
    """Joins lines to rows across blocks."""

    def __init__(self, plan: BlockPlan) -> None:
        self._plan = plan
        self._width = len(plan.header or ())
        self._seen_header = False
        self.open: list[bytes] = []
        self._open_at = 0
        self._open_bytes = 0
        self._items: list[bytes] = []
        self._offsets: list[int] = []

    def add(self, block: RawBlock) -> None:
        """Takes the lines of a block."""
        lines, offsets = block.items, block.offsets.tolist()
        if not self._seen_header and lines:
            self._seen_header = True
            lines, offsets = lines[1:], offsets[1:]
        odd = np.fromiter(map(bytes.count, lines, repeat(b'"')), np.int64, len(lines)) & 1
        done = 0
        for index in np.flatnonzero(odd).tolist() if not self.open else range(len(lines)):
            if index < done:
                continue
            if not self.open:
                self._items += lines[done:index]
                self._offsets += offsets[done:index]
            done = index
            while done < len(lines):
                self._add_line(lines[done], offsets[done], bool(odd[done]))
                done += 1
                if not self.open:
                    break
        self._items += lines[done:]
        self._offsets += offsets[done:]

    def _add_line(self, line: bytes, offset: int, odd: bool) -> None:
        if self.open and not odd and self._is_row(line):
            self.close()
        if not self.open:
            self._open_at = offset
        self.open.append(line)
        self._open_bytes += len(line)
        if odd == (len(self.open) > 1) or self._open_bytes > LONGEST_ROW:
            self.close()

    def close(self) -> None:
        """Ends the open row."""
        self._items.append(b"\n".join(self.open))
        self._offsets.append(self._open_at)
        self.open, self._open_bytes = [], 0

    def _is_row(self, line: bytes) -> bool:
        try:
            return len(next(csv.reader([line.decode("utf-8", "replace")]), [])) == self._width > 1
        except csv.Error:
            return False

    def take(self, block: RawBlock) -> RawBlock:
        """The rows so far, with what ``block`` counted."""
        faults: list[DeadLetter] = block.faults
        taken = raw_block(self._plan, self._items, np.array(self._offsets, np.int64), block.empty, faults)
        self._items, self._offsets = [], []
        return taken
