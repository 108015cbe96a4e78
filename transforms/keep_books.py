"""Keep books: the last step of a live job, which makes its work count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from schemas.streams import Stream
from schemas.tables import DEAD_LETTERS
from transforms.bury_dead_letters import BuryDeadLetters
from transforms.gather.claims import batch_of, place_of
from transforms.gather_by_cell import KeyedBytes
from transforms.keep.letters import write_part
from transforms.ledger import metrics
from transforms.ledger.counts import Group, decode_group, encode_group
from transforms.ledger.desk import desk_of
from transforms.publish_ledger import PublishLedger
from transforms.run import Run

_CLAIMS_BITS = 12
"""A block has fewer claims of dead letters than 4,096: it has one, or a few where it is large."""


class _WriteDead(beam.DoFn):
    """A claim of dead letters → its part of the table, and a group of entries."""

    def __init__(self, run: Run):
        self._run = run

    def process(self, element: KeyedBytes) -> Iterator[bytes]:
        rows = batch_of(element[1], DEAD_LETTERS.schema)
        segment, block, number = place_of(element[1])
        part = (segment << _CLAIMS_BITS | block) << _CLAIMS_BITS | number
        yield encode_group(Group(("dead", segment, block, number), [write_part(self._run, part, rows)]))


class _Commit(beam.DoFn):
    def __init__(self, run: Run):
        self._run = run

    def setup(self) -> None:
        self._books = desk_of(self._run).books

    def process(self, element: bytes) -> None:
        group = decode_group(element)
        self._books.commit(group)
        metrics.count(group.entries)

    def finish_bundle(self) -> None:
        self._books.sync()


@dataclass
class KeepBooks(beam.PTransform):
    """Commits the groups of entries of all steps; what is committed survives a kill and is counted once.

    Input: groups of the decode step, claims of dead letters, groups of `KeepCells`.

    Attributes:
      run: the run.
      facts: name, title, content, destination and state of each stream, for the run file.
      streams: the stream definitions.
    """

    run: Run
    facts: Sequence[dict[str, Any]] = ()
    streams: Sequence[Stream] = ()

    def expand(
        self,
        entries: tuple[beam.PCollection[bytes], beam.PCollection[KeyedBytes], beam.PCollection[bytes]],
    ) -> beam.PCollection[None]:
        """Writes dead letters, and commits everything: to the books of the process, which publishes them; or, where
        workers share no disk (Dataflow), to the runner's state, from which the step publishes.
        """
        feeds, dead, cells = entries
        if self.run.spill is None:
            letters = dead | "BuryDead" >> BuryDeadLetters(self.run)
            groups = (feeds, letters, cells) | "Groups" >> beam.Flatten()
            return groups | "PublishLedger" >> PublishLedger(self.run, self.facts, self.streams)
        buried = dead | "WriteDead" >> beam.ParDo(_WriteDead(self.run)).with_output_types(bytes)
        # Committed before they are flattened, which Prism does by itself, between two bundles: so all steps of a
        # gathering are one. Without anything behind them it would spin while that one runs (`dataReady` in stage.go).
        return [
            groups | label >> beam.ParDo(_Commit(self.run))
            for label, groups in (("CommitFeeds", feeds), ("CommitDead", buried), ("CommitCells", cells))
        ] | "Committed" >> beam.Flatten()
