"""Blocks of raw records to record batches and dead letters: a pure function.

Every item of a block becomes exactly one record, dead letter or counted empty line. Nothing is raised: what is wrong
with a record is a value.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from transforms.dead_letters import MALFORMED, DeadLetter
from transforms.decode.columns import Builder, Note
from transforms.decode.faults import Fault
from transforms.decode.secrets import scrub_batch
from transforms.decode.shared import Shared
from transforms.decode.structs import STRICT
from transforms.decode.tolerant import Taken, take_json, take_row

if TYPE_CHECKING:
    from transforms.read.blocks import RawBlock

CHUNK_LINES = 500
"""Records that are decoded and turned into columns at a time: their objects stay in the processor's cache."""

HEADROOM = 250
"""Stack frames kept free below the decoders, so that a text which they take is not too deep for later steps."""

_REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass
class Decoded:
    """What a block gave.

    Attributes:
      batches: events and usage records in their record schemas, in input order; None where there is none.
      faults: dead letters, those that the reader found included.
      received: items by kind: records by their own kind, dead letters and empty lines by kind of the file. Their sum is
        empty + dead letters + records.
      empty: empty lines.
    """

    batches: tuple[pa.RecordBatch | None, pa.RecordBatch | None]
    faults: list[DeadLetter]
    received: dict[int, int]
    empty: int


@dataclass(slots=True)
class _Source:
    """What the items of a block share."""

    feed: int
    path: str
    ingest_time: int
    header: tuple[str, ...] | None


@dataclass(slots=True)
class _Rows:
    """Structs of one kind in a chunk."""

    rows: list[int] = field(default_factory=list)
    structs: list[Any] = field(default_factory=list)
    notes: dict[int, Note] = field(default_factory=dict)
    numbers: np.ndarray | None = None  # of the shared objects, where they are known

    def add(self, row: int, taken: Taken) -> None:
        if taken.note is not None:
            self.notes[len(self.rows)] = taken.note
        self.rows.append(row)
        self.structs.append(taken.struct)


@dataclass(slots=True)
class _Chunk:
    rows: tuple[_Rows, _Rows]
    faults: dict[int, Fault]
    empty: int


def decode_block(raw: RawBlock) -> Decoded:
    """Decodes a block; see `Decoded`."""
    header = raw.header if raw.framing == "csv" else None
    source = _Source(raw.feed, raw.path, raw.ingest_time, header)
    decoded = _decode(source, raw.items, np.asarray(raw.offsets, np.int64))
    decoded.faults[:0] = raw.faults
    decoded.empty += raw.empty
    decoded.received[raw.feed] += len(raw.faults) + raw.empty
    return decoded


def decode_one(
    feed: int, line: bytes, header: Sequence[str] | None = None, source_file: str = "", byte_offset: int = 0
) -> tuple[int, pa.RecordBatch] | DeadLetter:
    """Decodes one record (a CSV row where there is a ``header``): its kind and a batch of one row, or why not."""
    source = _Source(feed, source_file, 0, tuple(header) if header is not None else None)
    decoded = _decode(source, [line], np.array([byte_offset], np.int64))
    for kind, batch in enumerate(decoded.batches):
        if batch is not None:
            return kind, batch
    if decoded.faults:
        return decoded.faults[0]
    return _dead_letter(source, Fault("not_json", "expected a record, found an empty line"), line, byte_offset)


def _decode(source: _Source, items: list[bytes], offsets: np.ndarray) -> Decoded:
    builders = tuple(Builder(kind, source.path, source.ingest_time) for kind in (0, 1))
    places: tuple[list[int], list[int]] = ([], [])  # of the builders' rows among the items
    faults: dict[int, Fault] = {}
    empty = 0
    for start in range(0, len(items), CHUNK_LINES):
        lines = items[start : start + CHUNK_LINES]
        chunk = _take_lines(source, lines, builders[source.feed].shared)
        empty += chunk.empty
        faults.update({start + row: fault for row, fault in chunk.faults.items()})
        for kind, taken in enumerate(chunk.rows):
            if not taken.rows:
                continue
            received = lines if len(taken.rows) == len(lines) else [lines[row] for row in taken.rows]
            rows = [start + row for row in taken.rows]
            builders[kind].add(taken.structs, taken.numbers, taken.notes, received, offsets[rows])
            places[kind].extend(rows)
    batches: list[pa.RecordBatch | None] = []
    for kind, builder in enumerate(builders):
        columns = builder.finish() if builder.count else None
        batches.append(scrub_batch(columns.batch) if columns and columns.batch.num_rows else None)
        faults.update({places[kind][row]: fault for row, fault in columns.faults.items()} if columns else {})
    letters = [_dead_letter(source, fault, items[row], int(offsets[row])) for row, fault in sorted(faults.items())]
    received_by_kind = {kind: batch.num_rows if batch is not None else 0 for kind, batch in enumerate(batches)}
    received_by_kind[source.feed] += len(letters) + empty
    return Decoded((batches[0], batches[1]), letters, received_by_kind, empty)


