"""Prove from what lies in an output directory that nothing was lost.

`audit` recounts every file that the ledger lists (presence, size, checksum, rows), looks for files that no writer
committed, checks every equation of the ledger (`warehouse.equations`), compares the aggregates with the rows they sum
up, and counts what is pending. What a destination outside only acknowledged (a queue, an HTTP receiver) cannot be
recounted: its stream is reported as *receipts only*. While a run works in the directory, what it has published is
audited: `warehouse.published`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from transforms.deliver.parquet import read_parquet
from warehouse.equations import EQUATIONS
from warehouse.in_flight import define_in_flight
from warehouse.layout import (
    COMMITS,
    DEAD,
    PENDING,
    STREAMS,
    TEMPORARY,
    WAREHOUSE,
    existing_output,
    part_files,
    part_glob,
)
from warehouse.recount import UNREADABLE, count_rows, problem
from warehouse.stream_files import StreamFiles, Unreachable
from warehouse.views import connect

_SHOWN = 20
"""Differences of one kind that are written out; the rest is counted."""


class Commit(msgspec.Struct, frozen=True):
    """A writer's commit file: where its part of ledger_files lies, and what it must be."""

    writer: str
    path: str
    bytes: int
    checksum: str


@dataclass
class AuditResult:
    """What an audit found.

    Attributes:
      ok: everything agrees.
      first_difference: the first thing that does not, or None.
      lines: the report, one line each: every check with ``ok`` or its differences, streams, notes, and the verdict.
    """

    ok: bool = True
    first_difference: str | None = None
    lines: list[str] = field(default_factory=list)

    def passed(self, text: str) -> None:
        """Report a check that found no difference."""
        self.lines.append(f"ok    {text}")

    def note(self, text: str) -> None:
        """Report something to know that is no difference."""
        self.lines.append(f"note  {text}")

    def differ(self, text: str) -> None:
        """Report a difference."""
        self.ok = False
        self.first_difference = self.first_difference or text
        self.lines.append(f"FAIL  {text}")

    def settle(self, text: str, differences: list[str]) -> None:
        """Report a check with the differences that it found."""
        if not differences:
            self.passed(text)
        for difference in differences[:_SHOWN]:
            self.differ(f"{text}: {difference}")
        if len(differences) > _SHOWN:
            self.differ(f"{text}: and {len(differences) - _SHOWN:,} more")


def audit(output: str | os.PathLike[str]) -> AuditResult:
    """Check everything that an output directory claims about itself.

    Raises:
      warehouse.layout.WarehouseError: `output` is not an output directory.
    """
    directory = existing_output(output)
    result = AuditResult()
    files = _listed_files(directory, result)
    intact = _check_files(directory, files, result)
    _check_unlisted(directory, {row["path"] for row in files}, result)
    if result.ok or _readable(directory):
        _check_contents(directory, files, intact, result)
    else:
        result.note("the ledger cannot be read: its equations were not checked")
    verdict = "balanced: nothing was lost" if result.ok else f"NOT balanced: {result.first_difference}"
    result.lines.append(verdict)
    return result


def _listed_files(directory: Path, result: AuditResult) -> list[dict[str, Any]]:
    """Rows of the ledger_files parts that a commit vouches for; a list of files cannot hold its own checksum."""
    differences: list[str] = []
    rows: list[dict[str, Any]] = []
    committed: set[str] = set()
    for commit in _commits(directory, differences):
        committed.add(commit.path)
        found = problem(str(directory / commit.path), None, commit.bytes, commit.checksum)
        if found is not None:
            differences.append(f"{commit.path} {found}")
            continue
        rows.extend(read_parquet(str(directory / commit.path)).to_pylist())
    for part in part_files(directory, "ledger_files"):
        relative = part.relative_to(directory).as_posix()
        if relative not in committed:
            differences.append(f"{relative} belongs to no committed writer")
    result.settle(
        f"{len(committed):,} committed writer{'s' * (len(committed) != 1)}, each with its list of files", differences
    )
    return sorted(rows, key=lambda row: row["path"])


def _commits(directory: Path, differences: list[str]) -> list[Commit]:
    commits = []
    paths = sorted((directory / WAREHOUSE / COMMITS).glob("*.json"))
    if not paths:
        differences.append(f"{WAREHOUSE}/{COMMITS} holds no commit: no run finished here, or it was deleted")
    for path in paths:
        try:
            commits.append(msgspec.json.decode(path.read_bytes(), type=Commit))
        except msgspec.DecodeError as error:
            differences.append(f"{path.relative_to(directory)} cannot be read: {error}")
    return commits


