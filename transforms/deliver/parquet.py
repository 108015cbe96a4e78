"""Parquet files of the job's own making, read back whole."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.deliver import storage


def read_parquet(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Returns columns of one published Parquet file; all where none are named.

    Raises:
      OSError: it cannot be read.
      pyarrow.ArrowInvalid: it is not Parquet.
    """
    return parquet_rows(storage.read(path), columns)


def parquet_rows(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Returns columns of a Parquet file that is in memory; all where none are named.

    Read in this thread: one of Arrow's may hold on to `data` for a moment longer, and where the interpreter ends in
    it, the process aborts as that thread lets go (`pyarrow.parquet.read_table` on a BufferReader, pyarrow 25).

    Raises:
      pyarrow.ArrowInvalid: it is not Parquet.
    """
    return pq.ParquetFile(pa.BufferReader(data)).read(columns, use_threads=False)
