"""Masks around a run: keys that are missing, and what the report hides, kept for later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.job import JobError, prepare
from pipelines.masks import key_mistakes, write_report_mask
from schemas.masks import MaskEntry
from transforms.route.definitions import StreamsFileError, load_report_mask, load_streams

STREAMS = """\
streams:
  - name: a
    content: events
    destination: {type: "null"}
    mask: [{fields: [imsi], action: pseudonymise, key: {env: MASK_KEY}}]
  - name: b
    content: events
    destination: {type: "null"}
report:
  mask: [{fields: [endpoint_id], action: pseudonymise, key: {env: MASK_KEY}}, {fields: [people], action: drop}]
"""


@pytest.fixture
def streams_file(tmp_path: Path) -> Path:
    path = tmp_path / "streams.yaml"
    path.write_text(STREAMS)
    return path


def test_the_report_mask_of_a_streams_file(streams_file: Path) -> None:
    assert [entry.fields for entry in load_report_mask(str(streams_file))] == [("endpoint_id",), ("people",)]
    streams_file.write_text(STREAMS.split("report:")[0])
    assert load_report_mask(str(streams_file)) == ()


def test_mistakes_in_the_report_mask_have_their_place(streams_file: Path) -> None:
    streams_file.write_text(STREAMS.replace("fields: [people]", "fields: [poeple, endpoint_id]"))
    with pytest.raises(StreamsFileError) as caught:
        load_streams(str(streams_file))
    assert [mistake.path for mistake in caught.value.mistakes] == [
        "report.mask[1].fields[0]",
        "report.mask[1].fields[1]",
    ]
    assert "did you mean people" in str(caught.value)


def test_missing_keys_are_told_before_a_run(
    streams_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "events.ndjson"
    events.write_text("")
    arguments = [f"--events={events}", f"--streams={streams_file}", f"--output={tmp_path / 'out'}"]
    monkeypatch.delenv("MASK_KEY", raising=False)
    with pytest.raises(JobError) as caught:
        prepare(arguments)
    assert [each for each in caught.value.mistakes if "MASK_KEY" in each] == [
        "stream a, the report: mask: environment variable MASK_KEY is not set on this worker: set it, or name another "
        "reference"
    ]
    monkeypatch.setenv("MASK_KEY", "0123456789abcdef")
    job = prepare(arguments)
    assert job.report_mask is not None
    assert len(job.report_mask) == 2
    assert key_mistakes(job.streams, job.report_mask) == []


def test_what_the_report_hides_is_kept_without_keys(
    streams_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASK_KEY", "0123456789abcdef")
    kept = tmp_path / "out" / "warehouse" / "_report.json"
    write_report_mask(str(tmp_path / "out"), [])
    assert not kept.exists()
    write_report_mask(str(tmp_path / "out"), load_report_mask(str(streams_file)))
    assert "0123456789abcdef" not in kept.read_text()
    assert [MaskEntry.model_validate(entry).action for entry in json.loads(kept.read_text())["mask"]] == [
        "pseudonymise",
        "drop",
    ]
    write_report_mask(str(tmp_path / "out"), None)
    assert len(json.loads(kept.read_text())["mask"]) == 2, "a run without a streams file leaves it"
    write_report_mask(str(tmp_path / "out"), [])
    assert json.loads(kept.read_text())["mask"] == []
