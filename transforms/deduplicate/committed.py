"""Ids that other writers have committed in a cell: one mechanism for overlap, restart and backfill.

Only files of writers that have committed count, and of these the listed ones. A re-run leaves its own parts out, so it
finds what it found the first time.
"""

from __future__ import annotations

import numpy as np

from schemas.records import FEEDS, ID_COLUMN
from transforms.deliver import storage
from transforms.deliver.parquet import read_parquet
from transforms.gather.cells import Cell, column_int64
from transforms.ledger.commit import listed_files, writers_of


def bucket_of(path: str) -> int:
    """The bucket of a part of a cell, by its name."""
    return int(path.rsplit("/", 1)[-1].removesuffix(".parquet").split("-")[-2])


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
        for writer in writers_of(self._output):
            if writer == self._writer:
                continue
            for file in listed_files(self._output, writer):
                if file.table_or_stream in FEEDS and file.hour is not None and file.row_count:
                    path = storage.absolute(self._output, file.path)
                    files.setdefault((file.table_or_stream, file.hour, bucket_of(path)), []).append(path)
        return files