def _take_lines(source: _Source, lines: list[bytes], shared: Shared) -> _Chunk:
    """Decodes a chunk's lines: the strict decoder in one sweep, resumed after each line that it refuses."""
    chunk = _Chunk((_Rows(), _Rows()), {}, 0)
    if source.header is not None:
        _take_one_by_one(source, chunk, range(len(lines)), lines)
        return chunk
    structs, refused = _sweep(STRICT[source.feed], lines, HEADROOM)
    own = chunk.rows[source.feed]
    decoded = np.ones(len(lines), bool)
    decoded[refused] = False
    numbers = np.full((len(shared.fields), len(lines)), -1, np.int32)
    numbers[:, decoded] = shared.numbers(list(filter(None, structs)) if refused else structs)
    refused = np.flatnonzero(numbers.min(axis=0) < 0).tolist()
    if not refused:
        own.rows, own.structs, own.numbers = list(range(len(lines))), structs, numbers
        return chunk
    _take_one_by_one(source, chunk, refused, lines)
    numbers[:, own.rows] = shared.numbers(own.structs)
    _merge(own, structs, refused)
    own.numbers = numbers[:, own.rows]
    return chunk


def _sweep(decoder: msgspec.json.Decoder[Any], lines: list[bytes], headroom: int) -> tuple[list[Any], list[int]]:
    """Decodes the lines, None where the decoder refuses; and the rows that it refused."""
    if headroom:
        return _sweep(decoder, lines, headroom - 1)
    structs: list[Any] = []
    refused: list[int] = []
    stream = map(decoder.decode, lines)
    while True:
        try:
            structs.extend(stream)
            return structs, refused
        except _REFUSALS:
            refused.append(len(structs))
            structs.append(None)


def _take_one_by_one(source: _Source, chunk: _Chunk, rows: Sequence[int], lines: list[bytes]) -> None:
    for row in rows:
        if not lines[row].strip():
            chunk.empty += 1
            continue
        try:
            if source.header is not None:
                taken = take_row(source.feed, lines[row], source.header)
            else:
                taken = take_json(source.feed, lines[row])
        except Fault as fault:
            # The frames of its traceback hold the block's lines, in a cycle with this chunk: they would stay until a
            # rare full collection.
            fault.__context__ = None
            chunk.faults[row] = fault.with_traceback(None)
        else:
            chunk.rows[taken.kind].add(row, taken)


def _merge(own: _Rows, structs: list[Any], refused: list[int]) -> None:
    """Puts the structs that were taken one by one among those that the strict decoder took, in input order."""
    taken = dict(zip(own.rows, own.structs, strict=True))
    notes = {own.rows[place]: note for place, note in own.notes.items()}
    for row, struct in taken.items():
        structs[row] = struct
    gone = [row for row in refused if row not in taken]  # in rising order
    own.rows = list(range(len(structs)))
    for row in reversed(gone):
        del structs[row], own.rows[row]
    own.structs = structs
    own.notes = {row - bisect(gone, row): note for row, note in notes.items()}


def _dead_letter(source: _Source, fault: Fault, line: bytes, offset: int) -> DeadLetter:
    number = fault.record_id
    return DeadLetter(
        kind=MALFORMED,
        feed=source.feed,
        reason=fault.reason,
        message=fault.message,
        payload=line,
        source_file=source.path,
        byte_offset=offset,
        ingest_time=source.ingest_time,
        json_path=fault.path,
        error_type=fault.error,
        record_id=number if number is not None and -(1 << 63) <= number < 1 << 63 else None,
    )
