"""Commit a run: sum its ledger entries, write what proves it, and sweep what it did not list.

The commit is the last thing that a run writes. Until then none of its files counts: audits, BigQuery loads and other
writers trust only files that a committed ``ledger_files`` part lists.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from schemas.tables import INPUTS, LEDGER, LEDGER_FILES, SCHEMA_VERSION, TABLES
from transforms.deliver import spool, storage
from transforms.deliver.destination import StreamDefinition
from transforms.deliver.failures import Failure
from transforms.deliver.lanes import Destinations
from transforms.deliver.parquet import read_parquet
from transforms.deliver.registry import DESTINATIONS
from transforms.deliver.warehouse import write_table_part
from transforms.ledger.counts import COUNT_KEY, COUNT_SUMS, Count, Entry, FileEntry, InputEntry, StreamError, add_counts
from transforms.ledger.in_flight import InFlight
from transforms.run import Run

COMMITS = "warehouse/_commits"
"""Directory of one small file per writer: size and checksum of its ``ledger_files`` part, which cannot list itself."""

RUN_FILE = "run.json"
"""What the last run was and how its streams stand; read by the summary and by the report."""


_log = logging.getLogger(__name__)


def commit(
    run: Run, facts: Sequence[dict[str, Any]], streams: Sequence[StreamDefinition], entries: Iterable[Entry]
) -> None:
    """Commits a batch run.

    Args:
      run: the run.
      facts: name, title, content, destination and state of each stream, for the run file.
      streams: the streams, whose destinations remove what they wrote before and do not any more.
      entries: all ledger entries of the run, in any order.

    Writes the writer's parts of ``inputs``, ``ledger`` and ``ledger_files``, an empty part of each table that the run
    gave no rows, the writer's commit file and the run file; then removes the writer's files that are not listed. The
    same entries give the same files, ``published_time`` apart.

    Raises:
      OSError: the output directory refused a file: the run fails.
    """
    entries = list(entries)
    before = listed_files(run.output, run.writer)
    files = publish(run, facts, streams, entries)
    unswept = _sweep(run, streams, files, before)
    if unswept:
        counts, _, _, errors = _sort_out(entries)
        published = int(time.time() * 1_000_000)
        path = storage.join(run.output, RUN_FILE)
        _write_json(path, run_file(run, _with_options(facts, streams), counts, unswept | errors, published))


def publish(
    run: Run,
    facts: Sequence[dict[str, Any]],
    streams: Sequence[StreamDefinition],
    entries: Iterable[Entry],
    in_flight: InFlight | None = None,
) -> list[FileEntry]:
    """Writes all that `commit` writes, and removes nothing; a live job does so again and again.

    Args:
      run: the run.
      facts: as for `commit`.
      streams: the streams.
      entries: all ledger entries.
      in_flight: what a live job has counted and is still on its way; kept in the commit file.

    Returns:
      the files that the writer now lists.

    Raises:
      OSError: the output directory refused a file.
    """
    counts, files, inputs, errors = _sort_out(entries)
    published = int(time.time() * 1_000_000)
    without_rows = set(TABLES) - {file.table_or_stream for file in files} - _OWN
    files += [_part(run, table, _empty(table)) for table in sorted(without_rows)]
    files.append(_part(run, INPUTS.name, _inputs(run, inputs)))
    files.append(_part(run, LEDGER.name, ledger_rows(run, counts, published)))
    commit_files(run, files, in_flight)
    path = storage.join(run.output, RUN_FILE)
    _write_json(path, run_file(run, _with_options(facts, streams), counts, errors, published))
    return files


def _with_options(facts: Sequence[dict[str, Any]], streams: Sequence[StreamDefinition]) -> list[dict[str, Any]]:
    """The facts, with the options of destinations that `audit` reads: some are reached only as these say."""
    options = {
        stream.name: {"options": stream.destination.model_dump(mode="json", exclude_defaults=True)}
        for stream in streams
        if DESTINATIONS[stream.destination.type].recountable
    }
    return [{**fact, **options.get(fact["name"], {})} for fact in facts]


def commit_files(run: Run, files: Sequence[FileEntry], in_flight: InFlight | None = None) -> None:
    """Writes a writer's ``ledger_files`` part and the commit file that vouches for it: from now on these files
    count.
    """
    ordered = sorted(files, key=lambda file: (file.table_or_stream, file.hour or 0, file.path))
    listed = _part(run, LEDGER_FILES.name, _ledger_files(run, ordered))
    _write_json(
        storage.join(run.output, COMMITS, f"{run.writer}.json"),
        {
            "writer": run.writer, "path": listed.path, "bytes": listed.bytes, "checksum": listed.checksum,
            **({"in_flight": msgspec.to_builtins(in_flight)} if in_flight else {}),
        },
    )  # fmt: skip


class _Commit(msgspec.Struct, frozen=True):
    in_flight: InFlight | None = None


def last_in_flight(output: str, writer: str) -> InFlight | None:
    """Returns what was in flight when a writer committed last; None where nothing was, or it has not committed.

    Raises:
      msgspec.DecodeError: its commit file is damaged.
    """
    path = storage.join(output, COMMITS, f"{writer}.json")
    if not FileSystems.exists(path):
        return None
    return msgspec.json.decode(storage.read(path), type=_Commit).in_flight


def listed_files(output: str, writer: str) -> list[FileEntry]:
    """Returns the files that a writer has committed, its ``ledger_files`` part apart; none where it has not
    committed.
    """
    path = storage.join(output, "warehouse", LEDGER_FILES.name, f"part-{writer}-0.parquet")
    if not FileSystems.exists(path):
        return []
    rows = read_parquet(path)
    hours = rows.column("hour").cast(pa.int64()).to_pylist()
    columns = [rows.column(name).to_pylist() for name in ("table_or_stream", "path", "row_count", "bytes", "checksum")]
    return [FileEntry(table, hour, *rest) for table, hour, *rest in zip(columns[0], hours, *columns[1:], strict=True)]


def writers_of(output: str) -> list[str]:
    """Returns the writers that have committed under an output directory."""
    directory = storage.join(output, COMMITS)
    return [path.rsplit("/", 1)[1].removesuffix(".json") for path in storage.list_files(directory)]


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
        elif isinstance(entry, StreamError):
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


def ledger_rows(run: Run, counts: Sequence[Count], published: int) -> pa.RecordBatch:
    """Returns rows of the ``ledger`` table."""
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
    names = ("received", "filtered_out", "delivered", "dead_lettered", "pending")
    sums = {stream["name"]: dict.fromkeys(names, 0) for stream in streams}
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


def _sweep(
    run: Run, streams: Sequence[StreamDefinition], files: Sequence[FileEntry], before: Sequence[FileEntry]
) -> dict[str, StreamError]:
    """Removes the writer's files that the commit does not list: what it listed before, and what a killed run left.

    Returns:
      the streams with files outside the output directory that should go and could not be removed.
    """
    listed = {storage.absolute(run.output, file.path) for file in files}
    outside: dict[str, set[str]] = {f"streams/{stream.name}": set() for stream in streams}
    for file in before:
        path = storage.absolute(run.output, file.path)
        if path in listed:
            continue
        if path.startswith(f"{run.output}/"):
            storage.remove(path)
        elif file.table_or_stream in outside:
            outside[file.table_or_stream].add(path)
        else:
            _log.warning("%s stays: it is of a stream that is not defined any more; remove it", path)
    listed.add(storage.join(run.output, "warehouse", LEDGER_FILES.name, f"part-{run.writer}-0.parquet"))
    for directory in (storage.join(run.output, "warehouse"), storage.join(run.output, "streams")):
        storage.sweep(directory, run.writer, listed)
    spool.sweep(run.output, run.writer, listed)
    return _sweep_outside(run, streams, listed, outside)


def _sweep_outside(
    run: Run, streams: Sequence[StreamDefinition], listed: set[str], before: Mapping[str, set[str]]
) -> dict[str, StreamError]:
    destinations, errors = Destinations({stream.name: stream for stream in streams}), {}
    try:
        for stream in streams:
            if not DESTINATIONS[stream.destination.type].recountable:
                continue  # it writes no files
            failure: Failure | None
            found = destinations.of(stream.name)
            if isinstance(found, Failure):
                failure = found if before[f"streams/{stream.name}"] else None
            else:
                failure = found.sweep(stream, run.output, run.writer, listed, before[f"streams/{stream.name}"])
            if failure is not None:
                errors[stream.name] = StreamError(stream.name, failure.error, failure.remedy)
    finally:
        destinations.close()
    return errors
