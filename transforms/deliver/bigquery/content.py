"""What one writer loads of a day: its rows as one Parquet file, and the digest that names them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from schemas.tables import TABLES
from transforms.deliver import storage
from transforms.deliver.bigquery.tables import LOAD_ID
from transforms.deliver.parts import Part

ROW_GROUP = 32_768
"""Rows of a row group: what is held in memory at a time."""

_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True, slots=True)
class File:
    """A file that is ready to be loaded.

    Attributes:
      load: digest of its content, 63 bits; in the column ``load_id`` of each row.
      stored: its path on this machine, rows, bytes and checksum.
    """

    load: int
    stored: storage.StoredFile


@dataclass
class Content:
    """Rows of one writer and day, in order, gathered on this machine's disk.

    The same rows give the same file with the same digest, however they were cut into parts. The digest stands in each
    row, and is known when all rows are: so they are gathered as Arrow first.

    Attributes:
      writer: who writes.
      table: the table of the rows.
      path: where the file goes, without a suffix.
      parts: the parts that were added.
    """

    writer: str
    table: str
    path: str
    parts: list[Part] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._schema = pa.schema([pa.field(each.name, each.type) for each in TABLES[self.table].schema])
        self._digest = xxhash.xxh3_64(repr((self.table, self._schema.names)).encode())
        self._held: list[pa.RecordBatch] = []
        self._rows = 0
        self._gathered = pa.ipc.new_file(f"{self.path}.arrow", self._schema, options=_LZ4)

    def add(self, part: Part, rows: pa.RecordBatch) -> None:
        """Takes the rows of a part."""
        self.parts.append(part)
        self.counts.append(rows.num_rows)
        self._held.append(pa.RecordBatch.from_arrays(rows.columns, schema=self._schema))
        self._rows += rows.num_rows
        if self._rows >= ROW_GROUP:
            self._gather(ROW_GROUP)

    def _gather(self, least: int) -> None:
        """Writes whole row groups as long as at least so many rows are held."""
        table = pa.Table.from_batches(self._held, self._schema)
        start = 0
        while self._rows and self._rows >= least:
            (group,) = table.slice(start, ROW_GROUP).combine_chunks().to_batches()
            # Of values, not of bytes: what lies below a null is of no account.
            self._digest.update(pl.DataFrame(group).hash_rows().to_numpy().tobytes())
            self._gathered.write_batch(group)
            start += group.num_rows
            self._rows -= group.num_rows
        self._held = table.slice(start).to_batches() if self._rows else []

    def file(self) -> File:
        """The Parquet file of all rows; there must be one at least."""
        self._gather(1)
        self._gathered.close()
        load = self._digest.intdigest() >> 1
        schema = self._schema.append(pa.field(LOAD_ID, pa.int64()))
        path = f"{self.path}.parquet"
        with (
            pa.memory_map(f"{self.path}.arrow") as source,
            pa.ipc.open_file(source) as reader,
            pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, store_schema=False) as writer,
        ):
            for number in range(reader.num_record_batches):
                group = reader.get_batch(number)
                marked = [*group.columns, pa.array([load]).take(pa.nulls(group.num_rows, pa.int32()).fill_null(0))]
                writer.write_batch(pa.RecordBatch.from_arrays(marked, schema=schema))
        os.unlink(f"{self.path}.arrow")
        size, checksum = storage.measure(path)
        return File(load, storage.StoredFile(path, sum(self.counts), size, checksum))
