"""Publish the ledger of a live job whose workers share no disk: again and again, as the same files as a batch
run's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow, GlobalWindows

from schemas.streams import Stream
from schemas.tables import TABLES
from transforms.deliver import storage
from transforms.deliver.warehouse import table_part_path
from transforms.gather_by_cell import KeyedBytes
from transforms.keep.arrivals import sends_at_once
from transforms.ledger import metrics
from transforms.ledger.balance import balance, committed, decode_entries, encode_entries, with_final
from transforms.ledger.commit import publish
from transforms.ledger.counts import Entry, decode_group
from transforms.ledger.in_flight import in_flight
from transforms.run import Live, Run

_PIECE_BYTES = 1 << 20
"""Most bytes of a piece of entries in the state."""


class _Pack(beam.DoFn):
    """Groups of entries of a bundle → one element KV<0, entries>."""

    def start_bundle(self) -> None:
        self._entries: list[Entry] = []

    def process(self, element: bytes) -> None:
        entries = decode_group(element).entries
        metrics.count(entries)
        self._entries += entries

    def finish_bundle(self) -> Iterator[Any]:
        for piece in encode_entries(self._entries, _PIECE_BYTES) if self._entries else ():
            yield GlobalWindows.windowed_value((0, piece))


class _Publish(beam.DoFn):
    """Entries → the ledger in the warehouse, each ``publish_every`` and when the job is drained."""

    ENTRIES = BagStateSpec("entries", BytesCoder())
    STANDING = ReadModifyWriteStateSpec("standing", BytesCoder())
    PUBLISH = TimerSpec("publish", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def __init__(self, run: Run, facts: Sequence[dict[str, Any]], streams: Sequence[Stream]):
        self._run, self._facts, self._streams = run, list(facts), list(streams)

    def process(
        self,
        element: KeyedBytes,
        entries: Any = beam.DoFn.StateParam(ENTRIES),
        standing: Any = beam.DoFn.StateParam(STANDING),
        publish_timer: Any = beam.DoFn.TimerParam(PUBLISH),
        end: Any = beam.DoFn.TimerParam(END),
    ) -> None:
        known = standing.read()
        if known is None:
            # Not where it publishes: a repeated attempt would take its own publication for that of an earlier job.
            _put(entries, committed(self._run))
        entries.add(element[1])
        if known != _DUE:
            # Again, should it have fired already: what comes at the end of a drain must not wait for the other timer.
            end.set(GlobalWindow().max_timestamp())
            publish_timer.set(time.time() + self._live.publish_every)
            standing.write(_DUE)

    @on_timer(PUBLISH)
    def on_publish(
        self,
        entries: Any = beam.DoFn.StateParam(ENTRIES),
        standing: Any = beam.DoFn.StateParam(STANDING),
    ) -> None:
        self._publish(entries, ended=False)
        standing.write(_DONE)

    @on_timer(END)
    def on_end(
        self,
        entries: Any = beam.DoFn.StateParam(ENTRIES),
        standing: Any = beam.DoFn.StateParam(STANDING),
        publish_timer: Any = beam.DoFn.TimerParam(PUBLISH),
    ) -> None:
        publish_timer.clear()
        self._publish(entries, ended=True)
        standing.write(_DONE)

    @property
    def _live(self) -> Live:
        assert self._run.live is not None
        return self._run.live

    def _publish(self, bag: Any, ended: bool) -> None:
        run = self._run
        found = balance(entry for piece in bag.read() for entry in decode_entries(piece))
        at_once = [stream.name for stream in self._streams if sends_at_once(stream)]
        flying = None if ended else in_flight(found.entries, at_once)
        entries = with_final(found.entries, time.time(), self._live.close_after)
        files = publish(run, self._facts, self._streams, entries, flying)
        listed = {file.path for file in files}
        # Spool files whose rows were delivered, and parts without rows of tables that have some since.
        empty = (
            storage.relative(run.output, table_part_path(run.output, name, None, 0, run.writer, 0)) for name in TABLES
        )
        for path in {*found.obsolete, *empty} - listed - _vouched(run):
            storage.remove(storage.absolute(run.output, path))
        bag.clear()
        _put(bag, [*found.entries, *found.unlisted])


_DUE, _DONE = b"\x01", b"\x00"
"""Whether a publication is due."""


def _vouched(run: Run) -> set[str]:
    """The list of files itself, which is in no list."""
    path = table_part_path(run.output, "ledger_files", None, 0, run.writer, 0)
    return {storage.relative(run.output, path)}


def _put(bag: Any, entries: Sequence[Entry]) -> None:
    for piece in encode_entries(entries, _PIECE_BYTES) if entries else ():
        bag.add(piece)


@dataclass
class PublishLedger(beam.PTransform):
    """Sums groups of ledger entries on one worker, and publishes the ledger again and again; nothing comes out.

    A repeated attempt publishes the same again. What an earlier job of the same name has published stays counted.

    Attributes:
      run: the run.
      facts: name, title, content, destination and state of each stream, for the run file.
      streams: the stream definitions.
    """

    run: Run
    facts: Sequence[dict[str, Any]]
    streams: Sequence[Stream]

    def expand(self, groups: beam.PCollection[bytes]) -> beam.PCollection[None]:
        """One key, with state."""
        packed = groups | "Pack" >> beam.ParDo(_Pack()).with_output_types(beam.typehints.Tuple[int, bytes])
        return packed | "Publish" >> beam.ParDo(_Publish(self.run, self.facts, self.streams))


__all__ = ["PublishLedger"]
