"""What a live job has counted and is still on its way when a ledger is published: kept in the commit file, for audits.

Steps report to the ledger on different ways, so what was published in between counts records that the step behind has
not counted yet; a number may also be less than 0, where that one was faster. Once a job has ended nothing is in flight:
then the equations prove that nothing was lost on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from schemas.records import FEEDS
from transforms.deliver import spool
from transforms.ledger.counts import BuriedLetters, Count, Entry, FileEntry


class LettersInFlight(msgspec.Struct, frozen=True):
    """Dead letters that no part holds yet: records of a feed that were not decoded, or that a stream's destination
    refused.
    """

    feed: str
    stream: str | None
    rows: int


class InFlight(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is in flight.

    Attributes:
      rows: rows of cells that no part holds yet, by feed and hour (microseconds UTC).
      streams_with_them: streams that have these rows already; others get them with the parts.
      decoded: records that are decoded and that no cell has counted, by feed.
      pending: rows that wait for their destination and lie in no spool, by stream.
      letters: dead letters that no part holds yet.
    """

    rows: dict[str, dict[int, int]]
    streams_with_them: list[str]
    decoded: dict[str, int] = {}
    pending: dict[str, int] = {}
    letters: list[LettersInFlight] = []

    def __bool__(self) -> bool:
        return bool(any(self.rows.values()) or self.decoded or self.pending or self.letters)


def in_flight(entries: Sequence[Entry], at_once: Sequence[str]) -> InFlight:
    """What is in flight of a job whose workers share no disk.

    Args:
      entries: all entries so far, summed.
      at_once: names of the streams that send at once.
    """
    decoded: Counter[str] = Counter()
    pending: Counter[str] = Counter()
    for entry in entries:
        if isinstance(entry, Count):
            decoded[entry.feed] += entry.decoded if entry.stage == "feed" else 0
            decoded[entry.feed] -= entry.received if entry.stage == "cell" else 0
            pending[entry.stream or ""] += entry.pending
        elif isinstance(entry, FileEntry) and entry.table_or_stream.startswith(f"{spool.DIRECTORY}/"):
            pending[entry.table_or_stream.removeprefix(f"{spool.DIRECTORY}/")] -= entry.row_count
    return InFlight(
        in_parts(entries),
        list(at_once),
        _without_zeros(decoded),
        _without_zeros(pending),
        [LettersInFlight(*key, rows) for key, rows in _letters(entries).items()],
    )


def in_parts(entries: Sequence[Entry]) -> dict[str, dict[int, int]]:
    """Rows that are counted and in no part yet, by feed and hour: they are on their way to one."""
    rows: dict[str, Counter[int]] = {feed: Counter() for feed in FEEDS}
    for entry in entries:
        if isinstance(entry, Count) and entry.stage == "cell" and entry.hour is not None:
            rows[entry.feed][entry.hour] += entry.delivered
        elif isinstance(entry, FileEntry) and entry.table_or_stream in rows and entry.hour is not None:
            rows[entry.table_or_stream][entry.hour] -= entry.row_count
    return {feed: _without_zeros(hours) for feed, hours in rows.items()}


def buried_before(counts: Sequence[Entry], flying: InFlight | None) -> list[BuriedLetters]:
    """Of what an earlier job has committed: which dead letters are in parts.

    Args:
      counts: its counts.
      flying: what was in flight when it committed.
    """
    still = {(one.feed, one.stream): one.rows for one in flying.letters} if flying is not None else {}
    return [
        BuriedLetters(feed, stream, rows - still.get((feed, stream), 0))
        for (feed, stream), rows in _letters(counts).items()
    ]


def _letters(entries: Sequence[Entry]) -> dict[tuple[str, str | None], int]:
    """Dead letters that are counted and in no part yet, by feed and stream."""
    found: Counter[tuple[str, str | None]] = Counter()
    for entry in entries:
        if isinstance(entry, Count):
            found[entry.feed, entry.stream] += entry.dead_lettered
        elif isinstance(entry, BuriedLetters):
            found[entry.feed, entry.stream] -= entry.rows
    return _without_zeros(found)


_K = TypeVar("_K")


def _without_zeros(counts: Mapping[_K, int]) -> dict[_K, int]:
    return {key: count for key, count in counts.items() if count}
