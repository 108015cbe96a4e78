"""A live job in a process of its own, the records that it is sent, and what a batch run makes of the same records."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from pipelines.live.prism import PrismError, find_prism
from tests.end_to_end import runs
from tests.servers.processes import wait_until
from tests.servers.pubsub import PROJECT, PubSub
from warehouse.audit import audit

FEEDS = ("events", "usage")
START = 240.0
"""Seconds that a job has to start reading on a machine that does much else."""


def needs_prism() -> None:
    """Skips the test where Prism is not installed."""
    try:
        find_prism()
    except PrismError as error:
        pytest.skip(str(error))


class LiveJob:
    """A live job that runs; what it prints to standard error is kept."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]):
        self.process = subprocess.Popen(
            command, cwd=runs.REPOSITORY, env={**os.environ, "PYTHONPATH": str(runs.REPOSITORY), **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def started(self) -> LiveJob:
        """Waits until it reads."""
        wait_until(lambda: "reading" in self.text or self.process.poll() is not None, "the job reads", START)
        assert self.process.poll() is None, self.text
        return self

    @property
    def prism(self) -> psutil.Process:
        (found,) = [child for child in psutil.Process(self.process.pid).children() if child.name() == "prism"]
        return found

    def stop(self, with_signal: signal.Signals = signal.SIGINT) -> int:
        """Has it drain; returns its exit code."""
        self.process.send_signal(with_signal)
        return self.ended()

    def kill(self) -> None:
        """Ends it as a power failure would."""
        prism = self.prism
        self.process.kill()
        self.process.wait()
        wait_until(lambda: not prism.is_running() or prism.status() == psutil.STATUS_ZOMBIE, "Prism ends with us", 20)

    def ended(self, seconds: float = 120) -> int:
        """Waits until it has ended; returns its exit code."""
        code = self.process.wait(seconds)
        self._reading.join(10)
        return code


class Site:
    """Subscriptions, records and an output directory of a live job."""

    def __init__(self, directory: Path, server: PubSub, streams: Sequence[dict[str, object]]):
        self.directory, self.output, self.server = directory, directory / "live", server
        self.streams = directory / "streams.yaml"
        self.streams.write_text(json.dumps({"streams": streams}))
        for feed in FEEDS:
            server.create_topic(feed, feed)

    def simulate(self, **options: object) -> dict[str, list[bytes]]:
        """Records of both feeds, one a line, with duplicates, and lines that are none."""
        feed = self.directory / "feed"
        runs.feed(feed, **{"renderings": {"current": 1.0}, "gzipped": 0.0, "empty": 0.0, **options})
        return {
            name: [line for path in sorted((feed / name).rglob("*.ndjson")) for line in path.read_bytes().splitlines()]
            for name in FEEDS
        }

    def publish(self, feed: str, lines: Sequence[bytes]) -> None:
        with self.server.publisher() as publisher:
            for start in range(0, len(lines), 500):
                messages = [{"data": line} for line in lines[start : start + 500]]
                publisher.publish(request={"topic": f"projects/{PROJECT}/topics/{feed}", "messages": messages})

    def job(self, *options: str, **environment: str) -> LiveJob:
        """Starts the live job."""
        subscriptions = [f"--{feed}_subscription=projects/{PROJECT}/subscriptions/{feed}" for feed in FEEDS]
        command = [
            sys.executable, "-m", "pipelines.data_streamer", "--streaming", *subscriptions,
            f"--streams={self.streams}", f"--output={self.output}", "--aggregate_every=1s", "--publish_every=2s",
            "--no_report", *options,
        ]  # fmt: skip
        return LiveJob(command, {**self.server.environment, **environment})

    def batch(self, lines: dict[str, list[bytes]]) -> Path:
        """Runs the batch job over the same records; returns its output directory."""
        output = self.directory / "batch"
        for feed in FEEDS:
            (self.directory / f"{feed}.ndjson").write_bytes(b"\n".join(lines[feed]) + b"\n")
        runs.run(f"{self.directory}/{{feed}}.ndjson", output, streams=None)
        return output

    @staticmethod
    def rows(output: Path) -> int:
        """Rows of events and usage that the parts of a warehouse hold now."""
        parts = [part for feed in FEEDS for part in (output / "warehouse" / feed).rglob("part-*.parquet")]
        return sum(pq.read_metadata(part).num_rows for part in parts)

    def wait_for(self, rows: int, seconds: float = 240) -> None:
        """Waits until the warehouse has so many rows; messages that a killed job had pulled come again after 60 s."""
        until = time.monotonic() + seconds
        while (found := self.rows(self.output)) < rows:
            assert time.monotonic() < until, f"{found} rows of {rows} after {seconds} s"
            time.sleep(0.5)

    def assert_equals(self, batch: Path) -> None:
        """The live warehouse holds exactly the rows and dead letters of the batch run, and its ledger balances."""
        result = audit(self.output)
        assert result.ok, "\n".join(result.lines)
        for table in FEEDS:
            ours, theirs = (runs.rows(output, table, runs.LINEAGE) for output in (self.output, batch))
            assert ours == theirs, f"{table}: {len(ours)} rows against {len(theirs)}"
        dead = "SELECT feed, kind, payload_sha256, count(*) FROM dead_letters GROUP BY ALL ORDER BY ALL"
        assert runs.ask(self.output, dead) == runs.ask(batch, dead)
