"""Payloads of messages, such as those of Pub/Sub, to raw blocks.

A payload holds one record (a JSON object, also pretty-printed), a JSON array of records, or one record a line; gzip or
not, told by its first bytes. It is read as a file of that content would be. The usual case, one record on one line,
costs a look at its ends and no parsing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import NamedTuple

import numpy as np
from isal import igzip_lib, isal_zlib

from transforms.dead_letters import DeadLetter
from transforms.read.documents import read_documents
from transforms.read.elements import array_elements
from transforms.read.framing import DOCUMENTS, HEAD_BYTES, LINES, find_framing
from transforms.read.lines import read_lines
from transforms.read.raw import BLOCK_BYTES, BYTE_ORDER_MARK, MAX_RECORD_BYTES, WHITESPACE, BlockPlan, RawBlock
from transforms.read.sources import GZIP_MAGIC, ByteSource

MOST_ITEMS = 1 << 17
"""Items of a block at most: payloads may hold very many very short ones."""

_GZIP_FORMAT = 31
_AT_ONCE = 1 << 20
"""Bytes that a compressed payload is unpacked to in one step; what is longer is read in pieces."""


class MessageBlock(NamedTuple):
    """A raw block of messages, and how far it goes.

    Attributes:
      raw: the block.
      messages: how many of all messages are in this block and those before it, from beginning to end.
      is_cut: whether a message may begin in this block that goes on in the next one.
    """

    raw: RawBlock
    messages: int
    is_cut: bool


@dataclass
class _Gathered:
    """What is to be the next block."""

    ingest_time: int
    items: list[bytes] = field(default_factory=list)
    size: int = 0
    empty: int = 0
    faults: list[DeadLetter] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return self.size >= BLOCK_BYTES or len(self.items) + len(self.faults) >= MOST_ITEMS


def message_blocks(
    feed: int, source: str, messages: Iterable[tuple[bytes, int]], dead_dir: str | None = None
) -> Iterator[MessageBlock]:
    """Yields the raw blocks of messages: at least one if there is a message.

    Each payload gives its records as items; one that is none of the known forms is one item, which decoding turns into
    a dead letter; an empty one counts as an empty line; one whose gzip data is cut gives what is readable, and a fault.
    The same messages give the same blocks. Memory is that of a block, whatever a payload unpacks to.

    Args:
      feed: 0 events, 1 usage.
      source: where the messages come from: the subscription's full name.
      messages: payload and time of publication (microseconds, UTC) of each.
      dead_dir: directory for records of more than `MAX_RECORD_BYTES`; None: they are only measured.

    Returns:
      blocks of `BLOCK_BYTES` and `MOST_ITEMS` at most (a single record apart); their offsets are the items' numbers
      within the block.
    """
    gathered: _Gathered | None = None
    for number, (payload, ingest_time) in enumerate(messages, 1):
        if gathered is None:
            gathered = _Gathered(ingest_time)
        if _is_one_line(payload):
            gathered.items.append(payload)
            gathered.size += len(payload)
        else:
            for piece in _pieces(feed, source, payload, ingest_time, dead_dir):
                for raw in _add(gathered, piece, feed, source):
                    yield MessageBlock(raw, number - 1, True)
        if gathered.is_full:
            yield MessageBlock(_block(feed, source, gathered), number, False)
            gathered = None
    if gathered is not None:
        yield MessageBlock(_block(feed, source, gathered), number, False)


def _is_one_line(payload: bytes) -> bool:
    """Whether the payload looks like one record on one line; whether it is one, decoding finds out."""
    return payload[:1] == b"{" and payload[-1:] == b"}" and b"\n" not in payload and b"}{" not in payload


def _add(gathered: _Gathered, piece: RawBlock, feed: int, source: str) -> Iterator[RawBlock]:
    """Adds what was read of a payload; yields blocks as they get full."""
    gathered.empty += piece.empty
    gathered.faults += piece.faults
    for start in range(0, len(piece.items), MOST_ITEMS):
        items = piece.items[start : start + MOST_ITEMS]
        if gathered.items and (
            len(gathered.items) + len(items) > MOST_ITEMS or gathered.size + sum(map(len, items)) > BLOCK_BYTES
        ):
            yield _block(feed, source, gathered)
            gathered.items, gathered.size, gathered.empty, gathered.faults = [], 0, 0, []
            gathered.ingest_time = piece.ingest_time
        gathered.items += items
        gathered.size += sum(map(len, items))


def _block(feed: int, source: str, gathered: _Gathered) -> RawBlock:
    for number, fault in enumerate(gathered.faults, len(gathered.items)):
        fault.byte_offset = number
    offsets = np.arange(len(gathered.items), dtype=np.int64)
    return RawBlock(
        feed, source, gathered.ingest_time, LINES, None, gathered.items, offsets, gathered.empty, gathered.faults
    )


def _pieces(feed: int, source: str, payload: bytes, ingest_time: int, dead_dir: str | None) -> Iterator[RawBlock]:
    """What a payload holds, in pieces of a block's size; offsets mean nothing."""
    packed = payload.startswith(GZIP_MAGIC)
    content = _unpacked(payload) if packed else payload
    if content is not None:
        items = _short_cut(content)
        if items is not None:
            yield RawBlock(feed, source, ingest_time, LINES, None, items, _NO_OFFSETS, 0 if items else 1)
            return
    with ByteSource(BytesIO(payload), packed) as reader:
        head = reader.read(HEAD_BYTES)
        reader.unread(head)
        is_document = find_framing(head)[0] == DOCUMENTS
        plan = BlockPlan(feed, source, ingest_time, packed, DOCUMENTS if is_document else LINES, 0, -1, None, 0)
        read_any = read_documents if is_document else read_lines
        found = False
        for piece in read_any(reader, plan, BLOCK_BYTES, dead_dir):
            for fault in piece.faults:
                if fault.reason == "gzip_cut":
                    _tell_of_message(fault, payload, found or bool(piece.items))
            found = found or bool(piece.items or piece.faults or piece.empty)
            yield piece
        if not found:
            yield RawBlock(feed, source, ingest_time, LINES, None, [], _NO_OFFSETS, 1)


def _tell_of_message(fault: DeadLetter, payload: bytes, any_read: bool) -> None:
    """A file can be looked at again, a message cannot: if nothing of it was readable, its bytes are kept."""
    fault.message = fault.message.replace("the gzip file", "a gzip message of", 1)
    if not fault.payload and not any_read:
        fault.payload = payload


def _unpacked(payload: bytes) -> bytes | None:
    """The content of a gzip payload; None if it is long, of several members, or damaged."""
    inflater = isal_zlib.decompressobj(wbits=_GZIP_FORMAT)
    try:
        content = bytes(inflater.decompress(payload, _AT_ONCE))
    except igzip_lib.IsalError:  # type: ignore[misc]  # its stub declares an instance, not a class
        return None
    return content if inflater.eof and not inflater.unused_data else None


def _short_cut(content: bytes) -> list[bytes] | None:
    """The items of the simple forms: one record on a line, an array, and what is neither records nor white space."""
    text = content.strip(WHITESPACE)
    if not text:
        return []
    if _is_one_line(text):
        return [text]
    if len(text) > MAX_RECORD_BYTES:
        return None
    if text[:1] == b"[":
        elements = array_elements(text)
        return None if elements is None else [element for element, _ in elements]
    is_records = text[:1] == b"{" or text.startswith(BYTE_ORDER_MARK) or b"\n{" in text
    return None if is_records else [content]


_NO_OFFSETS = np.empty(0, np.int64)
