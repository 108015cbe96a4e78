"""The summary of a local run: counts, streams, where the outputs are, and what to do next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.job import Job
from pipelines.screen import console_of, cut, print_line, print_prose, print_table, table_of
from schemas.tables import LEDGER
from transforms.deliver import storage
from transforms.deliver.parquet import read_parquet
from transforms.deliver.pending import PendingResult
from transforms.ledger.commit import RUN_FILE

COMPLETE, INCOMPLETE = 0, 3


def print_summary(job: Job, report: str | None, seconds: float, waited: Sequence[PendingResult]) -> int:
    """Prints what the run did; returns its exit code: 3 if a running stream has pending records or an error, else 0.

    Args:
      job: the job.
      report: path of the report; None where none was written.
      seconds: how long the run took.
      waited: what became of records that waited from earlier runs.
    """
    console = console_of()
    run = json.loads(storage.read(storage.join(job.run.output, RUN_FILE)))
    counts = _counts(job)
    records = sum(counts["feed", feed].get("decoded", 0) for feed in ("events", "usage"))
    rate = records / max(seconds, 0.001)
    print_line(console, f"{records:,} records in {seconds:.1f} s ({rate:,.0f}/s), writer {job.run.writer}")
    print_line(console)
    print_table(console, _feeds(counts))
    if run["streams"]:
        print_line(console)
        print_table(console, _streams(run["streams"]))
    for result in waited:
        if result.delivered:
            print_line(console, f"stream {result.stream}: {result.delivered:,} records of earlier runs delivered first")
    failed = [stream for stream in run["streams"] if _failed(stream)]
    _print_next(console, job, report, bool(failed))
    for stream in failed:
        _print_error(stream["name"], stream["error"] or "has pending records", stream["remedy"])
    stuck = [result for result in waited if result.error and result.stream not in {one["name"] for one in failed}]
    for result in stuck:
        _print_error(result.stream, result.error or "", result.remedy)
    running = {stream.name for stream in job.streams if stream.state == "running"}
    return INCOMPLETE if failed or running & {result.stream for result in stuck} else COMPLETE


def _print_error(stream: str, error: str, remedy: str | None) -> None:
    console = console_of(stderr=True)
    print_prose(console, Text.assemble(("error:", "red"), f" stream {stream}: {error}"))
    if remedy:
        print_prose(console, f"  {remedy}")


def _failed(stream: dict[str, Any]) -> bool:
    return stream["state"] == "running" and bool(stream["error"] or stream["pending"])


def _counts(job: Job) -> dict[tuple[str, str], dict[str, int]]:
    """This writer's ledger, summed by (stage, feed)."""
    path = storage.join(job.run.output, "warehouse", LEDGER.name, f"part-{job.run.writer}-0.parquet")
    names = ("received", "empty", "decoded", "dead_lettered", "duplicates", "conflicts", "delivered")
    sums: dict[tuple[str, str], dict[str, int]] = {("feed", f): {} for f in ("events", "usage")}
    sums |= {("cell", f): {} for f in ("events", "usage")}
    rows = read_parquet(path).to_pylist()
    for row in rows:
        found = sums.get((row["stage"], row["feed"]))
        if found is not None:
            for name in names:
                found[name] = found.get(name, 0) + row[name]
    return sums


def _feeds(counts: dict[tuple[str, str], dict[str, int]]) -> Table:
    numbers = ("received", "empty", "dead", "decoded", "duplicates", "conflicts", "unique")
    table = table_of(("feed", *numbers), numbers)
    for feed in ("events", "usage"):
        read, cell = counts["feed", feed], counts["cell", feed]
        values = (
            read.get("received", 0), read.get("empty", 0), read.get("dead_lettered", 0), read.get("decoded", 0),
            cell.get("duplicates", 0), cell.get("conflicts", 0), cell.get("delivered", 0),
        )  # fmt: skip
        table.add_row(feed, *(f"{value:,}" for value in values))
    return table


def _streams(streams: list[dict[str, Any]]) -> Table:
    numbers = ("delivered", "filtered", "dead", "pending")
    table = table_of(("stream", "content", "to", "state", *numbers), numbers)
    table.columns[0].overflow = "fold"  # a name tells streams apart: all of it is shown
    for stream in streams:
        values = (stream[count] for count in ("delivered", "filtered_out", "dead_lettered", "pending"))
        state = "error" if stream["error"] else stream["state"]
        table.add_row(
            stream["name"], cut(stream["content"]), stream["destination"], state, *(f"{value:,}" for value in values)
        )
    return table


def _print_next(console: Console, job: Job, report: str | None, failed: bool) -> None:
    output = job.run.output
    lines = [("tables", f"{output}/warehouse")]
    if report is not None:
        lines = [("report", report), *lines]
        if not storage.is_remote(output):
            lines.append(("views", f"{output}/warehouse.duckdb"))
    lines += [
        ("proof", f"data-streamer audit {output}"),
        ("query", f'data-streamer sql {output} "SHOW TABLES"'),
        ("one device", f"data-streamer device {output} ID"),
    ]
    if job.streams:
        lines.insert(1, ("streams", f"{output}/streams"))
    if failed:
        lines.append(("pending", f"data-streamer deliver {output} --streams=FILE"))
    print_line(console)
    for name, text in lines:
        print_line(console, f"  {name:<10}  {text}")
