"""Run the job, in this process or in one of its own, and read back what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb

from simulator import SimulationOptions, simulate
from tests.end_to_end import jobs

REPOSITORY = Path(__file__).resolve().parents[2]
STREAMS = REPOSITORY / "examples" / "streams.yaml"

RECORD_TABLES = ("events", "usage")
ALL_TABLES = (*RECORD_TABLES, "device_usage_hourly", "device_events_hourly", "dead_letters", "ledger", "inputs")
UNSTABLE = {"published_time"}
LINEAGE = {"writer", "pane", "source_file", "byte_offset", "ingest_time", "schema_version"}


def feed(directory: Path, **options: Any) -> dict[str, Any]:
    """Simulates a feed and returns its truth."""
    simulate(SimulationOptions(**options), directory)
    return json.loads((directory / "truth.json").read_text())


def command(feeds: str, output: Path, *options: str, streams: Path | None = STREAMS) -> list[str]:
    """The command line of a run over ``feeds``, a directory pattern with the feeds below it; without views and report,
    which are a third of a small run.
    """
    arguments = [f"--events={feeds.replace('{feed}', 'events')}", f"--usage={feeds.replace('{feed}', 'usage')}"]
    if streams is not None:
        arguments.append(f"--streams={streams}")
    return [sys.executable, "-m", "pipelines.data_streamer", *arguments, f"--output={output}", "--no_report", *options]


def run(
    feeds: str, output: Path, *options: str, streams: Path | None = STREAMS, code: int = 0, apart: bool = False
) -> str:  # fmt: skip
    """Runs the job and returns what it printed.

    Args:
      apart: in a process of its own, whose start costs seconds.
    """
    arguments = command(feeds, output, *options, streams=streams)
    if not apart:
        ended = jobs.start(*arguments[3:])
        assert ended.code == code, f"exit code {ended.code}, expected {code}\n{ended.text}"
        return ended.text
    done = subprocess.run(
        arguments,
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def ask(output: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query; ``{table}`` stands for a table of the warehouse."""
    with duckdb.connect() as connection:
        for table in (*ALL_TABLES, "ledger_files"):
            glob = f"{output}/warehouse/{table}/**/*.parquet"
            connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{glob}', union_by_name = true)")
        return connection.sql(sql).fetchall()


def rows(output: Path, table: str, leave_out: set[str] = UNSTABLE) -> list[tuple[Any, ...]]:
    """All rows of a table, sorted, some columns left out."""
    left_out = [name for (name, *_) in ask(output, f"DESCRIBE {table}") if name in leave_out]
    excluded = f"EXCLUDE ({', '.join(left_out)})" if left_out else ""
    return sorted(ask(output, f"SELECT * {excluded} FROM {table}"), key=repr)


def state(output: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, published_time apart."""
    return {table: rows(output, table) for table in ALL_TABLES}


def stream_bytes(output: Path) -> dict[str, bytes]:
    """The files of the streams by their path."""
    root = output / "streams"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def temporary_files(output: Path) -> list[str]:
    """Temporary and spill files that were left."""
    return [
        str(path.relative_to(output))
        for path in output.rglob("*")
        if ".tmp-" in path.name or path.suffix == ".arrow" and ".run" in path.parts
    ]
