"""Write the warehouse: one Parquet part per table, cell, writer and pane."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from schemas.tables import DEAD_LETTERS
from transforms.deliver import storage
from transforms.deliver.warehouse import write_table_part
from transforms.elements import Pane
from transforms.gather.claims import batch_of, order_of
from transforms.gather_by_cell import KeyedBytes
from transforms.ledger.counts import FileEntry, encode
from transforms.run import Run

ENTRIES = "entries"

DEAD_PAYLOADS = "dead"
"""What ``ledger_files`` calls the files of payloads that are too long for the dead-letter table; one row each."""


class WarehouseParts(NamedTuple):
    """The panes, passed on once they are written, and ledger entries of their files."""

    panes: beam.PCollection[Pane]
    entries: beam.PCollection[bytes]


class _WriteParts(beam.DoFn):
    def __init__(self, run: Run):
        self._run = run

    def process(self, element: Pane) -> Iterator[object]:
        cell = element.cell
        stored = write_table_part(
            self._run.output, element.table, cell.hour, cell.bucket, self._run.writer, element.number, element.rows
        )
        entry = FileEntry(element.table, cell.hour, stored.path, element.rows.num_rows, stored.bytes, stored.checksum)
        yield beam.pvalue.TaggedOutput(ENTRIES, encode(entry))
        yield element


@dataclass
class WriteWarehouse(beam.PTransform):
    """Writes panes to ``warehouse/<table>/dt=…/hh=…/part-<writer>-<bucket>-<pane>.parquet`` and passes them on.

    Idempotent: a retried bundle or a second run of the same writer overwrites its own files. A failure is the run's
      failure.

    Attributes:
      run: the run.
    """

    run: Run

    def expand(self, panes: beam.PCollection[Pane]) -> WarehouseParts:
        """Writes pane by pane."""
        written = panes | "Write" >> beam.ParDo(_WriteParts(self.run)).with_outputs(ENTRIES, main="panes")
        written.panes.element_type = Pane
        written[ENTRIES].element_type = bytes
        return WarehouseParts(written.panes, written[ENTRIES])


class _WriteDeadLetters(beam.DoFn):
    """Claims of dead letters of one shard → one part, in the order of the input."""

    def __init__(self, run: Run):
        self._run = run

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[bytes]:
        shard, claims = element
        batches = [batch_of(claim, DEAD_LETTERS.schema) for claim in sorted(claims, key=order_of)]
        rows = pa.Table.from_batches(batches).sort_by([("source_file", "ascending"), ("byte_offset", "ascending")])
        stored = write_table_part(
            self._run.output, DEAD_LETTERS.name, None, 0, self._run.writer, shard, rows.combine_chunks()
        )
        yield encode(FileEntry(DEAD_LETTERS.name, None, stored.path, rows.num_rows, stored.bytes, stored.checksum))
        yield from map(encode, self._payloads(rows))

    def _payloads(self, rows: pa.Table) -> Iterator[FileEntry]:
        """The files of payloads that are too long for the table."""
        long = rows.filter(pc.and_(pc.is_null(rows.column("payload")), pc.is_valid(rows.column("payload_sha256"))))
        for sha256 in sorted(set(long.column("payload_sha256").to_pylist())):
            path = storage.join(self._run.dead, sha256)
            size, checksum = storage.measure(path)
            yield FileEntry(DEAD_PAYLOADS, None, storage.relative(self._run.output, path), 1, size, checksum)


@dataclass
class WriteDeadLetters(beam.PTransform):
    """Writes dead letters to ``warehouse/dead_letters/part-<writer>-<shard>.parquet``; gives the ledger entries.

    Input: KV<shard, claim of rows of `DEAD_LETTERS`>.

    Attributes:
      run: the run.
    """

    run: Run

    def expand(self, letters: beam.PCollection[KeyedBytes]) -> beam.PCollection[bytes]:
        """Gathers the letters of a shard and writes them."""
        return (
            letters
            | "Gather" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_WriteDeadLetters(self.run)).with_output_types(bytes)
        )
