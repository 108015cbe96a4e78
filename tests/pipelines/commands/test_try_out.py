"""``data-streamer test`` and the preflight of a run, against a receiver that answers as it is told to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import preflight
from pipelines.commands import main
from schemas.tables import STREAM_CONTENTS
from tests.end_to_end import jobs
from tests.servers import http
from transforms.deliver.sample import MARK, sample_rows
from transforms.deliver.webhook import WebhookDestination
from transforms.route.definitions import load_streams


@pytest.fixture
def server() -> Iterator[http.Receiver]:
    with http.receiver() as receiver:
        yield receiver


def streams_file(directory: Path, *streams: dict[str, object]) -> Path:
    path = directory / "streams.yaml"
    path.write_text(json.dumps({"streams": list(streams)}))
    return path


def hook(address: str, **more: object) -> dict[str, object]:
    return {"name": "hook", "content": "events", "destination": {"type": "webhook", "url": f"{address}/in", **more}}


def test_sends_one_marked_record_and_tells_the_answer(
    tmp_path: Path, server: http.Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = http.always(http.Answer(202, b"queued as 17"))
    assert main(["test", "hook", f"--streams={streams_file(tmp_path, hook(server.address))}"]) == 0
    (request,) = server.requests
    (record,) = json.loads(request.body)
    assert record["endpoint_name"] == MARK and record["organisation_name"] == MARK and record["event_id"] == 1
    said = capsys.readouterr().out
    assert "hook: taken by webhook in 0." in said and "202 Accepted: queued as 17" in said


@pytest.mark.parametrize("shape", ["table", "emnify"])
@pytest.mark.parametrize("content", ["events", "usage"])
def test_the_mask_of_the_stream_applies(
    tmp_path: Path, server: http.Receiver, monkeypatch: pytest.MonkeyPatch, content: str, shape: str
) -> None:
    monkeypatch.setenv("MASK_KEY", "a key of sixteen or more")
    key = {"env": "MASK_KEY"}
    mask = [{"fields": ["iccid", "iccid_19", "imsi"], "action": "pseudonymise", "key": key},
            {"fields": ["organisation_name"], "action": "drop"}]  # fmt: skip
    (clear,) = sample_rows(content).column("iccid").to_pylist()
    for masked in (False, True):
        stream = {**hook(server.address), "content": content, "shape": shape, **({"mask": mask} if masked else {})}
        assert main(["test", "hook", f"--streams={streams_file(tmp_path, stream)}"]) == 0
        sent = server.requests[-1].body.decode()
        assert (clear in sent) is not masked
        # The device is named as the organisation is, so that this name goes wherever else it stands.
        assert (f'"{MARK}"' in sent) is not masked


def test_a_mask_without_its_key_is_a_mistake_and_nothing_is_sent(
    tmp_path: Path, server: http.Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MASK_KEY", raising=False)
    mask = [{"fields": ["iccid", "imsi"], "action": "pseudonymise", "key": {"env": "MASK_KEY"}}]
    assert main(["test", "hook", f"--streams={streams_file(tmp_path, {**hook(server.address), 'mask': mask})}"]) == 2
    assert "stream hook: mask: environment variable MASK_KEY is not set" in capsys.readouterr().err
    assert not server.requests


def test_makes_one_attempt_and_tells_why_it_failed(
    tmp_path: Path, server: http.Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = http.always(http.Answer(500, b"out of order"))
    assert main(["test", "hook", f"--streams={streams_file(tmp_path, hook(server.address))}"]) == 3
    assert len(server.requests) == 1
    said = capsys.readouterr().out
    assert "hook: not taken by webhook (transient" in said and "answered 500: out of order" in said


def test_what_it_writes_it_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "archive"
    stream = {
        "name": "keep",
        "content": "usage",
        "format": "parquet",
        "destination": {"type": "files", "path": str(target)},
    }
    assert main(["test", "keep", f"--streams={streams_file(tmp_path, stream)}"]) == 0
    assert "wrote" in capsys.readouterr().out
    assert [path for path in target.rglob("*") if path.is_file()] == []


def test_mistakes_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    streams = streams_file(tmp_path, hook("http://127.0.0.1:1", headers={"Authorization": {"env": "NOT_THERE"}}))
    assert main(["test", "hok", f"--streams={streams}"]) == 2
    assert "did you mean hook?" in capsys.readouterr().err
    assert main(["test", "hook", f"--streams={streams}"]) == 2
    assert "environment variable NOT_THERE is not set" in capsys.readouterr().err


@pytest.mark.parametrize("content", STREAM_CONTENTS)
def test_every_content_has_a_sample(content: str) -> None:
    rows = sample_rows(content)
    assert rows.num_rows == 1
    assert rows.column("endpoint_name").to_pylist() == [MARK]


def run(tmp_path: Path, streams: Path, *more: str) -> jobs.Done:
    events = jobs.write_lines(tmp_path / "events.json", list(jobs.samples("events").values()))
    return jobs.start(f"--events={events}", f"--streams={streams}", f"--output={tmp_path / 'output'}", *more)


def test_a_missing_secret_is_found_before_the_run(tmp_path: Path, server: http.Receiver) -> None:
    streams = streams_file(tmp_path, hook(server.address, headers={"Authorization": {"env": "NOT_THERE"}}))
    done = run(tmp_path, streams)
    assert done.code == 2 and "stream hook (webhook): environment variable NOT_THERE is not set" in done.text
    assert not (tmp_path / "output").exists() and not server.requests


def test_a_certificate_that_nobody_trusts_is_found_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    with http.receiver(directory=tmp_path / "tls") as server:
        done = run(tmp_path, streams_file(tmp_path, hook(server.address)))
    assert done.code == 2 and "its certificate is not valid or not trusted" in done.text
    assert not (tmp_path / "output").exists()


def test_a_server_that_is_down_is_a_warning_and_its_records_wait(tmp_path: Path) -> None:
    streams = streams_file(tmp_path, hook("http://127.0.0.1:1", retry={"attempts": 1}))
    done = run(tmp_path, streams)
    assert done.code == 3 and "warning: stream hook (webhook)" in done.text
    assert list((tmp_path / "output" / "pending" / "hook").rglob("*.arrow"))


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_directory_that_cannot_be_written_is_a_warning_and_its_records_wait(tmp_path: Path, state: str) -> None:
    """Whoever runs the tests may be root, whom no rights stop: a file stands where the directory should be."""
    (tmp_path / "target").write_text("in the way")
    keep = {"name": "keep", "content": "events", "state": state,
            "destination": {"type": "files", "path": f"{tmp_path}/target/{{date}}"}}  # fmt: skip
    own = {"name": "own", "content": "events", "destination": {"type": "files"}}
    done = run(tmp_path, streams_file(tmp_path, keep, own))
    warning = f"warning: stream keep (files): cannot write to {tmp_path}/target: Not a directory; a file is where a"
    assert (" ".join(warning.split()) in " ".join(done.text.split())) is (state == "running")
    assert "warning: stream own" not in done.text
    assert done.code == (3 if state == "running" else 0)
    assert list((tmp_path / "output" / "pending" / "keep").rglob("*.arrow"))
    assert list((tmp_path / "output" / "streams" / "own").rglob("part-*"))


def test_directories_of_other_machines_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("in the way")
    keep = {"name": "keep", "content": "events", "destination": {"type": "files", "path": f"{tmp_path}/target"}}
    streams = load_streams(str(streams_file(tmp_path, keep)))
    assert len(preflight.look_ahead(streams, str(tmp_path / "output"), here=True).warnings) == 1
    assert preflight.look_ahead(streams, str(tmp_path / "output"), here=False) == preflight.Preflight()


def test_preflight_can_be_turned_off(tmp_path: Path) -> None:
    streams = streams_file(tmp_path, hook("http://127.0.0.1:1", headers={"Authorization": {"env": "NOT_THERE"}}))
    done = run(tmp_path, streams, "--no_preflight")
    assert done.code == 3 and "warning" not in done.text
    assert "environment variable NOT_THERE is not set" in done.text


def test_what_never_answers_does_not_hold_up_the_look_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "SECONDS", 0.2)
    monkeypatch.setattr(WebhookDestination, "preflight", lambda *_: time.sleep(5))
    started = time.monotonic()
    done = run(tmp_path, streams_file(tmp_path, {**hook("http://127.0.0.1:1", retry={"attempts": 1})}))
    assert "no answer within" in done.text and done.code == 3
    assert time.monotonic() - started < 5 + 30
