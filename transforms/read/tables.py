"""CSV framing: one record a row, a header row first.

A line feed ends a row only outside of quotes, that is where the number of quotes before it is even. Therefore a CSV
file is read in sequence; every block carries the header. One stray quote does not swallow the rows behind it: a row
that is open ends, as one faulty item, before the next line that is by itself a whole row: as wide as the header, a
number for its id.
"""

from __future__ import annotations

import csv
from bisect import bisect_left
from collections.abc import Iterator
from itertools import compress, repeat

import numpy as np

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
        names = [name.lower() for name in plan.header or ()]
        self._width, self._id = len(names), names.index("id")
        self._seen_header = False
        self.open: list[bytes] = []
        self._open_at = 0
        self._open_bytes = 0
        self._rows: list[bytes] = []
        self._offsets: list[int] = []

    def add(self, block: RawBlock) -> None:
        """Takes the lines of a block."""
        lines, offsets = block.items, block.offsets.tolist()
        odd = np.fromiter(map(bytes.count, lines, repeat(b'"')), np.int64, len(lines)) & 1
        places = np.flatnonzero(odd).tolist()
        done = 0
        while done < len(lines):
            if self.open:
                self._add_line(lines[done], offsets[done], bool(odd[done]))
                done += 1
                continue
            # Up to the next line with an odd number of quotes, each line is a row.
            index = places[bisect_left(places, done)] if places and places[-1] >= done else len(lines)
            self._rows += lines[done:index]
            self._offsets += offsets[done:index]
            if index < len(lines):
                self._add_line(lines[index], offsets[index], True)
            done = index + 1

    def _add_line(self, line: bytes, offset: int, odd: bool) -> None:
        if self.open and not odd and self._is_row(line):
            self.close()
            self._rows.append(line)
            self._offsets.append(offset)
            return
        if not self.open:
            self._open_at = offset
        self.open.append(line)
        self._open_bytes += len(line)
        if (odd and len(self.open) > 1) or self._open_bytes > LONGEST_ROW:
            self.close()

    def close(self) -> None:
        """Ends the open row."""
        self._rows.append(b"\n".join(self.open))
        self._offsets.append(self._open_at)
        self.open, self._open_bytes = [], 0

    def _is_row(self, line: bytes) -> bool:
        """Whether a line is as wide as the header and has a number for its id."""
        try:
            fields = next(csv.reader([line.decode("utf-8", "replace")]), [])
        except csv.Error:
            return False
        return len(fields) == self._width and fields[self._id].strip().isdigit()

    def take(self, block: RawBlock) -> RawBlock:
        """The rows so far, without line ends and empty ones, with the faults of ``block``."""
        rows = [row.removesuffix(b"\r") for row in self._rows]
        offsets = np.array(self._offsets, np.int64)
        filled = np.fromiter(map(bool, map(bytes.strip, rows)), np.bool_, len(rows))
        if not self._seen_header and filled.any():
            self._seen_header = True
            header = int(filled.argmax())
            rows, offsets, filled = (
                rows[:header] + rows[header + 1 :],
                np.delete(offsets, header),
                np.delete(filled, header),
            )
        empty = len(rows) - int(filled.sum())
        if empty:
            rows = list(compress(rows, filled))
            offsets = offsets[filled]
        self._rows, self._offsets = [], []
        return raw_block(self._plan, rows, offsets, empty, block.faults)
