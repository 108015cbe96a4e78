"""Commit the ledger: the last step, which makes the run's files count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from transforms.deliver.destination import StreamDefinition
from transforms.ledger.commit import commit
from transforms.ledger.counts import InputEntry, decode, encode
from transforms.run import Run


class _Commit(beam.DoFn):
    def __init__(self, run: Run, facts: Sequence[dict[str, Any]], streams: Sequence[StreamDefinition]):
        self._run, self._facts, self._streams = run, facts, streams

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[str]:
        commit(self._run, self._facts, self._streams, (decode(entry) for entry in element[1]))
        yield self._run.writer


def _to_one_key(entry: bytes) -> tuple[int, bytes]:
    return 0, entry


@dataclass
class CommitLedger(beam.PTransform):
    """Gathers all ledger entries on one worker and commits the run; gives the writer's name once it is committed.

    A retried commit writes the same files again.

    Attributes:
      run: the run.
      facts: name, title, content, destination and state of each stream, for the run file.
      streams: the streams, whose destinations remove what they wrote before and do not any more.
      inputs: the input files, so that one without a record has its row, and a run without a record its commit.
    """

    run: Run
    facts: Sequence[dict[str, Any]]
    streams: Sequence[StreamDefinition] = ()
    inputs: Sequence[InputEntry] = field(default_factory=list)

    def expand(self, entries: tuple[beam.PCollection[bytes], ...]) -> beam.PCollection[str]:
        """Flattens the entries of all steps and commits them."""
        pipeline = entries[0].pipeline
        files = pipeline | "Inputs" >> beam.Create([encode(entry) for entry in self.inputs], reshuffle=False)
        return (
            (*entries, files)
            | "Entries" >> beam.Flatten()
            | "ToOneKey" >> beam.Map(_to_one_key).with_output_types(beam.typehints.Tuple[int, bytes])
            | "Gather" >> beam.GroupByKey()
            | "Commit" >> beam.ParDo(_Commit(self.run, list(self.facts), list(self.streams))).with_output_types(str)
        )