def _check_files(directory: Path, files: list[dict[str, Any]], result: AuditResult) -> bool:
    """Recount every listed file. Returns whether all files of the warehouse are as listed."""
    differences, intact = [], True
    with StreamFiles(directory) as streams:
        in_tables = streams.in_tables(files)
        for row in files:
            if row["path"] in in_tables:
                continue
            path = _absolute(directory, row["path"])
            try:
                opener = streams.opener(row["table_or_stream"])
                found = problem(path, row["row_count"], row["bytes"], row["checksum"], opener)
            except Unreachable as error:
                found = f"cannot be read: {error}"
            if found is not None:
                differences.append(f"{row['path']} {found}")
                intact = intact and not row["path"].startswith(f"{WAREHOUSE}/")
    differences += [f"{path} {found}" for path, found in in_tables.items() if found is not None]
    listed_rows = sum(row["row_count"] for row in files)
    result.settle(f"{len(files):,} listed files with {listed_rows:,} rows: present, size, checksum, rows", differences)
    return intact


def _check_unlisted(directory: Path, listed: set[str], result: AuditResult) -> None:
    """A file that no writer committed would be counted by whoever reads the directory."""
    differences, empty, temporary = [], 0, 0
    for path in _files_below(directory / WAREHOUSE, directory / STREAMS):
        relative = path.relative_to(directory).as_posix()
        if path.name.startswith(TEMPORARY):
            temporary += 1
        elif path.suffix == ".parquet" and relative.split("/")[1] != "ledger_files" and relative not in listed:
            if _is_empty(path):
                empty += 1
            else:
                differences.append(f"{relative} is listed by no writer")
        elif relative.startswith(f"{STREAMS}/") and relative not in listed:
            differences.append(f"{relative} is listed by no writer")
    if differences:
        result.note(
            "files that no writer lists were left by a run that was killed, and readers count them: the next run into "
            "this directory removes them; in an object store, remove them"
        )
    result.settle("no file that is not listed", differences)
    if empty:
        result.note(f"{empty:,} parts without rows carry only their table's schema and are not listed")
    if temporary:
        result.note(f"{temporary:,} temporary files of an interrupted run; its next run removes them")


def _readable(directory: Path) -> bool:
    """Whether the tables that the equations of the ledger read can be read at all."""
    return all(
        problem(str(part), None, None, None) is None
        for table in ("ledger", "ledger_files")
        for part in part_files(directory, table)
    )


def _is_empty(path: Path) -> bool:
    try:
        return count_rows(str(path)) == 0
    except UNREADABLE:
        return False


def _check_contents(directory: Path, files: list[dict[str, Any]], intact: bool, result: AuditResult) -> None:
    with connect(directory) as connection:
        in_flight = define_in_flight(connection, directory)
        for equation in EQUATIONS:
            if equation.reads_rows and not intact:
                result.note(f"not checked, since files of the warehouse are damaged: {equation.text}")
                continue
            rows = connection.execute(equation.differences).fetchall()
            result.settle(equation.text, [f"{place}: {left} against {right}" for place, left, right in rows])
        if notes := in_flight.notes():
            ((published,),) = connection.execute(
                "SELECT strftime(max(published_time), '%Y-%m-%d %H:%M:%S') FROM ledger"
            ).fetchall()
            for note in notes:
                result.note(note)
            result.note(
                f"in flight means at {published} UTC, when the ledger was published: a job that was killed takes it up "
                "when it starts again; one that was cancelled on Dataflow, instead of drained, has lost it"
            )
        _check_pending(directory, connection, files, result)
        _check_streams(connection, files, result)
        if intact:
            _check_payloads(directory, connection, result)
            _check_repeated_ids(directory, connection, result)
        _summarise(connection, result)


def _check_pending(
    directory: Path, connection: duckdb.DuckDBPyConnection, files: list[dict[str, Any]], result: AuditResult
) -> None:
    """What the ledger counts as pending, and that does not wait within a live job, lies in the spool, in files that
    were recounted above.
    """
    counted = dict(
        connection.execute(
            "SELECT stream, sum(n)::BIGINT FROM (SELECT stream, pending AS n FROM ledger WHERE stage = 'stream' "
            "UNION ALL SELECT stream, -n FROM pending_in_flight) GROUP BY stream HAVING sum(n) <> 0"
        ).fetchall()
    )
    spooled: dict[str, int] = {}
    for row in files:
        if row["path"].startswith(f"{PENDING}/"):
            stream = row["path"].split("/")[1]
            spooled[stream] = spooled.get(stream, 0) + row["row_count"]
    differences = [
        f"stream {stream}: {counted.get(stream, 0):,} counted, {spooled.get(stream, 0):,} in {PENDING}/{stream}/"
        for stream in sorted(counted.keys() | spooled.keys())
        if counted.get(stream, 0) != spooled.get(stream, 0)
    ]
    result.settle(f"pending records lie in {PENDING}/ ({sum(counted.values()):,})", differences)
    listed = {row["path"] for row in files}
    left = [path for path in _files_below(directory / PENDING) if path.relative_to(directory).as_posix() not in listed]
    if left:
        result.note(f"{len(left):,} files in {PENDING}/ are listed by no writer: of an interrupted run or delivery")


