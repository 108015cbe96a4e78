"""What Dataflow runs of a live job, on Prism: the same rows as a batch run, from the runner's state alone."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path

import pytest

from tests.end_to_end import jobs, live_proof, runs
from tests.end_to_end.bounded import messages
from tests.end_to_end.in_state import job_of, work
from tests.end_to_end.live_proof import check, sent, standing, usage_ids
from tests.pipelines.live.site import needs_prism
from tests.servers.aws import REGION, aws_emulator
from tests.servers.http import Answer, Receiver, always
from warehouse.audit import audit
from warehouse.published import published

pytestmark = pytest.mark.slow

feed, batch, server, streams = live_proof.feed, live_proof.batch, live_proof.server, live_proof.streams


@pytest.fixture(scope="module", autouse=True)
def prism() -> None:
    needs_prism()


def test_any_order_gives_what_the_batch_run_gives(
    feed: Path, batch: Path, tmp_path: Path, server: Receiver, streams: Path
) -> None:
    job = job_of(tmp_path / "output", streams)
    counters = work(job, messages(feed, 1), tmp_path)
    check(tmp_path / "output", batch, server)
    records = len(usage_ids(batch))
    assert counters["cells usage.kept"] == counters["streams hook.delivered"] == records
    assert counters["streams hook.pending"] == 0 == counters["cells open_ids"]
    assert max(sent(server, "/sums").values()) == 1


def test_a_job_after_a_drain_goes_on_where_that_one_ended(
    feed: Path, batch: Path, tmp_path: Path, server: Receiver, streams: Path
) -> None:
    """Half, half, and everything once more: numbers of panes, ids and the ledger are those of the warehouse."""
    output, segments = tmp_path / "output", messages(feed, 2)
    half = len(segments) // 2
    work(job_of(output, streams, close_after=1e9), segments[:half], tmp_path)
    assert final(output) == {False}  # drained before their cells had closed
    work(job_of(output, streams, close_after=-60.0), segments[half:], tmp_path, half)
    assert final(output) == {True}  # drained after it
    check(output, batch, server)
    work(job_of(output, streams), segments, tmp_path, len(segments))
    assert runs.rows(output, "events", runs.LINEAGE) == runs.rows(batch, "events", runs.LINEAGE)
    assert max(sent(server, "/").values()) == 1
    assert audit(output).ok


def test_every_publication_adds_up_and_dead_letters_do_not_drown_the_warehouse(
    feed: Path, batch: Path, tmp_path: Path, server: Receiver, streams: Path
) -> None:
    """Records come for eight seconds; what is on its way between steps is no difference."""
    output, segments = tmp_path / "output", messages(feed, 6, size=20)
    done, found = threading.Event(), []

    def follow() -> None:
        while not done.wait(0.1):
            if (output / "warehouse/_commits").exists():
                with published(output) as moment:
                    found.append(audit(moment))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        job = job_of(output, streams, publish_every=0.3, aggregate_every=3.0)
        work(job, segments, tmp_path, every=8 / len(segments))
    finally:
        done.set()
        thread.join()
    check(output, batch, server)
    assert len(found) >= 5
    assert [result.lines for result in found if not result.ok] == []
    assert any("in flight" in line for result in found for line in result.lines)
    bad = {payload for (payload,) in runs.ask(batch, "SELECT payload FROM dead_letters")}
    blocks = sum(not bad.isdisjoint(lines) for _, lines in segments)
    listed = "ledger_files WHERE table_or_stream = 'dead_letters' AND row_count > 0"
    ((parts,),) = runs.ask(output, f"SELECT count(*) FROM {listed}")
    assert parts <= 6 < blocks, "each block with a bad record would be a part"


def final(output: Path) -> set[bool]:
    """What the ledger says of the hours."""
    return {found for (found,) in runs.ask(output, "SELECT DISTINCT final FROM ledger WHERE stage = 'cell'")}


def test_what_cannot_be_delivered_waits_in_the_spool_and_is_sent_first(
    feed: Path, batch: Path, tmp_path: Path, server: Receiver, streams: Path
) -> None:
    output, segments = tmp_path / "output", messages(feed, 3)
    half = len(segments) // 2
    server.script = always(Answer(status=503))
    work(job_of(output, streams), segments[:half], tmp_path)
    assert not sent(server, "/")
    waiting = {name: (delivered, pending) for name, _, _, delivered, pending, _ in standing(output)}
    assert waiting["hook"][0] == 0 and waiting["hook"][1] > 0
    assert audit(output).ok, audit(output).lines
    server.script = always(Answer())
    work(job_of(output, streams), segments[half:], tmp_path, half)
    check(output, batch, server)
    assert set(sent(server, "/")) == usage_ids(batch)


def test_an_archive_has_a_file_for_each_hour_however_many_parts_its_cells_have(
    feed: Path, batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, segments = tmp_path / "output", messages(feed, 4)
    with aws_emulator() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        store.create_bucket("acme-iot-archive")
        options = {"type": "s3", "bucket": "acme-iot-archive", "region": REGION, "rotate_interval": 900}
        given = jobs.write_streams(
            tmp_path / "streams.yaml", {"name": "archive", "content": "usage", "destination": options}
        )
        work(job_of(output, given, buckets=4), segments, tmp_path)
        files = store.objects("acme-iot-archive", "archive/")
        assert audit(output).ok, audit(output).lines
    rows = [json.loads(line) for data in files.values() for line in gzip.decompress(data).splitlines()]
    assert sorted(row["usage_id"] for row in rows) == sorted(usage_ids(batch))
    listed = "ledger_files WHERE table_or_stream = 'usage' AND row_count > 0"
    ((hours, parts),) = runs.ask(output, f"SELECT count(DISTINCT hour), count(*) FROM {listed}")
    assert len(files) == hours < parts
