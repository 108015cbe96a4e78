"""The balance of a live job whose workers share no disk: all entries so far, as few as possible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from schemas.records import HOUR
from schemas.tables import INPUTS, LEDGER, TABLES
from transforms.deliver import storage
from transforms.deliver.parquet import read_parquet
from transforms.ledger.commit import last_in_flight, listed_files
from transforms.ledger.counts import (
    BuriedLetters,
    Count,
    Entry,
    FileEntry,
    InputEntry,
    OpenCells,
    StreamError,
    Unlisted,
    add_counts,
)  # fmt: skip
from transforms.ledger.in_flight import buried_before, in_parts
from transforms.run import Run

_WHOLE_TABLES = {INPUTS.name, LEDGER.name}


class Balance(NamedTuple):
    """Entries, summed.

    Attributes:
      entries: counts, files, inputs, why streams fail that have something waiting, how many cells are open, and how
        many dead letters are in parts.
      unlisted: files that count no more and whose entries have not come yet: steps tell of them on different ways.
      obsolete: relative paths of files that counted and do not count any more.
    """

    entries: list[Entry]
    unlisted: list[Unlisted]
    obsolete: list[str]


def balance(entries: Iterable[Entry]) -> Balance:
    """Sums entries, in any order. A file is listed once and unlisted once, at most."""
    counts: list[Count] = []
    files: dict[str, FileEntry] = {}
    inputs: dict[tuple[str, str], InputEntry] = {}
    gone: dict[str, Unlisted] = {}
    errors: dict[str, StreamError] = {}
    open_cells: Counter[tuple[str, int]] = Counter()
    buried: Counter[tuple[str, str | None]] = Counter()
    for entry in entries:
        match entry:
            case Count():
                counts.append(entry)
            case FileEntry():
                files[entry.path] = entry
            case InputEntry():
                key = entry.feed, entry.file
                inputs[key] = added(inputs[key], entry) if key in inputs else entry
            case Unlisted():
                gone[entry.path] = entry
            case StreamError():
                errors[entry.stream] = entry
            case OpenCells():
                open_cells[entry.feed, entry.hour] += entry.cells
            case BuriedLetters():
                buried[entry.feed, entry.stream] += entry.rows
            case _:
                raise TypeError(f"{type(entry).__name__} is for the books of a job on one machine")
    summed = add_counts(counts)
    waiting: dict[str | None, int] = {}
    for count in summed:
        waiting[count.stream] = waiting.get(count.stream, 0) + count.pending
    obsolete = {path for path in gone if files.pop(path, None) is not None}
    failing = [error for name, error in errors.items() if waiting.get(name)]
    left = [one for path, one in gone.items() if path not in obsolete]
    still_open = [OpenCells(feed, hour, cells) for (feed, hour), cells in open_cells.items() if cells]
    letters = [BuriedLetters(feed, stream, rows) for (feed, stream), rows in buried.items()]
    found: list[Entry] = [*summed, *files.values(), *inputs.values(), *failing, *still_open, *letters]
    return Balance(found, left, sorted(obsolete))


def added(one: InputEntry, other: InputEntry) -> InputEntry:
    """The sum of two entries of the same input."""
    firsts = [time for time in (one.first_time, other.first_time) if time is not None]
    lasts = [time for time in (one.last_time, other.last_time) if time is not None]
    return InputEntry(
        one.feed, one.file, one.records + other.records, one.dead_letters + other.dead_letters,
        min(firsts, default=None), max(lasts, default=None), one.bytes + other.bytes,
    )  # fmt: skip


def with_final(entries: Sequence[Entry], now: float, close_after: float) -> list[Entry]:
    """Entries whose counts of cells say whether their hour is final: its cells have closed, and all that they kept is
    in parts. Of an hour without cells in the state, which an earlier job had, it is when its cells would have closed.

    Args:
      entries: summed entries.
      now: seconds since 1970.
      close_after: seconds after the end of an hour until its cells may close.
    """
    unfinished = {(entry.feed, entry.hour) for entry in entries if isinstance(entry, OpenCells)}
    unfinished |= {(feed, hour) for feed, hours in in_parts(entries).items() for hour in hours}

    def is_final(count: Count) -> bool:
        if count.hour is None or (count.feed, count.hour) in unfinished:
            return False
        return now >= (count.hour + HOUR) / 1_000_000 + close_after

    return [
        msgspec.structs.replace(entry, final=is_final(entry))
        if isinstance(entry, Count) and entry.stage == "cell"
        else entry
        for entry in entries
    ]


def committed(run: Run) -> list[Entry]:
    """What an earlier job of the same name has committed, as entries.

    Raises:
      OSError: the output directory is at fault.
      msgspec.DecodeError: the commit file is damaged.
    """
    entries: list[Entry] = []
    for file in listed_files(run.output, run.writer):
        if file.table_or_stream not in _WHOLE_TABLES:
            if file.table_or_stream not in TABLES or file.row_count:
                entries.append(file)
            continue
        rows = read_parquet(storage.absolute(run.output, file.path))
        entries += _counts(rows) if file.table_or_stream == LEDGER.name else _inputs(rows)
    return [*entries, *buried_before(entries, last_in_flight(run.output, run.writer))]


def _counts(rows: pa.Table) -> list[Entry]:
    place = rows.schema.get_field_index("hour")
    rows = rows.set_column(place, "hour", rows.column("hour").cast(pa.int64()))
    names = [field for field in Count.__struct_fields__ if field in rows.schema.names]
    found: list[Entry] = []
    for row in rows.select(names).to_pylist():
        fields: dict[str, Any] = {**row, "pane": None if row["hour"] is None else 0}
        found.append(Count(**fields))
    return found


def _inputs(rows: pa.Table) -> list[Entry]:
    for name in ("first_time", "last_time"):
        rows = rows.set_column(rows.schema.get_field_index(name), name, rows.column(name).cast(pa.int64()))
    return [InputEntry(**row) for row in rows.select(list(InputEntry.__struct_fields__)).to_pylist()]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Entry])
_VERSION = b"\x01"


def encode_entries(entries: Sequence[Entry], most: int) -> list[bytes]:
    """Entries as pieces of bytes, each of about `most` bytes at most: one version byte, then msgpack."""
    data = _VERSION + _encoder.encode(entries)
    if len(data) <= most or len(entries) < 2:
        return [data]
    half = len(entries) // 2
    return encode_entries(entries[:half], most) + encode_entries(entries[half:], most)


def decode_entries(data: bytes) -> list[Entry]:
    """Returns the entries of a piece.

    Raises:
      ValueError: unknown version.
    """
    if data[:1] != _VERSION:
        raise ValueError(f"entries of unknown version {data[0]}: this job is older than the one that wrote them")
    return _decoder.decode(data[1:])


__all__ = ["Balance", "added", "balance", "committed", "decode_entries", "encode_entries", "with_final"]
