"""Batch runs and a live job over the same records, in one directory: refused beside one another, else no doubles."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end import proof, runs
from tests.pipelines.live.site import FEEDS, LiveJob, Site, needs_prism
from tests.servers.http import Receiver, receiver
from tests.servers.processes import wait_until
from tests.servers.pubsub import pubsub_servicer
from warehouse.audit import audit

pytestmark = pytest.mark.slow


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def site(tmp_path: Path, hook: Receiver) -> Iterator[Site]:
    needs_prism()
    with pubsub_servicer() as server:
        yield Site(tmp_path, server, proof.definitions(hook.address))


def batch(site: Site, lines: dict[str, list[bytes]], output: Path, feed_name: str) -> subprocess.CompletedProcess[str]:
    """A batch run over these records in files of this name: another name makes another writer."""
    for feed in FEEDS:
        (site.directory / f"{feed_name}-{feed}.ndjson").write_bytes(b"\n".join(lines[feed]) + b"\n")
    command = runs.command(f"{site.directory}/{feed_name}-{{feed}}.ndjson", output, streams=site.streams)
    return subprocess.run(command, cwd=runs.REPOSITORY, capture_output=True, text=True, timeout=300)


def live(site: Site, lines: dict[str, list[bytes]]) -> LiveJob:
    """A live job that has done with these records, and runs."""
    for feed, records in lines.items():
        site.publish(feed, records)
    job = site.job().started()
    status = site.output / ".live" / "live" / "status.json"

    def has_done() -> bool:
        assert job.process.poll() is None, job.text
        found = json.loads(status.read_bytes())
        waiting = sum(stream["pending"] for stream in found["streams"])
        return found["received"] == sum(map(len, lines.values())) and not (found["segments"] or waiting)

    wait_until(has_done, "all records are received and delivered", 240)
    return job


def state(output: Path, hook: Receiver) -> dict[str, object]:
    """What a warehouse and the streams have."""
    # Parts of duplicates only lie in no directory of an hour: then DuckDB makes no columns of the directories.
    left_out = proof.LINEAGE | {"dt", "hh"}
    found: dict[str, object] = {table: runs.rows(output, table, left_out) for table in runs.RECORD_TABLES}
    found |= {table: proof.aggregates(output, table) for table in ("device_usage_hourly", "device_events_hourly")}
    for name, wanted in proof.STREAMS.items():
        rows = proof.delivered(output, hook, name)
        found[name] = (
            Counter(row[proof.KEYS[wanted.content]] for row in rows)
            if wanted.content in proof.KEYS
            else proof.summed(rows, wanted.content)
        )
    return found


def duplicates(output: Path) -> int:
    ((found,),) = runs.ask(output, "SELECT sum(duplicates) FROM ledger WHERE stage = 'cell'")
    return int(found)


def test_a_batch_run_beside_a_live_job_is_refused_and_after_it_finds_duplicates(site: Site, hook: Receiver) -> None:
    lines = site.simulate(devices=6, seed=21, duplicates=0.02, malformed=0.0)
    job = live(site, lines)
    try:
        refused = batch(site, lines, site.output, "again")
        assert refused.returncode == 2, refused.stdout + refused.stderr
        text = " ".join((refused.stdout + refused.stderr).split())
        assert f"{site.output}: the live job 'live' is under way (process {job.process.pid}, since" in text
        assert job.stop() == 0, job.text
    finally:
        job.process.kill()
    before, known = state(site.output, hook), duplicates(site.output)
    assert audit(site.output).ok
    done = batch(site, lines, site.output, "again")
    assert done.returncode == 0, done.stdout + done.stderr
    assert state(site.output, hook) == before
    assert duplicates(site.output) == known + sum(map(len, lines.values()))
    result = audit(site.output)
    assert result.ok, "\n".join(result.lines)


def test_a_live_job_after_a_batch_run_finds_duplicates(site: Site, hook: Receiver) -> None:
    lines = site.simulate(devices=6, seed=22, duplicates=0.02, malformed=0.0)
    done = batch(site, lines, site.output, "first")
    assert done.returncode == 0, done.stdout + done.stderr
    before, known = state(site.output, hook), duplicates(site.output)
    job = live(site, lines)
    try:
        assert job.stop() == 0, job.text
    finally:
        job.process.kill()
    assert state(site.output, hook) == before
    assert duplicates(site.output) == known + sum(map(len, lines.values()))
    result = audit(site.output)
    assert result.ok, "\n".join(result.lines)
