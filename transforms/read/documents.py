"""Document framing: JSON that is not one record a line.

Arrays on one line or pretty-printed, single objects, and any number of these one after another. The file is read in
sequence, in pieces; memory stays flat for an array of any size.

One malformed element does not swallow those behind it. What does not close within 64 KiB, or at the end of the file, is
judged by a JSON parser: text that no continuation can make valid is given up at the first later place where a complete
object that names a time (every record does: a field ending in ``timestamp``) begins; so is an element that a bracket of
the other kind closes. What was given up is one item, which decoding then turns into one dead letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import numpy as np

from transforms.dead_letters import DeadLetter
from transforms.read.elements import array_elements
from transforms.read.lines import cut_letter
from transforms.read.oversize import OversizedRecord, oversized
from transforms.read.raw import BYTE_ORDER_MARK, MAX_RECORD_BYTES, WHITESPACE, BlockPlan, RawBlock, raw_block
from transforms.read.sources import ByteSource
from transforms.read.structure import Marks, State, scan

_PIECE = 256 << 10
_FIRST_CHECK = 64 << 10
_LARGEST_SALVAGED = 64 << 10
_SEPARATORS = WHITESPACE + b","
_COMMA = ord(",")
_CANDIDATE = re.compile(rb'\{(?<=[\[,}\]\s]\{)\s*"')  # the literal first: found with memchr
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_any_decoder = msgspec.json.Decoder(msgspec.Raw)


def read_documents(source: ByteSource, plan: BlockPlan, block_bytes: int, dead_dir: str | None) -> Iterator[RawBlock]:
    """Blocks of the file's items, of about ``block_bytes`` each.

    Args:
      source: the file's bytes, from its beginning.
      plan: the file.
      block_bytes: bytes of items in a block.
      dead_dir: where elements that are too large are stored, or None.
    """
    reader = _DocumentReader(source, plan, dead_dir)
    while reader.advance():
        if reader.item_bytes >= block_bytes:
            yield reader.take()
    if reader.items or reader.faults:
        yield reader.take()


class _DocumentReader:
    """Reads piece by piece; collects items until they are taken."""

    def __init__(self, source: ByteSource, plan: BlockPlan, dead_dir: str | None) -> None:
        self._source, self._plan, self._dead_dir = source, plan, dead_dir
        self._state = State()
        self._open = b""  # text of the item, or gap, that is not at its end
        self._offset = 0  # where it begins in the file
        self._check_at = _FIRST_CHECK
        self._record: OversizedRecord | None = None
        self._salvage_record = False
        self.items: list[bytes] = []
        self.offsets: list[int] = []
        self.faults: list[DeadLetter] = []
        self.item_bytes = 0
        mark = source.read(len(BYTE_ORDER_MARK))
        if mark == BYTE_ORDER_MARK:
            self._offset = len(mark)
        else:
            source.unread(mark)

    def take(self) -> RawBlock:
        """What was collected."""
        block = raw_block(self._plan, self.items, np.array(self.offsets, np.int64), 0, self.faults)
        self.items, self.offsets, self.faults, self.item_bytes = [], [], [], 0
        return block

    def advance(self) -> bool:
        """Reads one piece. False at the end."""
        piece = self._source.read(_PIECE)
        if not piece:
            return self._finish()
        if self._record is not None:
            self._continue_record(piece)
            return True
        was_in_item = self._state.in_item
        text = self._open + piece
        marks = scan(text, len(self._open), self._state)
        if self._give_up_mismatched(text, marks, was_in_item):
            return True
        done = self._collect(text, marks, was_in_item)
        self._open = text[done:]
        self._offset += done
        if done:
            self._check_at = _FIRST_CHECK
        if not self._state.in_item and not self._state.in_string and not self._open.strip(_SEPARATORS):
            self._offset += len(self._open)
            self._open = b""
        if len(self._open) >= self._check_at:
            self._check_open()
        return True

    def _collect(self, text: bytes, marks: Marks, was_in_item: bool) -> int:
        """Adds the items and garbage that ``marks`` delimit. Returns where the text begins that is not at its end."""
        starts = np.concatenate([[0], marks.opens]) if was_in_item else marks.opens
        ends = marks.closes + 1
        found = list(zip(starts.tolist(), ends.tolist(), strict=False))
        # Gaps end where an item opens, or at a bracket of a top-level array; they begin behind the mark before.
        gap_ends = np.sort(np.concatenate([marks.opens, marks.borders]))
        behind = np.sort(np.concatenate([[-1] if not was_in_item else [], marks.closes, marks.borders])) + 1
        gap_starts = behind[: len(gap_ends)].astype(np.int64)
        codes = np.frombuffer(text, np.uint8)
        width = gap_ends - gap_starts
        plain = (width == 0) | ((width == 1) & (codes[np.minimum(gap_starts, len(codes) - 1)] == _COMMA))
        odd = np.flatnonzero(~plain)
        garbage = [
            (start, end)
            for start, end in zip(gap_starts[odd].tolist(), gap_ends[odd].tolist(), strict=True)
            if text[start:end].strip(_SEPARATORS)
        ]
        for start, end in sorted(found + garbage) if garbage else found:
            if garbage and (start, end) in garbage:
                self._add_garbage(text[start:end], self._offset + start)
            else:
                self._add(text[start:end], self._offset + start)
        if self._state.in_item:
            return int(starts[-1])
        return int(behind[-1]) if len(behind) else 0

    def _add(self, item: bytes, offset: int) -> None:
        if len(item) > MAX_RECORD_BYTES:
            self.faults.append(oversized(self._plan, offset, item, self._dead_dir))
            return
        self.items.append(item)
        self.offsets.append(offset)
        self.item_bytes += len(item)

    def _add_garbage(self, text: bytes, offset: int) -> None:
        """Adds what lies between items: numbers and strings as elements of their own, else one item."""
        elements = array_elements(b"[" + text.strip(_SEPARATORS) + b"]")
        offset += len(text) - len(text.lstrip(_SEPARATORS))
        for element, position in elements or [(text.strip(_SEPARATORS), 1)]:
            self._add(element, offset + position - 1)

    def _check_open(self) -> None:
        """Judges an item, or gap, that has grown long: gives it up, streams it out, or lets it grow."""
        malformed = not self._state.in_item or _is_malformed(self._open)
        if malformed and self._give_up():
            return
        self._check_at = 2 * len(self._open)
        if len(self._open) > MAX_RECORD_BYTES:
            self._record = OversizedRecord(self._plan, self._offset, self._dead_dir)
            self._record.add(self._open)
            self._offset += len(self._open)
            self._open = b""
            self._salvage_record = malformed

    def _give_up(self) -> bool:
        """Ends the malformed open text where the next record begins. False if none is seen."""
        place = _next_record(self._open, 1 if self._state.in_item else 0)
        if place is None:
            return False
        lost = self._open[:place]
        if lost.strip(_SEPARATORS):
            self._add(lost.rstrip(_SEPARATORS), self._offset)
        self._restart(self._open[place:], place)
        return True

    def _give_up_mismatched(self, text: bytes, marks: Marks, was_in_item: bool) -> bool:
        """Ends the first item that a bracket of the other kind closes where the next record in it begins.

        False if there is none: such items are then items like others, for decoding to judge.
        """
        starts = np.concatenate([[0], marks.opens]) if was_in_item else marks.opens
        starts = starts[: len(marks.closes)].astype(np.int64)
        codes = np.frombuffer(text, np.uint8)
        # The codes of a pair of brackets differ by two.
        for index in np.flatnonzero(codes[marks.closes] - codes[starts] != 2).tolist():
            start, end, level = int(starts[index]), int(marks.closes[index]) + 1, int(marks.levels[index])
            place = _next_record(text[start:end], 1)
            if place is None:
                continue
            before = marks.closes < start
            kept = Marks(
                marks.opens[marks.opens <= start],
                marks.closes[before],
                marks.levels[before],
                marks.borders[marks.borders < start],
            )
            self._state = State(level, bool(level))
            self._collect(text, kept, was_in_item)
            self._add(text[start : start + place].rstrip(_SEPARATORS), self._offset + start)
            self._restart(text[start + place :], start + place)
            return True
        return False

    def _restart(self, rest: bytes, consumed: int) -> None:
        self._source.unread(rest)
        self._offset += consumed
        self._open = b""
        self._check_at = _FIRST_CHECK
        self._state.restart()

    def _continue_record(self, piece: bytes) -> None:
        """Takes a piece of an item, or gap, that is too large; ends it where it closes or the next record begins."""
        assert self._record is not None
        was_in_item = self._state.in_item
        before = State(self._state.depth, self._state.in_array)
        marks = scan(piece, 0, self._state)
        places = (marks.closes + 1)[:1] if was_in_item else np.sort(np.concatenate([marks.opens, marks.borders]))[:1]
        end: int | None = int(places[0]) if places.size else None
        salvaged = _next_record(piece[:end], 0) if self._salvage_record else None
        end = end if salvaged is None else salvaged
        if end is None:
            self._record.add(piece)
            self._offset += len(piece)
            return
        self._record.add(piece[:end])
        self.faults.append(self._record.finish())
        self._record = None
        self._state = before
        self._restart(piece[end:], end)

    def _finish(self) -> bool:
        """At the end of the file. True if there is more to read after all."""
        if self._record is not None:
            self.faults.append(self._record.finish())
            self._record = None
        rest = self._open.rstrip(WHITESPACE) if self._open.strip(_SEPARATORS) else b""
        if rest and (not self._state.in_item or _is_malformed(rest)) and self._give_up():
            return True
        cut = cut_letter(self._plan, self._source, self._offset, rest)
        if cut is not None:
            self.faults.append(cut)
        elif rest and self._state.in_item:
            self._add(rest, self._offset)
        elif rest:
            self._add_garbage(rest, self._offset)
        self._open = b""
        return False


def _is_malformed(text: bytes) -> bool:
    """Whether no continuation can make ``text`` valid JSON."""
    try:
        _any_decoder.decode(text)
    except msgspec.DecodeError as error:
        return "truncated" not in str(error)
    except RecursionError:
        return False
    return False


def _next_record(text: bytes, start: int) -> int | None:
    """Where the first complete object that names a time begins at or after ``start``."""
    for candidate in _CANDIDATE.finditer(text, start):
        place = candidate.start()
        window = memoryview(text)[place : place + _LARGEST_SALVAGED]
        try:
            _any_decoder.decode(window)
            end = len(window)
        except msgspec.DecodeError as error:
            trailing = _TRAILING.search(str(error))
            if trailing is None:
                continue
            end = int(trailing[1]) - 1  # the byte that msgspec names is the one it has just read
            if window[end] not in b",]{[":
                continue
        except RecursionError:
            continue
        if b'timestamp"' in bytes(window[:end]):
            return place
    return None
