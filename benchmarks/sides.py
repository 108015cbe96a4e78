"""The command lines that are compared, and the streams that they deliver."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb

from benchmarks.feeds import Feed
from benchmarks.measure import REPOSITORY, Measurement, measure

STREAMS = REPOSITORY / "examples" / "streams.yaml"

_EXCEPTIONS: tuple[dict[str, object], ...] = (
    {"outcome": "rejected"},
    {"severity": "CRITICAL"},
    {"rat": "2G"},
    {"alert": True},
)


def ours(feed: Feed, output: Path, processes: int, streams: Path | None = STREAMS) -> Measurement:
    """Runs the job without views and report, which are no part of what is compared."""
    shutil.rmtree(output, ignore_errors=True)
    command = [
        sys.executable, "-m", "pipelines.data_streamer", f"--events={feed.events}", f"--usage={feed.usage}",
        f"--output={output}", f"--processes={processes}", "--no_report",
    ]  # fmt: skip
    return measure([*command, f"--streams={streams}"] if streams else command)


def peer(feed: Feed, output: Path, threads: int = 2) -> Measurement:
    """Runs the DuckDB peer."""
    command = [sys.executable, "-m", "benchmarks.duckdb_peer", f"--events={feed.events}", f"--usage={feed.usage}"]
    return measure([*command, f"--output={output}", f"--threads={threads}"])


def textbook(feed: Feed, output: Path) -> Measurement:
    """Runs the textbook job, one record an element."""
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.textbook_beam", f"--events={feed.events}", f"--usage={feed.usage}"]
    return measure([*command, f"--output={output}"])


def one_stream(path: Path) -> Path:
    """Writes a streams file with one stream of all events, to nowhere."""
    return _write(path, [{}])


def many_streams(path: Path, organisations: Sequence[int], count: int = 50) -> Path:
    """Writes a streams file with `count` streams of events, each with a filter of its own, to nowhere.

    Each takes two organisations' events, less a small part of them: together they select each event several times, as
    do the streams of many users and purposes.
    """
    filters: list[dict[str, object]] = []
    for number in range(count):
        chosen = sorted({organisations[(number + shift) % len(organisations)] for shift in (0, 1)})
        filters.append({"organisation": chosen, "not": _EXCEPTIONS[number % len(_EXCEPTIONS)]})
    return _write(path, filters)


def _write(path: Path, filters: Sequence[dict[str, object]]) -> Path:
    streams = [
        {"name": f"stream-{number}", "content": "events", "format": "ndjson", "filter": chosen,
         "destination": {"type": "null"}}
        for number, chosen in enumerate(filters)
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"streams": streams}, indent=1))  # JSON is YAML
    return path


def selected_rows(output: Path) -> int:
    """Rows that the streams of a run delivered, by its ledger."""
    ledger = f"read_parquet('{output}/warehouse/ledger/*.parquet')"
    query = f"SELECT coalesce(sum(delivered), 0) FROM {ledger} WHERE stage = 'stream'"
    with duckdb.connect() as connection:
        return int(connection.execute(query).fetchall()[0][0])
