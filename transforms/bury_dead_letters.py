"""Bury dead letters of a live job whose workers share no disk: each claim becomes a part with a name of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from schemas.tables import DEAD_LETTERS
from transforms.deliver.warehouse import write_table_part
from transforms.gather.claims import batch_of
from transforms.gather_by_cell import KeyedBytes
from transforms.ledger.counts import FileEntry, Group, encode_group
from transforms.run import Run


class _Name(beam.DoFn):
    """Names a claim by a random number, which the shuffle behind keeps: a repeated attempt replaces its own part."""

    def process(self, element: KeyedBytes) -> Iterator[KeyedBytes]:
        yield int.from_bytes(os.urandom(8)) >> 2, element[1]


class _Bury(beam.DoFn):
    """Writes a claim. It has state, which stays empty, to be behind a shuffle: of bytes, unlike Beam's Reshuffle."""

    BEHIND_A_SHUFFLE = ReadModifyWriteStateSpec("behind_a_shuffle", BytesCoder())

    def __init__(self, run: Run):
        self._run = run

    def process(
        self, element: KeyedBytes, behind_a_shuffle: Any = beam.DoFn.StateParam(BEHIND_A_SHUFFLE)
    ) -> Iterator[bytes]:
        number, claim = element
        rows = batch_of(claim, DEAD_LETTERS.schema)
        stored = write_table_part(self._run.output, DEAD_LETTERS.name, None, 0, self._run.writer, number, rows)
        entry = FileEntry(DEAD_LETTERS.name, None, stored.path, rows.num_rows, stored.bytes, stored.checksum)
        yield encode_group(Group(("dead", number, 0, 0), [entry]))


@dataclass
class BuryDeadLetters(beam.PTransform):
    """Writes claims KV<any, claim> of dead letters; output: groups of ledger entries.

    Attributes:
      run: the run.
    """

    run: Run

    def expand(self, dead: beam.PCollection[KeyedBytes]) -> beam.PCollection[bytes]:
        """Names the claims, and writes them behind a shuffle."""
        named = dead | "Name" >> beam.ParDo(_Name()).with_output_types(beam.typehints.Tuple[int, bytes])
        return named | "Bury" >> beam.ParDo(_Bury(self.run)).with_output_types(bytes)
