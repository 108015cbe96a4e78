"""Streams that a live job cannot serve are refused before the start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.job import JobError, prepare
from pipelines.live import options
from tests.end_to_end import jobs

SUBSCRIPTION = "--events_subscription=projects/p/subscriptions/events"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Prism is found, whether there is one or not."""
    monkeypatch.setattr(options, "find_prism", lambda location: tmp_path / "prism")


def streams_file(directory: Path, **method: str) -> Path:
    table = {"type": "bigquery", "project": "acme", "dataset": "iot", "table": "events", **method}
    path = directory / "streams.yaml"
    path.write_text(json.dumps({"streams": [{"name": "lake", "content": "events", "destination": table}]}))
    return path


@pytest.mark.parametrize("method", [{"method": "load"}, {}])
def test_load_jobs_of_bigquery_are_refused(tmp_path: Path, method: dict[str, str]) -> None:
    streams = streams_file(tmp_path, **method)
    done = jobs.start(
        "--streaming", SUBSCRIPTION, f"--streams={streams}", f"--output={tmp_path}/output", "--no_preflight"
    )
    assert done.code == 2, done.text
    text = " ".join(done.text.split())
    assert f"--streams: {streams}: stream lake (bigquery): method load replaces what the same job has loaded" in text
    assert "use method: storage_write" in text
    assert not (tmp_path / "output").exists()


def test_the_mistake_is_told_beside_others(tmp_path: Path) -> None:
    streams = streams_file(tmp_path, method="load")
    with pytest.raises(JobError) as raised:
        prepare(["--streaming", f"--streams={streams}", f"--output={tmp_path}/output", "--no_preflight"])
    assert ["--events_subscription" in text or "storage_write" in text for text in raised.value.mistakes] == [True] * 2


def test_the_storage_write_api_serves_a_live_job(tmp_path: Path) -> None:
    streams = streams_file(tmp_path, method="storage_write")
    arguments = ["--streaming", SUBSCRIPTION, f"--streams={streams}", f"--output={tmp_path}/output", "--no_preflight"]
    (stream,) = prepare(arguments).streams
    assert stream.name == "lake"


def test_a_batch_run_may_load(tmp_path: Path) -> None:
    feed = jobs.write_lines(tmp_path / "events.ndjson", [b"{}"])
    streams = streams_file(tmp_path, method="load")
    arguments = [f"--events={feed}", f"--streams={streams}", f"--output={tmp_path}/output", "--no_preflight"]
    (stream,) = prepare(arguments).streams
    assert stream.name == "lake"
