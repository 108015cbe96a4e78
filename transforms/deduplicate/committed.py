"""Ids that other writers have committed in a cell: one mechanism for overlap, restart and backfill.

Only files that a ledger lists count. A re-run leaves its own parts out, so it finds what it found the first time.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from schemas.records import FEEDS, ID_COLUMN
from schemas.tables import LEDGER_FILES
from transforms.gather.cells import Cell, column_int64


def read_parquet(path: str, columns: list[str]) -> pa.Table:
    """Returns columns of one Parquet file on any Beam file system."""
    with FileSystems.open(path, compression_type="uncompressed") as file:
        return pq.ParquetFile(pa.PythonFile(file, mode="r")).read(columns=columns)


class CommittedIds:
    """Looks up the ids that writers other than `writer` have committed under `output`; picklable, lazy, one per worker.

    Args:
      output: the output directory.
      writer: the run's own writer, left out.
    """

    def __init__(self, output: str, writer: str):
        self._output, self._writer = output, writer
        self._files: dict[tuple[str, int, int], list[str]] | None = None

    def of_cell(self, cell: Cell) -> np.ndarray:
        """Returns the committed ids of a cell, sorted, int64."""
        if self._files is None:
            self._files = self._listed()
        paths = self._files.get((FEEDS[cell.kind], cell.hour, cell.bucket), [])
        name = ID_COLUMN[cell.kind]
        ids = [column_int64(read_parquet(path, [name]).column(name).combine_chunks()) for path in paths]
        return np.sort(np.concatenate(ids)) if ids else np.empty(0, np.int64)

    def _listed(self) -> dict[tuple[str, int, int], list[str]]:
        files: dict[tuple[str, int, int], list[str]] = {}
        pattern = FileSystems.join(self._output, "warehouse", LEDGER_FILES.name, "part-*.parquet")
        for metadata in FileSystems.match([pattern])[0].metadata_list:
            if metadata.path.rsplit("/", 1)[-1].startswith(f"part-{self._writer}-"):
                continue
            listed = read_parquet(metadata.path, ["table_or_stream", "hour", "path", "row_count"]).to_pydict()
            hours = [None if hour is None else int(hour.timestamp()) * 1_000_000 for hour in listed["hour"]]
            for table, hour, path, count in zip(
                listed["table_or_stream"], hours, listed["path"], listed["row_count"], strict=True
            ):
                if table in FEEDS and hour is not None and count:
                    bucket = int(path.rsplit("/", 1)[-1].removesuffix(".parquet").split("-")[-2])
                    files.setdefault((table, hour, bucket), []).append(FileSystems.join(self._output, path))
        return files
