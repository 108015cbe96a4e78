"""Dead letters of a live job: each bundle that has some leaves a part, and small parts become larger ones.

As in `transforms.keep.compact`: the merged part is written, then the books list it instead of the old ones, whose files
go when the ledger that is published lists them no more. Each letter is written again a few times only, since parts are
merged with those of about their size. Where workers share no disk there are no books: the step that writes parts merges
them (`transforms.bury_dead_letters`).

Whoever reads the directory and not the ledger may meet both for as long as one publication takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import pyarrow as pa

from schemas.tables import DEAD_LETTERS
from transforms.deliver import storage
from transforms.deliver.parquet import read_parquet
from transforms.deliver.warehouse import write_table_part
from transforms.ledger.books import Books
from transforms.ledger.counts import Entry, FileEntry, Group, Unlisted
from transforms.run import Run

FEWEST = 16
"""Parts of about the same size from which on they are merged."""

SMALL_BYTES = 1 << 20
"""Parts of so many bytes stay as they are."""

HELD_BYTES = 32 << 20
"""Memory of rows after which no more parts are read for a merge: what could not be decoded may be large."""

_MERGED = 1 << 61
"""Numbers of merged parts are random, and above those of all others."""


def merge_dead_letters(run: Run, books: Books, wanted: Callable[[], bool] = lambda: True) -> int:
    """Merges small parts of dead letters.

    Args:
      run: the run, whose output directory lies on this machine.
      books: its books; old parts are theirs to remove, see `Settled.obsolete`.
      wanted: whether to go on; asked before each merge.

    Returns:
      how many parts were replaced.

    Raises:
      OSError: the output directory is at fault. Nothing has changed for the parts at hand.
    """
    replaced = 0
    while wanted() and (small := worth_merging(books.files)):
        entries = merge_parts(run, int.from_bytes(os.urandom(7)), small)
        if not entries:
            break
        books.commit(Group(("deliver", 0, 0, 0), entries))
        books.sync()
        replaced += len(entries) - 1
    return replaced


def worth_merging(files: Iterable[FileEntry]) -> list[FileEntry]:
    """Returns the smallest parts of about the same number of rows, if there are many; none else."""
    by_size: dict[int, list[FileEntry]] = {}
    for file in files:
        if file.table_or_stream == DEAD_LETTERS.name and file.bytes < SMALL_BYTES:
            # Sixteen of a size, merged, are of the next one.
            by_size.setdefault((file.row_count.bit_length() - 1) // 4, []).append(file)
    for _, small in sorted(by_size.items()):
        if len(small) >= FEWEST:
            return sorted(small, key=lambda file: file.bytes)
    return []


def merge_parts(run: Run, number: int, small: Iterable[FileEntry]) -> list[Entry]:
    """Merges parts, as many as memory is for, wherever the output directory lies.

    Args:
      run: the run.
      number: names the merged part; no other merge may have it.
      small: the parts.

    Returns:
      entries that count together: old parts unlisted, the new one listed. The old files may be removed once that is
      published. Empty where a single part fills the memory.

    Raises:
      OSError: the output directory is at fault.
      Exception: what the remote file system raises.
    """
    old, rows = _read(run, small)
    if len(old) == 1:
        return []
    return [*(Unlisted(file.path) for file in old), write_part(run, _MERGED | number, rows)]


def write_part(run: Run, number: int, rows: pa.RecordBatch | pa.Table) -> FileEntry:
    """Writes rows of the table as the part of this number, replacing it; returns its entry.

    Raises:
      OSError: the output directory refused it.
    """
    stored = write_table_part(run.output, DEAD_LETTERS.name, None, 0, run.writer, number, rows)
    return FileEntry(DEAD_LETTERS.name, None, stored.path, rows.num_rows, stored.bytes, stored.checksum)


def _read(run: Run, small: Iterable[FileEntry]) -> tuple[list[FileEntry], pa.Table]:
    """The first parts, and their rows."""
    old: list[FileEntry] = []
    tables: list[pa.Table] = []
    held = 0
    for file in small:
        old.append(file)
        tables.append(read_parquet(storage.absolute(run.output, file.path)).cast(DEAD_LETTERS.schema))
        held += tables[-1].nbytes
        if held >= HELD_BYTES:
            break
    return old, pa.concat_tables(tables)
