"""Commit a run: sum its ledger entries, write what proves it, and sweep what it did not list.

The commit is the last thing that a run writes. Until then none of its files counts: audits, BigQuery loads and other writers
trust only files that a committed ``ledger_files`` part lists.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from schemas.tables import INPUTS, LEDGER, LEDGER_FILES, SCHEMA_VERSION, TABLES
from transforms.deliver import storage
from transforms.deliver.warehouse import write_table_part
from transforms.ledger.counts import COUNT_KEY, COUNT_SUMS, Count, Entry, FileEntry, InputEntry, StreamError, add_counts
from transforms.run import Run

COMMITS = "warehouse/_commits"
"""Directory of one small file per writer: size and checksum of its ``ledger_files`` part, which cannot list itself."""

RUN_FILE = "run.json"
"""What the last run was and how its streams stand; read by the report and by ``data-streamer status``."""


def commit(run: Run, streams: Sequence[dict[str, Any]], entries: Iterable[Entry]) -> None:
    """Commits a batch run.

    Args:
      run: the run.
      streams: name, title, content, destination and state of each stream, for the run file.
      entries: all ledger entries of the run, in any order.

    Writes the writer's parts of ``inputs``, ``ledger`` and ``ledger_files``, an empty part of each table that the run gave no
    rows, the writer's commit file and the run file; then removes the writer's files that are not listed. The same entries
    give the same files, ``published_time`` apart.

    Raises:
      OSError: the output directory refused a file: the run fails.
    """
    counts, files, inputs, errors = _sort_out(entries)
    published = int(time.time() * 1_000_000)
    files += [_part(run, table, _empty(table)) for table in sorted(set(TABLES) - {f.table_or_stream for f in files} - _OWN)]
    files.append(_part(run, INPUTS.name, _inputs(run, inputs)))
    files.append(_part(run, LEDGER.name, _ledger(run, counts, published)))
    files.sort(key=lambda file: (file.table_or_stream, file.hour or 0, file.path))
    listed = _part(run, LEDGER_FILES.name, _ledger_files(run, files))
    _write_json(
        storage.join(run.output, COMMITS, f"{run.writer}.json"),
        {"writer": run.writer, "path": listed.path, "bytes": listed.bytes, "checksum": listed.checksum},
    )
    _write_json(storage.join(run.output, RUN_FILE), run_file(run, streams, counts, errors, published))
    _sweep(run, files, listed)


_OWN = {INPUTS.name, LEDGER.name, LEDGER_FILES.name}


def _sort_out(
    entries: Iterable[Entry],
) -> tuple[list[Count], list[FileEntry], list[InputEntry], dict[str, StreamError]]:
    counts: list[Count] = []
    files: dict[str, FileEntry] = {}
    inputs: list[InputEntry] = []
    errors: dict[str, StreamError] = {}
    for entry in entries:
        if isinstance(entry, Count):
            counts.append(entry)
        elif isinstance(entry, FileEntry):
            files[entry.path] = entry
        elif isinstance(entry, InputEntry):
            inputs.append(entry)
        else:
            errors.setdefault(entry.stream, entry)
    return add_counts(counts), list(files.values()), inputs, errors


def _part(run: Run, table: str, rows: pa.RecordBatch) -> FileEntry:
    stored = write_table_part(run.output, table, None, 0, run.writer, 0, rows)
    path = storage.relative(run.output, stored.path)
    return FileEntry(table, None, path, rows.num_rows, stored.bytes, stored.checksum)


def _empty(table: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=TABLES[table].schema)


def _inputs(run: Run, entries: Iterable[InputEntry]) -> pa.RecordBatch:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in entries:
        row = rows.setdefault(
            (entry.feed, entry.file),
            {
                "writer": run.writer, "feed": entry.feed, "file": entry.file, "bytes": 0, "records": 0,
                "dead_letters": 0, "first_time": None, "last_time": None,
            },
        )  # fmt: skip
        for name in ("bytes", "records", "dead_letters"):
            row[name] += getattr(entry, name)
        for name, best in (("first_time", min), ("last_time", max)):
            row[name] = best((time for time in (row[name], getattr(entry, name)) if time is not None), default=None)
    return pa.RecordBatch.from_pylist([rows[key] for key in sorted(rows)], schema=INPUTS.schema)


def _ledger(run: Run, counts: Sequence[Count], published: int) -> pa.RecordBatch:
    rows = [
        {
            "writer": run.writer,
            **{name: getattr(count, name) for name in (*COUNT_KEY, *COUNT_SUMS, "final")},
            "published_time": published,
        }
        for count in counts
    ]
    return pa.RecordBatch.from_pylist(rows, schema=LEDGER.schema)


def _ledger_files(run: Run, files: Sequence[FileEntry]) -> pa.RecordBatch:
    names = ("table_or_stream", "hour", "path", "row_count", "bytes", "checksum")
    rows = [{"writer": run.writer, **{name: getattr(file, name) for name in names}} for file in files]
    return pa.RecordBatch.from_pylist(rows, schema=LEDGER_FILES.schema)


def run_file(
    run: Run,
    streams: Sequence[dict[str, Any]],
    counts: Sequence[Count],
    errors: dict[str, StreamError],
    published: int,
) -> dict[str, Any]:
    """Returns the content of the run file: the writer, when it finished, and each stream with its counts and error."""
    sums = {stream["name"]: dict.fromkeys(("received", "filtered_out", "delivered", "dead_lettered", "pending"), 0) for stream in streams}
    for count in counts:
        if count.stream in sums:
            for name in sums[count.stream]:
                sums[count.stream][name] += getattr(count, name)
    found = [
        {
            **stream,
            **sums[stream["name"]],
            "error": errors[stream["name"]].error if stream["name"] in errors else None,
            "remedy": errors[stream["name"]].remedy if stream["name"] in errors else None,
        }
        for stream in streams
    ]
    return {"writer": run.writer, "finished": published, "schema_version": SCHEMA_VERSION, "streams": found}


def _write_json(path: str, content: dict[str, Any]) -> None:
    storage.publish(path, json.dumps(content, indent=1, ensure_ascii=False).encode())


def _sweep(run: Run, files: Sequence[FileEntry], listed: FileEntry) -> None:
    """Removes the writer's files that the commit does not list, below DIR and in each directory that a stream wrote to."""
    paths = {storage.absolute(run.output, path) for path in [listed.path, *(file.path for file in files)]}
    for directory in ("warehouse", "streams"):
        storage.sweep(storage.join(run.output, directory), run.writer, paths)