def _check_streams(connection: duckdb.DuckDBPyConnection, files: list[dict[str, Any]], result: AuditResult) -> None:
    """Rows in a stream's listed files (recounted above) against what the ledger says was delivered."""
    stored: dict[str, int] = {}
    for row in files:
        if row["table_or_stream"].startswith(f"{STREAMS}/") and not row["path"].startswith(f"{PENDING}/"):
            name = row["table_or_stream"].removeprefix(f"{STREAMS}/")
            stored[name] = stored.get(name, 0) + row["row_count"]
    delivered = connection.execute(
        "SELECT stream, sum(delivered)::BIGINT FROM ledger WHERE stage = 'stream' GROUP BY stream ORDER BY stream"
    ).fetchall()
    for name, number in delivered:
        if name in stored and stored[name] != number:
            result.differ(f"stream {name}: {number:,} delivered, {stored[name]:,} rows in its files")
        elif name in stored:
            result.passed(f"stream {name}: {number:,} delivered, recounted in its files")
        elif number:
            result.note(f"stream {name}: {number:,} delivered, receipts only: its destination is not recounted")
        else:
            result.passed(f"stream {name}: nothing delivered")


def _check_payloads(directory: Path, connection: duckdb.DuckDBPyConnection, result: AuditResult) -> None:
    """Payloads that are too long for the table lie beside it."""
    rows = connection.execute(
        "SELECT DISTINCT payload_sha256 FROM dead_letters "
        "WHERE payload IS NULL AND payload_sha256 IS NOT NULL AND payload_size > 0 ORDER BY 1"
    ).fetchall()
    missing = [
        f"{WAREHOUSE}/{DEAD}/{digest} is missing"
        for (digest,) in rows
        if not (directory / WAREHOUSE / DEAD / digest).is_file()
    ]
    result.settle(f"{len(rows):,} long payloads of dead letters lie in {WAREHOUSE}/{DEAD}/", missing)


def _check_repeated_ids(directory: Path, connection: duckdb.DuckDBPyConnection, result: AuditResult) -> None:
    """An id twice in a cell is a difference; in two cells it is only told: two writers met the two versions apart."""
    for table, column in (("events", "event_id"), ("usage", "usage_id")):
        glob = part_glob(str(directory), table).replace("'", "''")
        rows = connection.execute(
            f"WITH repeated AS (SELECT {column} AS id FROM {table} GROUP BY {column} HAVING count(*) > 1), "
            f"lines AS (SELECT {column} AS id, hour, regexp_extract(filename, '-([0-9]+)-[0-9]+[.]parquet$', 1) "
            f"AS bucket "
            f"FROM read_parquet('{glob}', filename = true, hive_partitioning = false, union_by_name = true) "
            f"WHERE {column} IN (FROM repeated)) "
            "SELECT id, count(*) AS times, count(DISTINCT (hour, bucket)) AS cells FROM lines GROUP BY id ORDER BY id"
        ).fetchall()
        doubled = [f"id {key}: {times} rows in {cells} cells" for key, times, cells in rows if times > cells]
        result.settle(f"no id twice in a cell of {table}", doubled)
        apart = [str(key) for key, times, cells in rows if times == cells]
        if apart:
            shown = ", ".join(apart[:_SHOWN]) + (", …" if len(apart) > _SHOWN else "")
            result.note(f"{len(apart):,} ids of {table} are committed in two cells (other time or device): {shown}")


def _summarise(connection: duckdb.DuckDBPyConnection, result: AuditResult) -> None:
    rows = connection.execute(
        "SELECT feed, sum(received) FILTER (stage = 'feed'), sum(empty) FILTER (stage = 'feed'), "
        "sum(dead_lettered) FILTER (stage = 'feed'), sum(duplicates) FILTER (stage = 'cell'), "
        "sum(conflicts) FILTER (stage = 'cell'), sum(delivered) FILTER (stage = 'cell') FROM ledger GROUP BY "
        "feed ORDER BY feed"
    ).fetchall()
    for feed, *numbers in rows:
        received, empty, dead, duplicates, conflicts, kept = (number or 0 for number in numbers)
        result.lines.append(
            f"{feed}: {received:,} received = {empty:,} empty + {dead:,} dead letters + {duplicates:,} duplicates "
            f"+ {conflicts:,} conflicts + {kept:,} kept"
        )


def _files_below(*roots: Path) -> list[Path]:
    return sorted(path for root in roots if root.is_dir() for path in root.rglob("*") if path.is_file())


def _absolute(directory: Path, path: str) -> str:
    """Listed paths are relative to the output directory where they lie below it."""
    return path if re.match(r"[a-z0-9+]+://|/", path) else str(directory / path)
