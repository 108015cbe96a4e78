"""The summary of a local run: counts, streams, where the outputs are, and what to do next."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipelines.job import Job
from schemas.tables import LEDGER
from transforms.deliver import storage
from transforms.ledger.commit import RUN_FILE

COMPLETE, INCOMPLETE = 0, 3


def print_summary(job: Job, report: str, seconds: float) -> int:
    """Prints what the run did; returns its exit code: 3 where a running stream has pending records or an error, else 0."""
    console = Console(highlight=False)
    run = json.loads(storage.read(storage.join(job.run.output, RUN_FILE)))
    counts = _counts(job)
    records = sum(counts["feed", feed].get("decoded", 0) for feed in ("events", "usage"))
    console.print(
        f"{records:,} records in {seconds:.1f} s ({records / max(seconds, 0.001):,.0f}/s), writer {job.run.writer}\n"
    )
    console.print(_feeds(counts))
    if run["streams"]:
        console.print(_streams(run["streams"]))
    failed = [stream for stream in run["streams"] if _failed(stream)]
    for stream in failed:
        console.print(f"[red]stream {stream['name']}:[/red] {stream['error'] or 'has pending records'}", soft_wrap=True)
        if stream["remedy"]:
            console.print(f"  {stream['remedy']}", soft_wrap=True)
    _print_next(console, job, report, bool(failed))
    return INCOMPLETE if failed else COMPLETE


def _failed(stream: dict[str, Any]) -> bool:
    return stream["state"] == "running" and bool(stream["error"] or stream["pending"])


def _counts(job: Job) -> dict[tuple[str, str], dict[str, int]]:
    """This writer's ledger, summed by (stage, feed)."""
    path = storage.join(job.run.output, "warehouse", LEDGER.name, f"part-{job.run.writer}-0.parquet")
    names = ("received", "empty", "decoded", "dead_lettered", "duplicates", "conflicts", "delivered")
    sums: dict[tuple[str, str], dict[str, int]] = {("feed", f): {} for f in ("events", "usage")}
    sums |= {("cell", f): {} for f in ("events", "usage")}
    rows = pq.read_table(pa.BufferReader(storage.read(path))).to_pylist()
    for row in rows:
        found = sums.get((row["stage"], row["feed"]))
        if found is not None:
            for name in names:
                found[name] = found.get(name, 0) + row[name]
    return sums


def _feeds(counts: dict[tuple[str, str], dict[str, int]]) -> Table:
    table = Table(title="records", title_justify="left")
    for name in ("feed", "received", "empty", "dead letters", "decoded", "duplicates", "conflicts", "unique"):
        table.add_column(name, justify="left" if name == "feed" else "right")
    for feed in ("events", "usage"):
        read, cell = counts["feed", feed], counts["cell", feed]
        values = (
            read.get("received", 0), read.get("empty", 0), read.get("dead_lettered", 0), read.get("decoded", 0),
            cell.get("duplicates", 0), cell.get("conflicts", 0), cell.get("delivered", 0),
        )  # fmt: skip
        table.add_row(feed, *(f"{value:,}" for value in values))
    return table


def _streams(streams: list[dict[str, Any]]) -> Table:
    table = Table(title="streams", title_justify="left")
    for name in ("stream", "content", "destination", "state", "delivered", "filtered out", "dead letters", "pending"):
        right = name in ("delivered", "filtered out", "dead letters", "pending")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for stream in streams:
        numbers = (stream[name] for name in ("delivered", "filtered_out", "dead_lettered", "pending"))
        state = "error" if stream["error"] else stream["state"]
        table.add_row(
            stream["name"], stream["content"], stream["destination"], state, *(f"{number:,}" for number in numbers)
        )
    return table


def _print_next(console: Console, job: Job, report: str, failed: bool) -> None:
    output = job.run.output
    lines = [
        ("report", report),
        ("tables", f"{output}/warehouse (Parquet), {output}/warehouse.duckdb (views)"),
        ("proof", f"data-streamer audit {output}"),
        ("query", f'data-streamer sql {output} "SELECT category, count(*) FROM events GROUP BY ALL"'),
        ("one device", f"data-streamer device {output} ID"),
    ]
    if job.streams:
        lines.insert(1, ("streams", f"{output}/streams"))
    if failed:
        lines.append(("pending", f"data-streamer deliver {output} --streams=FILE, once the destination is back"))
    console.print()
    for name, text in lines:
        console.print(f"  {name:<11} {text}", soft_wrap=True, markup=False)
