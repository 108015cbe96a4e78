"""Settle deliveries from the spool: the ledger's deltas (−n pending, +n delivered) and the list of files.

The deltas are further parts of the writer that spooled the records. When that writer runs again, its new commit
replaces all of it, and they go.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from schemas.tables import DEAD_LETTERS, LEDGER
from transforms.dead_letters import dead_letter_batch
from transforms.deliver.pending import Redelivery
from transforms.deliver.warehouse import write_table_part
from transforms.ledger.commit import commit_files, ledger_rows, listed_files
from transforms.ledger.counts import Count, FileEntry, settled
from transforms.run import Run


def settle(output: str, redelivered: Sequence[Redelivery]) -> None:
    """Writes what became of parts of the spool into the ledgers of their writers.

    Safe to call again with the same parts: a part whose spool file a ledger does not list any more was settled before.

    Raises:
      OSError: the output directory is at fault.
    """
    for writer in sorted({done.part.writer for done in redelivered}):
        _settle_writer(Run(output, writer), [done for done in redelivered if done.part.writer == writer])


def _settle_writer(run: Run, redelivered: Sequence[Redelivery]) -> None:
    files = {file.path: file for file in listed_files(run.output, run.writer)}
    open_ones = [done for done in redelivered if done.spooled in files]
    if not open_ones:
        return
    for done in open_ones:
        del files[done.spooled]
        name, hour = done.part.stream, done.part.hour
        for file in done.files:
            path, count = file.path, int(file.row_count or 0)
            files[path] = FileEntry(f"streams/{name}", hour, path, count, file.bytes, file.checksum)
        if done.rest is not None:
            path, count = done.rest.path, int(done.rest.row_count or 0)
            files[path] = FileEntry(f"pending/{name}", hour, path, count, done.rest.bytes, done.rest.checksum)
    letters = [letter for done in open_ones for letter in done.dead_letters]
    rows = [(LEDGER.name, ledger_rows(run, [_delta(done) for done in open_ones], int(time.time() * 1_000_000)))]
    if letters:
        rows.append((DEAD_LETTERS.name, dead_letter_batch(letters, run.writer, run.dead)))
    for table, batch in rows:
        number = 1 + max(_number(path) for path, file in files.items() if file.table_or_stream == table)
        part = write_table_part(run.output, table, None, 0, run.writer, number, batch)
        files[part.path] = FileEntry(table, None, part.path, batch.num_rows, part.bytes, part.checksum)
    commit_files(run, list(files.values()))


def _delta(done: Redelivery) -> Count:
    part = done.part
    return settled(part.stream, part.table, part.hour, done.delivered, len(done.dead_letters), part.pane)


def _number(path: str) -> int:
    """Number of a part of a table without an hour: ``part-<writer>-<number>.parquet``."""
    return int(path.rsplit("-", 1)[1].removesuffix(".parquet"))
