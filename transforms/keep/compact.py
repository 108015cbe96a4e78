"""Compaction: the parts that the flushes of a cell have left become one part of each table once the cell is closed.

The merged parts are written first, under temporary names. Then they get their names, and the books list them instead
of the old ones, all tables of the cell in one group; the old files go when the ledger that is published lists them no
more. Killed at any step, either the old parts count or the new ones: what does not count is swept at the next start.
Rows stay as they are, also partial sums and the number of the pane that each came with, by which deliveries are named.

Whoever reads the directory and not the ledger may meet both for as long as one publication takes.

Where workers share no disk there are no books: the step that writes parts merges them (`transforms.write_kept`).

What streams store as files stays as it was delivered: receivers may have it by its name.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.records import FEEDS
from schemas.streams import Stream
from schemas.tables import DEVICE_EVENTS_HOURLY, DEVICE_USAGE_HOURLY
from transforms.deduplicate.committed import bucket_of
from transforms.deliver import formats, storage
from transforms.deliver.warehouse import WarehouseOptions
from transforms.gather.cells import Cell
from transforms.ledger.books import Books
from transforms.ledger.counts import Entry, FileEntry, Group, Unlisted
from transforms.run import Run

GROUP_ROWS = 32_768
"""Rows of a row group: of merged parts so many are held in memory (~35 MB of events, and as much again while they are
encoded), and those of one row group of an old part.
"""

ROWS_AT_ONCE = 2_000_000
"""Rows after which the rest is left to the next time: the ledger is published in between."""

LARGER = 8
"""A part that has so many times the rows of all others stays: for a few late records a large one is not rewritten."""

_KINDS = {FEEDS[0]: 0, DEVICE_EVENTS_HOURLY.name: 0, FEEDS[1]: 1, DEVICE_USAGE_HOURLY.name: 1}


@dataclass(frozen=True)
class _Merged:
    """A merged part that has no name yet."""

    temporary: str
    path: str
    entry: FileEntry
    old: list[FileEntry]


class _NotWanted(Exception):
    """The job is to stop."""


def compact(run: Run, books: Books, streams: Sequence[Stream], wanted: Callable[[], bool] = lambda: True) -> int:
    """Merges the parts of cells that are closed, also of those that an earlier process closed.

    Args:
      run: the run, whose output directory lies on this machine.
      books: its books; old parts are theirs to remove, see `Settled.obsolete`.
      streams: the stream definitions: what they keep as tables of the warehouse is merged as well.
      wanted: whether to go on; asked again and again. A merge that is under way is given up where not.

    Returns:
      how many parts were replaced.

    Raises:
      OSError: the output directory is at fault. Nothing has changed for the cell at hand.
    """
    kinds = mergeable(streams)
    replaced = rows = 0
    for cell, tables in _closed(books, kinds):
        merged: list[_Merged] = []
        try:
            pane = books.next_pane(cell.number)
            for files in tables:
                merged.append(_merge(run, cell, pane, files, wanted))
            _replace(books, cell, pane, merged)
        except _NotWanted:
            return replaced
        finally:
            for one in merged:
                storage.remove(one.temporary)
        replaced += sum(len(one.old) for one in merged)
        rows += sum(one.entry.row_count for one in merged)
        if rows >= ROWS_AT_ONCE:
            break
    return replaced


def mergeable(streams: Sequence[Stream]) -> dict[str, int]:
    """The tables whose parts are merged, and the kind of their cells: also what streams keep as tables."""
    return _KINDS | {
        f"streams/{stream.name}": _KINDS[stream.content]
        for stream in streams
        if isinstance(stream.destination, WarehouseOptions)
    }


def merge_parts(run: Run, cell: Cell, pane: int, files: Sequence[FileEntry]) -> list[Entry]:
    """Merges parts of a cell, wherever the output directory lies, under their own name at once: nobody lists it yet.

    Args:
      run: the run.
      cell: the cell.
      pane: number of the merged parts, used for no other.
      files: the parts, of tables that may be merged.

    Returns:
      entries that count together: old parts unlisted, new ones listed. The old files may be removed once that is
      published.

    Raises:
      OSError: this worker's disk, or a local output directory, is at fault.
      Exception: what the remote file system raises. In both cases no merged part is left.
    """
    tables: dict[str, list[FileEntry]] = {}
    for file in files:
        tables.setdefault(file.table_or_stream, []).append(file)
    entries: list[Entry] = []
    try:
        for old in filter(None, map(_worth_merging, tables.values())):
            with tempfile.TemporaryDirectory(prefix="data-streamer-") as directory:
                temporary = os.path.join(directory, "merged.parquet")
                rows = _write(temporary, [storage.absolute(run.output, file.path) for file in old], lambda: True)
                new = _entry_of(run, cell, pane, old[0], temporary, rows)
                entries += [*(Unlisted(file.path) for file in old), new]
                storage.copy(temporary, storage.absolute(run.output, new.path))
    except BaseException:
        for entry in entries:
            if isinstance(entry, FileEntry):
                storage.remove(storage.absolute(run.output, entry.path))
        raise
    return entries


def _closed(books: Books, kinds: dict[str, int]) -> Iterator[tuple[Cell, list[list[FileEntry]]]]:
    """Cells that are closed, and of each table what is to be merged."""
    found: dict[Cell, dict[str, list[FileEntry]]] = {}
    for file in books.files:
        if file.table_or_stream in kinds and file.hour is not None:
            cell = Cell(kinds[file.table_or_stream], file.hour, bucket_of(file.path))
            found.setdefault(cell, {}).setdefault(file.table_or_stream, []).append(file)
    for cell, tables in found.items():
        merged = [files for files in map(_worth_merging, tables.values()) if files]
        if merged and books.is_closed(cell.number):
            yield cell, merged


def _worth_merging(files: Sequence[FileEntry]) -> list[FileEntry]:
    """Parts of a table in the order of their panes, without those that are much larger than the rest."""
    small = sorted(files, key=lambda file: file.row_count)
    while len(small) > 1 and small[-1].row_count > LARGER * sum(file.row_count for file in small[:-1]):
        small.pop()
    return sorted(small, key=_pane_of) if len(small) > 1 else []


def _pane_of(file: FileEntry) -> int:
    return int(file.path.rsplit("/", 1)[-1].removesuffix(".parquet").split("-")[-1])


def _merge(run: Run, cell: Cell, pane: int, files: list[FileEntry], wanted: Callable[[], bool]) -> _Merged:
    """Writes the rows of parts one after another into a file that has no name yet."""
    directory = os.path.dirname(storage.absolute(run.output, files[0].path))
    temporary = os.path.join(directory, f"{storage.TEMPORARY}{uuid.uuid4().hex[:12]}.parquet")
    try:
        rows = _write(temporary, [storage.absolute(run.output, file.path) for file in files], wanted)
        entry = _entry_of(run, cell, pane, files[0], temporary, rows)
    except BaseException:
        storage.remove(temporary)
        raise
    return _Merged(temporary, storage.absolute(run.output, entry.path), entry, files)


def _entry_of(run: Run, cell: Cell, pane: int, old: FileEntry, temporary: str, rows: int) -> FileEntry:
    """The entry of a merged part that still has a temporary name; it goes beside `old`."""
    size, checksum = storage.measure(temporary)
    path = storage.join(os.path.dirname(old.path), storage.part_name(run.writer, cell.bucket, pane, "parquet"))
    return FileEntry(old.table_or_stream, cell.hour, path, rows, size, checksum)


def _write(path: str, parts: Sequence[str], wanted: Callable[[], bool]) -> int:
    schema = pa.unify_schemas([_schema_of(part) for part in parts])
    rows, waiting = 0, schema.empty_table()
    with open(path, "xb") as file, formats.parquet_writer(file, schema) as writer:
        for part in parts:
            with _opened(part) as source:
                for group in range(source.num_row_groups):
                    if not wanted():
                        raise _NotWanted
                    found = source.read_row_group(group, use_threads=False)
                    rows += found.num_rows
                    waiting = pa.concat_tables([waiting, found], promote_options="default")
                    if waiting.num_rows >= GROUP_ROWS:
                        writer.write_table(waiting.cast(schema), GROUP_ROWS)
                        waiting = schema.empty_table()
        if waiting.num_rows or not rows:
            writer.write_table(waiting.cast(schema), GROUP_ROWS)
    return rows


@contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    """A part, wherever it lies; Arrow opens by itself what lies on this machine."""
    if not storage.is_remote(path):
        with pq.ParquetFile(path) as part:
            yield part
        return
    with storage.opened(path) as file, pq.ParquetFile(pa.PythonFile(file, mode="r")) as part:
        yield part


def _schema_of(path: str) -> pa.Schema:
    with _opened(path) as part:
        return part.schema_arrow


def _replace(books: Books, cell: Cell, pane: int, merged: Sequence[_Merged]) -> None:
    """Gives merged parts their names, and has the books list them instead of the old ones."""
    entries: list[Entry] = []
    for one in merged:
        os.replace(one.temporary, one.path)
        entries += [Unlisted(file.path) for file in one.old]
        entries.append(one.entry)
    books.commit(Group(("compact", cell.number, pane, 0), entries))
    books.sync()
