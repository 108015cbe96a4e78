"""Mistakes in options and files are all told before the run, with exit code 2, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import commands
from tests.end_to_end import jobs

STREAMS = """\
streams:
  - name: Warnings!
    content: events
    filter: {min_severity: WARNIGN}
    destination: {type: files}
  - name: archive
    content: usage
    format: csv
    shape: csv
    colour: red
    destination: {type: files, path: "${DATA_STREAMER_NOT_SET}/x"}
  - name: archive
    content: usages
    destination: {type: fils}
  - name: sums
    content: device_usage_hourly
    shape: emnify
    filter: {min_severity: WARN}
    destination: {type: files}
"""


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    return jobs.write_lines(tmp_path / "feed.ndjson", list(jobs.samples("events").values()))


def refused(output: Path, *arguments: object) -> str:
    """Starts the job, which must refuse, and returns what it printed, on one line."""
    done = jobs.start(*arguments, f"--output={output}")
    assert done.code == 2, done.text
    assert not output.exists()
    return " ".join(done.text.split())


def test_all_mistakes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA_STREAMER_NOT_SET", raising=False)
    streams = tmp_path / "streams.yaml"
    streams.write_text(STREAMS)
    text = refused(
        tmp_path / "output", f"--events={tmp_path}/none-*.json,{tmp_path}/neither-*.json", f"--usage={tmp_path}/nix*",
        f"--streams={streams}", "--bukets=3", "--processes=0", "--buckets=many",
    )  # fmt: skip
    for expected in (
        "--bukets: no such option (did you mean --buckets?)",
        "--buckets: 'many' is not valid; expected a whole number",
        "--processes: 0 is not a number of processes",
        f"--events={tmp_path}/none-*.json: matches no file",
        f"--events={tmp_path}/neither-*.json: matches no file",
        f"--usage={tmp_path}/nix*: matches no file",
        f"{streams}:2:11 streams[0].name: must be 1 to 63 lower-case letters",
        f"{streams}:4:28 streams[0].filter.min_severity: 'WARNIGN' is none of INFO, WARN, CRITICAL "
        "(did you mean WARN?)",
        f"{streams}:10:5 streams[1].colour:",
        "DATA_STREAMER_NOT_SET",
        f"{streams}:12:11 streams[2].name: 'archive' is the name of streams[1] too",
        f"{streams}:13:14 streams[2].content: 'usages' is none of",
        f"{streams}:14:25 streams[2].destination",
        f"{streams}:17:12 streams[3].shape: 'emnify' is for events, usage",
        f"{streams}:18:14 streams[3].filter.min_severity",
        "nothing was started",
    ):
        assert expected in text, f"{expected}\n\n{text}"
    assert f"{streams}:11:" in text


def test_the_same_as_the_command_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["run", f"--output={tmp_path}/output", "--bukets=3"]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert "--bukets: no such option" in text and "at least one feed" in text
    assert not (tmp_path / "output").exists()


def test_no_feed_and_no_output() -> None:
    done = jobs.start("--processes=1")
    assert done.code == 2
    assert "--events, --usage: both missing" in done.text and "--output: missing" in done.text


def test_an_option_without_its_value(tmp_path: Path, feed: Path) -> None:
    assert "--streams: expected one argument" in refused(tmp_path / "output", f"--events={feed}", "--streams")


def test_a_streams_file_that_is_not_there(tmp_path: Path, feed: Path) -> None:
    text = refused(tmp_path / "output", f"--events={feed}", f"--streams={tmp_path}/none.yaml")
    assert f"{tmp_path}/none.yaml" in text


@pytest.mark.parametrize("content", ["streams: [", "streams:\n  - name: a\n\tcontent: events\n", "- a\n- b\n", ""])
def test_a_streams_file_that_is_none(tmp_path: Path, feed: Path, content: str) -> None:
    streams = tmp_path / "streams.yaml"
    streams.write_text(content)
    assert f"{streams}:" in refused(tmp_path / "output", f"--events={feed}", f"--streams={streams}")


def test_an_output_that_is_a_file(tmp_path: Path, feed: Path) -> None:
    done = jobs.start(f"--events={feed}", f"--output={feed}/output")
    assert done.code == 2
    assert "is not a directory" in done.text


def test_a_directory_for_a_glob(tmp_path: Path) -> None:
    (tmp_path / "feeds" / "day").mkdir(parents=True)
    text = refused(tmp_path / "output", f"--events={tmp_path}/feeds/*")
    assert "is a directory" in text or "matches no file" in text


def test_two_streams_in_one_place(tmp_path: Path, feed: Path) -> None:
    place = {"type": "files", "path": str(tmp_path / "target")}
    streams = jobs.write_streams(
        tmp_path / "streams.yaml", {"name": "a", "content": "events", "destination": place},
        {"name": "b", "content": "events", "destination": place},
    )  # fmt: skip
    assert "streams[1].destination" in refused(tmp_path / "output", f"--events={feed}", f"--streams={streams}")


def test_other_buckets_than_the_warehouse_has(tmp_path: Path, feed: Path) -> None:
    output = tmp_path / "output"
    jobs.run(output, "--buckets=4", events=feed)
    done = jobs.start(f"--events={feed}", f"--output={output}", "--buckets=2")
    assert done.code == 2
    assert "was created with 4, which is fixed" in " ".join(done.text.split())
    jobs.run(output, "--buckets=4", events=feed)
    jobs.run(output, events=feed)


def test_a_reasons_file_with_mistakes(tmp_path: Path, feed: Path) -> None:
    reasons = tmp_path / "reasons.yaml"
    reasons.write_text("reasons:\n  - {types: [3], text: '(', reason: x, domain: nowhere}\n")
    text = refused(tmp_path / "output", f"--events={feed}", f"--reasons={reasons}")
    assert str(reasons) in text
