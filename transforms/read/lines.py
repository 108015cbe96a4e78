"""Line framing: one record a line.

A line is what lies between two line feeds; a carriage return before the line feed belongs to the line end. Every line
gives exactly one item, or counts as empty, or is a fault of its own (``too_large``) - but for a line that is a JSON
array (a webhook batch), which gives one item per element.

Cost: one split and one pass over the lengths; only lines that do not begin with ``{`` are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np

from transforms.dead_letters import MALFORMED, DeadLetter
from transforms.read.elements import array_elements, is_complete
from transforms.read.framing import CSV
from transforms.read.oversize import OversizedRecord, oversized
from transforms.read.raw import BYTE_ORDER_MARK, MAX_RECORD_BYTES, WHITESPACE, BlockPlan, RawBlock, raw_block
from transforms.read.sources import ByteSource

_TAIL_PIECE = 64 << 10
_OBJECT, _ARRAY = ord("{"), ord("[")


def read_lines(source: ByteSource, plan: BlockPlan, block_bytes: int, dead_dir: str | None) -> Iterator[RawBlock]:
    """Blocks of the lines that ``plan`` owns. ``source`` stands at ``max(0, plan.start - 1)``.

    Args:
      source: the file's bytes.
      plan: which lines to read.
      block_bytes: bytes read for a block, where the plan has no end.
      dead_dir: where lines that are too large are stored, or None.
    """
    if plan.end >= 0:
        # One byte before the range tells whether the range begins with a line of its own.
        size = plan.end - max(0, plan.start - 1)
        block, _ = _read_block(source, plan, plan.start, size, plan.start > 0, dead_dir)
        if block is not None:
            yield block
        return
    offset: int | None = plan.start
    while offset is not None:
        block, offset = _read_block(source, plan, offset, block_bytes, False, dead_dir)
        if block is not None:
            yield block


def _read_block(
    source: ByteSource, plan: BlockPlan, offset: int, size: int, skip: bool, dead_dir: str | None
) -> tuple[RawBlock | None, int | None]:
    """The lines that begin in the next ``size`` bytes, and the offset after them (None at the end of the file)."""
    data = source.read(size)
    if not data:
        cut = cut_letter(plan, source, offset, b"")
        return (raw_block(plan, [], np.empty(0, np.int64), 0, [cut]) if cut else None), None
    lines = _split(data)
    first = 0
    if skip:
        # The line that the range begins in belongs to the plan before.
        first = len(lines.pop(0)) + 1
        if not lines:
            return None, None
        offset += first - 1
    tail = lines[-1]
    tail_start = offset + len(data) - first - len(tail)
    letters: list[DeadLetter] = []
    end: int | None = tail_start
    if not tail:
        lines.pop()
    else:
        completed, end = _complete(source, plan, tail, tail_start, dead_dir)
        if isinstance(completed, bytes):
            lines[-1] = completed
        else:
            lines.pop()
            letters.append(completed)
        if source.cut and isinstance(completed, bytes) and end is None and not is_complete(completed):
            lines.pop()
            letters.append(_cut(plan, source.cut, tail_start, completed))
        elif source.cut and end is None:
            letters.append(_cut(plan, source.cut, tail_start + len(tail), b""))
    return _frame(plan, lines, data, first, offset, letters, dead_dir), end


def _split(data: bytes) -> list[bytes]:
    """``data.split(b"\\n")`` in half the time: iteration looks for line feeds with memchr."""
    lines = [line[:-1] for line in BytesIO(data)]
    if data.endswith(b"\n"):
        lines.append(b"")
    else:
        lines[-1] = data[len(data) - len(lines[-1]) - 1 :]
    return lines


def _complete(
    source: ByteSource, plan: BlockPlan, tail: bytes, offset: int, dead_dir: str | None
) -> tuple[bytes | DeadLetter, int | None]:
    """The whole line that begins with ``tail``, or its dead letter; and the offset after it (None at the end)."""
    pieces, length = [tail], len(tail)
    record: OversizedRecord | None = None
    end: int | None = None
    while piece := source.read(_TAIL_PIECE):
        line, found, rest = piece.partition(b"\n")
        pieces.append(line)
        length += len(line)
        if length > MAX_RECORD_BYTES:
            record = record or OversizedRecord(plan, offset, dead_dir)
            record.add(b"".join(pieces))
            pieces.clear()
        if found:
            source.unread(rest)
            end = offset + length + 1
            break
    if record is None and length > MAX_RECORD_BYTES:
        return oversized(plan, offset, b"".join(pieces), dead_dir), end
    return (b"".join(pieces) if record is None else record.finish()), end


def _frame(
    plan: BlockPlan,
    lines: list[bytes],
    data: bytes,
    first: int,
    offset: int,
    letters: list[DeadLetter],
    dead_dir: str | None,
) -> RawBlock | None:
    """The block of ``lines``, the first of which stands at ``data[first]`` and at ``offset`` in the file."""
    if not lines:
        return raw_block(plan, [], np.empty(0, np.int64), 0, letters) if letters else None
    lengths = np.fromiter(map(len, lines), np.int64, len(lines))
    starts = np.zeros(len(lines), np.int64)
    np.cumsum(lengths[:-1] + 1, out=starts[1:])
    begins = np.frombuffer(data, np.uint8)[starts + first]
    offsets = starts + offset
    too_large = lengths > MAX_RECORD_BYTES
    if plan.framing == CSV:
        # Whether a line feed, white space or a bracket means something depends on the quotes around it: `tables` knows.
        odd = np.flatnonzero(too_large)
    else:
        odd = np.flatnonzero(too_large | (begins != _OBJECT))
        if b"\r" in data or lines[-1].endswith(b"\r"):
            lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
    if not odd.size:
        return raw_block(plan, lines, offsets, 0, letters)
    return _frame_odd(plan, lines, offsets, odd, letters, dead_dir)


def _frame_odd(
    plan: BlockPlan,
    lines: list[bytes],
    offsets: np.ndarray,
    odd: np.ndarray,
    letters: list[DeadLetter],
    dead_dir: str | None,
) -> RawBlock:
    """The same where the lines ``odd`` may be empty, an array, too large or begin with a byte order mark."""
    items: list[bytes] = []
    places: list[np.ndarray] = []
    found: list[DeadLetter] = []
    empty = done = 0
    for index in odd.tolist():
        items += lines[done:index]
        places.append(offsets[done:index])
        done = index + 1
        line, offset = lines[index], int(offsets[index])
        if len(line) > MAX_RECORD_BYTES:
            found.append(oversized(plan, offset, line, dead_dir))
            continue
        if line.startswith(BYTE_ORDER_MARK):
            line, offset = line[len(BYTE_ORDER_MARK) :], offset + len(BYTE_ORDER_MARK)
        text = line.strip(WHITESPACE)
        if not text:
            empty += 1
            continue
        elements = array_elements(line) if text[0] == _ARRAY and text.endswith(b"]") else None
        if elements is None:
            items.append(line)
            places.append(np.array([offset], np.int64))
        else:
            items += [element for element, _ in elements]
            places.append(np.array([position for _, position in elements], np.int64) + offset)
    items += lines[done:]
    places.append(offsets[done:])
    return raw_block(plan, items, np.concatenate(places), empty, found + letters)


def cut_letter(plan: BlockPlan, source: ByteSource, offset: int, payload: bytes) -> DeadLetter | None:
    """The dead letter ``gzip_cut`` if ``source`` ended early. ``payload``: the unfinished record at ``offset``."""
    return _cut(plan, source.cut, offset, payload) if source.cut else None


def _cut(plan: BlockPlan, cut: str, offset: int, payload: bytes) -> DeadLetter:
    return DeadLetter(
        kind=MALFORMED,
        feed=plan.feed,
        reason="gzip_cut",
        message=f"the gzip file {plan.path} could be read up to byte {offset + len(payload)} of its content: {cut}",
        payload=payload,
        source_file=plan.path,
        byte_offset=offset,
        ingest_time=plan.ingest_time,
    )
