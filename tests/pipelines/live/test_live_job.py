"""The live job on Prism, end to end: what it keeps is what a batch run keeps, whatever kills it in between."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.lock import LockedError, locked
from tests.end_to_end import runs
from tests.pipelines.live.site import Site, needs_prism
from tests.servers.http import Answer, Receiver, always, receiver
from tests.servers.processes import wait_until
from tests.servers.pubsub import pubsub_emulator, pubsub_servicer
from warehouse.audit import audit
from warehouse.published import published

pytestmark = pytest.mark.slow


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def site(tmp_path: Path, hook: Receiver) -> Iterator[Site]:
    needs_prism()
    with pubsub_servicer() as server:
        yield Site(tmp_path, server, streams(hook))


def streams(hook: Receiver) -> list[dict[str, object]]:
    """A stream that sends at once, one that stores, and one of sums."""
    webhook = {"type": "webhook", "url": f"{hook.address}/events"}
    return [
        {"name": "hook", "content": "events", "destination": webhook, "batch": {"size": 100}},
        {"name": "warnings", "content": "events", "filter": {"min_severity": "WARN"}, "destination": {"type": "files"}},
        {"name": "sums", "content": "device_usage_hourly", "destination": {"type": "warehouse"}},
    ]


def received(hook: Receiver) -> list[int]:
    """Ids of the records that the receiver took."""
    return [record["event_id"] for request in hook.accepted() for record in json.loads(request.body)]


def event_ids(output: Path) -> set[int]:
    return {key for (key,) in runs.ask(output, "SELECT event_id FROM events")}


def test_stopped_by_ctrl_c_it_has_kept_what_a_batch_run_keeps(tmp_path: Path, hook: Receiver) -> None:
    needs_prism()
    with pubsub_emulator() as server:
        site = Site(tmp_path, server, streams(hook))
        lines = site.simulate(devices=60, seed=3, duplicates=0.05, malformed=0.02)
        batch = site.batch(lines)
        job = site.job().started()
        for feed, records in lines.items():
            site.publish(feed, records)
        site.wait_for(site.rows(batch))
        assert job.stop() == 0, job.text
    assert "Traceback" not in job.text
    site.assert_equals(batch)
    assert sorted(received(hook)) == sorted(event_ids(batch))  # nothing failed: each once
    assert not (site.output / ".live" / "live" / "running").exists()
    assert list((site.output / ".live" / "live" / "kept").iterdir()) == []
    assert list((site.output / ".live" / "live" / "spill").iterdir()) == []
    assert [path for path in (site.output / "pending").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("victim", ["worker", "Prism"])
def test_killed_and_started_again_it_has_kept_what_a_batch_run_keeps(site: Site, hook: Receiver, victim: str) -> None:
    lines = site.simulate(devices=25, seed=4, duplicates=0.05, malformed=0.02)
    batch = site.batch(lines)
    job = site.job().started()
    for feed, records in lines.items():
        site.publish(feed, records[: len(records) // 2])
    site.wait_for(site.rows(batch) // 5)
    for feed, records in lines.items():
        site.publish(feed, records[len(records) // 2 :])
    if victim == "worker":
        job.kill()
        with pytest.raises(LockedError, match="did not end in order"), locked(str(site.output)):
            pass
    else:
        job.prism.kill()
        assert job.ended() == 1, job.text
        assert "Prism was ended by signal 9. Nothing is lost: start the same command again" in job.text
    assert (site.output / ".live" / "live" / "running").exists()
    again = site.job().started()
    site.wait_for(site.rows(batch))
    assert again.stop(signal.SIGTERM) == 0, again.text
    site.assert_equals(batch)
    assert set(received(hook)) == event_ids(batch)


def test_while_it_runs_no_other_run_works_in_its_directory(site: Site) -> None:
    job = site.job().started()
    with pytest.raises(LockedError, match=f"process {job.process.pid}"), locked(str(site.output)):
        pass
    job.process.send_signal(signal.SIGINT)
    job.process.send_signal(signal.SIGINT)  # the second one stops it at once
    assert job.ended() in (128 + signal.SIGINT, 0), job.text


def test_a_receiver_that_hangs_holds_up_neither_the_others_nor_the_end(site: Site, hook: Receiver) -> None:
    hook.script = always(Answer(hang=True))
    lines = site.simulate(devices=30, seed=5)
    batch = site.batch(lines)
    job = site.job().started()
    for feed, records in lines.items():
        site.publish(feed, records)
    site.wait_for(site.rows(batch))
    with published(site.output) as moment:
        assert audit(moment).ok, "while it runs"
    begun = time.monotonic()
    assert job.stop() == 3, job.text
    assert time.monotonic() - begun < 60
    assert "stream hook: has pending records" in job.text or "error: stream hook" in job.text
    site.assert_equals(batch)
    hook.script = always(Answer())
    again = site.job().started()
    wait_until(lambda: set(received(hook)) >= event_ids(batch), "what waited is delivered", 120)
    assert again.stop() == 0, again.text
    site.assert_equals(batch)
