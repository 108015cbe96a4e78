"""Ledger entries: what the steps of the pipeline report about records, files, inputs and streams.

Entries are additive deltas that travel through the pipeline as data (metrics are only best effort) and are summed
when the run is committed. On the wire an entry is one version byte and msgpack.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from schemas.records import FEEDS
from schemas.tables import DEVICE_USAGE_HOURLY, TABLES, USAGE

VERSION = b"\x01"


class Count(msgspec.Struct, frozen=True, tag="count"):
    """One delta of the ``ledger`` table (its columns without writer and published_time); hour in microseconds UTC."""

    stage: str
    feed: str
    stream: str | None = None
    hour: int | None = None
    pane: int | None = None
    unit: str = "records"
    received: int = 0
    empty: int = 0
    decoded: int = 0
    duplicates: int = 0
    conflicts: int = 0
    dead_lettered: int = 0
    filtered_out: int = 0
    delivered: int = 0
    pending: int = 0
    final: bool = False


class FileEntry(msgspec.Struct, frozen=True, tag="file"):
    """One row of ``ledger_files`` (without writer)."""

    table_or_stream: str
    hour: int | None
    path: str
    row_count: int
    bytes: int
    checksum: str


class InputEntry(msgspec.Struct, frozen=True, tag="input"):
    """What one block adds to its file's row of ``inputs``: times in microseconds UTC."""

    feed: str
    file: str
    records: int
    dead_letters: int
    first_time: int | None
    last_time: int | None
    bytes: int = 0


class StreamError(msgspec.Struct, frozen=True, tag="error"):
    """A stream's destination failed: what happened and what mends it. Holds no secret."""

    stream: str
    error: str
    remedy: str | None = None


class Kept(msgspec.Struct, frozen=True, tag="kept"):
    """A live job keeps rows of a cell that are in no part yet: where, under the cell's running number."""

    cell: int
    number: int
    path: str
    rows: int


class Flushed(msgspec.Struct, frozen=True, tag="flushed"):
    """A live job has written the rows that it kept under these numbers into parts."""

    cell: int
    numbers: list[int]


class Unlisted(msgspec.Struct, frozen=True, tag="unlisted"):
    """A file counts no more: its rows were delivered, or lie in another one."""

    path: str


class OpenCells(msgspec.Struct, frozen=True, tag="open"):
    """So many cells of an hour have opened, or, less than 0, closed, in the state of a runner."""

    feed: str
    hour: int
    cells: int


class BuriedLetters(msgspec.Struct, frozen=True, tag="buried"):
    """So many dead letters are in a part: records of a feed that were not decoded, or that a stream's destination
    refused.
    """

    feed: str
    stream: str | None
    rows: int


Entry = Count | FileEntry | InputEntry | StreamError | Kept | Flushed | Unlisted | OpenCells | BuriedLetters

FEED = "feed"
"""Step of the groups that say how many parts a block has."""

DEAD = "dead"
"""Step of the groups of a block's dead letters."""

Key = tuple[str, int, int, int]
"""What a group of entries belongs to: a step's name, and numbers that name the same work in every attempt at it."""


class Group(msgspec.Struct, frozen=True):
    """Entries that count together or not at all.

    Attributes:
      key: what they belong to.
      entries: the entries.
      parts: how many other groups the same block leads to; None where that is not known here.
    """

    key: Key
    entries: list[Entry]
    parts: int | None = None


COUNT_KEY = ("stage", "feed", "stream", "hour", "pane", "unit")
COUNT_SUMS = (
    "received", "empty", "decoded", "duplicates", "conflicts", "dead_lettered", "filtered_out", "delivered", "pending",
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)
_group_decoder = msgspec.msgpack.Decoder(Group)
_GROUP = b"\x02"


def settled(stream: str, table: str, hour: int | None, delivered: int, dead_lettered: int, pane: int = 0) -> Count:
    """The count of rows of a table that waited for a stream's destination, and do not any more.

    Args:
      stream: the stream.
      table: the table.
      hour: their hour, microseconds UTC.
      delivered: how many the destination took.
      dead_lettered: how many it refused.
      pane: their pane; live jobs do not tell panes apart.
    """
    return Count(
        stage="stream", feed=FEEDS[int(table in _OF_USAGE)], stream=stream, hour=hour, pane=pane,
        unit=TABLES[table].unit, delivered=delivered, dead_lettered=dead_lettered, pending=-(delivered + dead_lettered),
    )  # fmt: skip


_OF_USAGE = (USAGE.name, DEVICE_USAGE_HOURLY.name)


def encode(entry: Entry) -> bytes:
    """Returns the entry as bytes, for a shuffle."""
    return VERSION + _encoder.encode(entry)


def encode_group(group: Group) -> bytes:
    """Returns the group as bytes."""
    return _GROUP + _encoder.encode(group)


def decode_group(data: bytes) -> Group:
    """Returns the group that `encode_group` made.

    Raises:
      ValueError: unknown version.
    """
    if data[:1] != _GROUP:
        raise ValueError(f"entries of unknown version {data[0]}: this job is older than the one that wrote them")
    return _group_decoder.decode(data[1:])


def decode(data: bytes) -> Entry:
    """Returns the entry that `encode` made.

    Raises:
      ValueError: unknown version.
    """
    if data[:1] != VERSION:
        raise ValueError(f"ledger entry of unknown version {data[0]}: this job is older than the one that wrote it")
    return _decoder.decode(data[1:])


def add_counts(counts: Iterable[Count]) -> list[Count]:
    """Returns one count per key (stage, feed, stream, hour, pane, unit), summed, in a fixed order."""
    sums: dict[tuple, list[int]] = {}
    final: dict[tuple, bool] = {}
    for count in counts:
        key = tuple(getattr(count, name) for name in COUNT_KEY)
        row = sums.setdefault(key, [0] * len(COUNT_SUMS))
        for index, name in enumerate(COUNT_SUMS):
            row[index] += getattr(count, name)
        final[key] = final.get(key, False) or count.final
    ordered = sorted(sums, key=lambda key: tuple((part is not None, part) for part in key))
    return [_sum(key, sums[key], final[key]) for key in ordered]


def _sum(key: tuple, sums: list[int], final: bool) -> Count:
    fields: dict[str, Any] = dict(zip((*COUNT_KEY, *COUNT_SUMS), (*key, *sums), strict=True))
    return Count(**fields, final=final)
