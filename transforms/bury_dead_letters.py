"""Bury dead letters of a live job whose workers share no disk (Dataflow): what a flush's time brings becomes one part.

Claims wait in the runner's state, as what cells keep does; parts are written behind a shuffle, of the bytes that it
hands out again in every attempt. Small parts are merged with those of about their size, as on one machine.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import msgspec
import pyarrow as pa
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow

from schemas.tables import DEAD_LETTERS
from transforms.dead_letters import DELIVERY
from transforms.deliver.versioned import Versioned
from transforms.gather.claims import batch_of, order_of
from transforms.gather_by_cell import KeyedBytes
from transforms.keep.letters import SMALL_BYTES, merge_parts, worth_merging, write_part
from transforms.ledger.balance import decode_entries, encode_entries
from transforms.ledger.counts import BuriedLetters, Entry, FileEntry, Group, Unlisted, encode_group
from transforms.run import Run

PIECE_BYTES = 1 << 20
"""Claims from so many bytes on do not wait: they are too large for the state, and no small file."""

PART_BYTES = 8 << 20
"""Most bytes of claims of a part, a single one apart: they cross a shuffle as one element."""

_logger = logging.getLogger(__name__)


class _Gathered(msgspec.Struct, array_like=True):
    """Claims that become one part: its number, random and kept by the shuffle, and the claims."""

    number: int
    claims: list[bytes]


_gathered = Versioned(_Gathered, "gathered dead letters")


class _Gather(beam.DoFn):
    """Claims of dead letters → what becomes a part, each ``aggregate_every`` and when the job is drained."""

    WAITING = BagStateSpec("waiting", BytesCoder())
    HELD = ReadModifyWriteStateSpec("held", BytesCoder())
    FLUSH = TimerSpec("flush", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def __init__(self, run: Run):
        self._run = run

    def process(
        self,
        element: KeyedBytes,
        waiting: Any = beam.DoFn.StateParam(WAITING),
        held: Any = beam.DoFn.StateParam(HELD),
        flush: Any = beam.DoFn.TimerParam(FLUSH),
        end: Any = beam.DoFn.TimerParam(END),
    ) -> Iterator[KeyedBytes]:
        _, claim = element
        if len(claim) >= PIECE_BYTES:
            yield _named([claim])
            return
        size = int.from_bytes(held.read() or b"")
        if size + len(claim) > PART_BYTES:
            yield from _emptied(waiting)
            size = 0
        if not size:
            assert self._run.live is not None
            flush.set(time.time() + self._run.live.aggregate_every)
            end.set(GlobalWindow().max_timestamp())
        waiting.add(claim)
        held.write((size + len(claim)).to_bytes(8))

    @on_timer(FLUSH)
    def on_flush(
        self, waiting: Any = beam.DoFn.StateParam(WAITING), held: Any = beam.DoFn.StateParam(HELD)
    ) -> Iterator[KeyedBytes]:
        held.clear()
        yield from _emptied(waiting)

    @on_timer(END)
    def on_end(
        self,
        waiting: Any = beam.DoFn.StateParam(WAITING),
        held: Any = beam.DoFn.StateParam(HELD),
        flush: Any = beam.DoFn.TimerParam(FLUSH),
    ) -> Iterator[KeyedBytes]:
        flush.clear()
        held.clear()
        yield from _emptied(waiting)


def _emptied(waiting: Any) -> Iterator[KeyedBytes]:
    """What has waited; nothing does then."""
    claims = sorted(waiting.read(), key=order_of)
    waiting.clear()
    if claims:
        yield _named(claims)


def _named(claims: list[bytes]) -> KeyedBytes:
    # Not a counter: two attempts could share a number with other claims.
    return 0, _gathered.encode(_Gathered(int.from_bytes(os.urandom(7)), claims))


class _Bury(beam.DoFn):
    """Writes what was gathered as a part; merges small parts, which its state lists for every attempt alike."""

    SMALL = ReadModifyWriteStateSpec("small", BytesCoder())

    def __init__(self, run: Run):
        self._run = run

    def process(self, element: KeyedBytes, small: Any = beam.DoFn.StateParam(SMALL)) -> Iterator[bytes]:
        found = _gathered.decode(element[1])
        rows = pa.Table.from_batches([batch_of(claim, DEAD_LETTERS.schema) for claim in found.claims])
        part = write_part(self._run, found.number, rows)
        yield encode_group(Group(("dead", found.number, 0, 0), [part, *_buried(rows)]))
        listed = [*_files_in(small.read()), part]
        old = worth_merging(listed)
        if old:
            merged = self._merge(found.number, old)
            if merged:
                yield encode_group(Group(("dead", found.number, 1, 0), merged))
            # Also those that could not be merged: they count as they are.
            gone = {entry.path for entry in merged if isinstance(entry, Unlisted)} or {file.path for file in old}
            listed = [file for file in listed if file.path not in gone]
            listed += [entry for entry in merged if isinstance(entry, FileEntry)]
        small.write(_put(file for file in listed if file.bytes < SMALL_BYTES))

    def _merge(self, number: int, old: list[FileEntry]) -> list[Entry]:
        """Old files are removed by the publication that does not list them any more."""
        try:
            return merge_parts(self._run, number, old)
        except Exception as error:  # noqa: BLE001 - stores raise what they like
            # A bundle that is tried for ever, for a part that somebody removed, stops the job.
            _logger.warning("parts of dead letters stay as they are: %s: %s", type(error).__name__, error)
            return []


def _buried(rows: pa.Table) -> list[BuriedLetters]:
    """How many letters of each feed and stream a part holds."""
    counted = rows.group_by(["feed", "kind", "stream"]).aggregate([([], "count_all")])
    return [
        BuriedLetters(row["feed"], row["stream"] if row["kind"] == DELIVERY else None, row["count_all"])
        for row in counted.to_pylist()
    ]


def _files_in(data: bytes | None) -> list[FileEntry]:
    return [entry for entry in decode_entries(data) if isinstance(entry, FileEntry)] if data else []


def _put(files: Iterable[FileEntry]) -> bytes:
    (data,) = encode_entries(list(files), 1 << 30)  # few: small ones of a size are merged, large ones not remembered
    return data


@dataclass
class BuryDeadLetters(beam.PTransform):
    """Writes claims KV<0, claim> of dead letters; output: groups of ledger entries. One key, since a key is a file.

    Each letter lies in one part that counts, once: a repeated attempt replaces its own part.

    Attributes:
      run: the run.
    """

    run: Run

    def expand(self, dead: beam.PCollection[KeyedBytes]) -> beam.PCollection[bytes]:
        """Gathers, and writes behind a shuffle."""
        gathered = dead | "Gather" >> beam.ParDo(_Gather(self.run)).with_output_types(beam.typehints.Tuple[int, bytes])
        return gathered | "Bury" >> beam.ParDo(_Bury(self.run)).with_output_types(bytes)
