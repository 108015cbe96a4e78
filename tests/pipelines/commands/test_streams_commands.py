from __future__ import annotations

import gzip
import json
import shutil
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from tests.pipelines.commands.conftest import Call, Finished

EVENT = {
    "id": 1, "timestamp": "2026-10-01T10:15:00Z", "event_type": {"id": 1, "description": "Update location"},
    "event_severity": {"id": 1, "description": "WARN"}, "event_source": {"id": 0, "description": "Network"},
    "alert": True, "description": "Roaming not allowed, rejected", "endpoint": {"id": 7, "name": "meter"},
    "organisation": {"id": 3, "name": "ACME"},
}  # fmt: skip


def test_validate_says_in_words_what_each_stream_does(call: Call, finished: Finished) -> None:
    outcome = call("validate", finished.streams)
    assert outcome.code == 0
    assert "3 streams, no mistakes" in outcome.out
    assert "warnings (What needs a look)" in outcome.out
    assert "takes   events: (severity is WARN or graver) or (outcome is rejected)" in outcome.out
    assert f"to      files, path {finished.blocked}/archive" in outcome.out
    assert "paused: records are kept pending" in outcome.out


def test_validate_lists_every_mistake_with_its_place(call: Call, tmp_path: Path) -> None:
    streams = tmp_path / "streams.yaml"
    streams.write_text(
        "streams:\n"
        "  - name: a\n    content: events\n    filter: {min_severity: WARNIGN}\n    destination: {type: files}\n"
        "  - name: b\n    content: usage\n    colour: red\n    destination: {type: files}\n"
    )
    outcome = call("validate", streams)
    assert (outcome.code, outcome.out) == (2, "")
    first, second, count = outcome.err.splitlines()
    assert first == (
        f"{streams}:4:28 streams[0].filter.min_severity: 'WARNIGN' is none of INFO, WARN, CRITICAL (did you mean WARN?)"
    )
    assert second.startswith(f"{streams}:8:5 streams[1].colour: ")
    assert count == "2 mistakes"


def test_explain_tells_the_way_of_a_record(call: Call, finished: Finished, tmp_path: Path) -> None:
    feed = tmp_path / "feed.json"
    feed.write_text(json.dumps(EVENT, indent=1))
    outcome = call("explain", feed, f"--streams={finished.streams}")
    assert outcome.code == 0
    for text in (
        "events record 1\n",
        "cell     hour 2026-10-01 10:00 UTC, bucket 0",
        "category network_attachment (type 1, Update location)",
        "severity WARN",
        "outcome  rejected",
        "reason   roaming_not_allowed, domain connectivity",
        "    endpoint_name          meter",
        "stream warnings takes it: severity WARN is WARN or graver",
        "to files, ndjson in shape table",
        "stream archive does not take it: it carries usage",
        "stream held does not take it: it carries device_usage_hourly, which sums up usage",
    ):
        assert text in outcome.out, text
    sent = next(line for line in outcome.out.splitlines() if line.startswith("      {"))
    assert json.loads(sent)["reason"] == "roaming_not_allowed"


@pytest.mark.parametrize(
    "pattern", ["events/*/events_*.csv", "usage/*/rest-*.json", "usage/*/current-gzip*", "usage/*/cdr*"]
)
def test_explain_any_rendering(pattern: str, call: Call, finished: Finished) -> None:
    file = next(finished.feed.glob(pattern))
    outcome = call("explain", file, "--limit=3", f"--streams={finished.streams}")
    assert outcome.code == 0
    kind = pattern.partition("/")[0]
    assert outcome.out.count(f"{kind} record ") + outcome.out.count("dead letter: ") == 3
    if kind == "usage":
        assert '      "id","event_start_timestamp"' in outcome.out, "as the archive sends it"
        assert "in the sums of its device and hour" in outcome.out
        assert "(paused: kept pending)" in outcome.out


def test_explain_a_dead_letter_without_its_secrets(call: Call, tmp_path: Path) -> None:
    feed = tmp_path / "feed.ndjson"
    feed.write_text('{"id": 5, "token": "eyJhbGciOiJIUzI1NiJ9.e30.abc", "timestamp": ')
    outcome = call("explain", feed)
    assert outcome.code == 0
    assert "dead letter: truncated" in outcome.out
    assert "***" in outcome.out and "eyJhbGci" not in outcome.out


def test_explain_a_gzip_file_that_is_cut_short(call: Call, tmp_path: Path) -> None:
    feed = tmp_path / "feed.ndjson.gz"
    feed.write_bytes(gzip.compress("".join(json.dumps(EVENT | {"id": at}) + "\n" for at in range(9)).encode())[:-20])
    assert "gzip_cut" in call("explain", feed, "--limit=20").out


def test_explain_reads_standard_input(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(json.dumps(EVENT).encode() + b"\n")))
    outcome = call("explain", "-")
    assert outcome.code == 0
    assert "from     standard input, byte 0" in outcome.out


def test_explain_finds_one_record(call: Call, finished: Finished) -> None:
    file = next(finished.feed.glob("events/*/current-001.ndjson"))
    key = json.loads(file.read_bytes().splitlines()[-1])["id"]
    outcome = call("explain", file, f"--find={key}", "--limit=1")
    assert outcome.out.startswith(f"events record {key}\n")
    assert call("explain", file, "--find=no such text").code == 2


def test_explain_mistakes(call: Call, tmp_path: Path) -> None:
    outcome = call("explain", tmp_path / "none.json")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: {tmp_path}/none.json: matches no file")
    assert call("explain").code == 2


def test_deliver_waits_for_the_destination_then_delivers_in_order(
    call: Call, finished: Finished, tmp_path: Path
) -> None:
    output, blocked = tmp_path / "output", tmp_path / "blocked"
    shutil.copytree(finished.output, output)
    shutil.copy(finished.blocked, blocked)
    streams = tmp_path / "streams.yaml"
    streams.write_text(finished.streams.read_text().replace(str(finished.blocked), str(blocked)))

    still = call("deliver", output, f"--streams={streams}")
    assert still.code == 3
    assert "error: stream archive: cannot write to" in still.err

    blocked.unlink()
    done = call("deliver", output, f"--streams={streams}")
    assert (done.code, done.err) == (0, ""), "the paused stream alone waits"
    archive = next(line.split() for line in done.out.splitlines() if line.startswith("archive"))
    assert archive[1:3] == [f"{finished.truth()['usage']['unique']:,}", "0"]
    assert any((blocked / "archive").rglob("*.csv"))
    assert call("audit", output).code == 0

    streams.write_text(streams.read_text().replace("    state: paused\n", ""))
    assert call("deliver", output, f"--streams={streams}").code == 0
    assert call("deliver", output, f"--streams={streams}").out == "nothing is pending\n"
    assert call("audit", output).code == 0


def test_deliver_mistakes(call: Call, finished: Finished, tmp_path: Path) -> None:
    outcome = call("deliver", finished.output, f"--streams={tmp_path}/none.yaml")
    assert outcome.code == 2
    assert "cannot be read" in outcome.err
    assert call("deliver", finished.output).code == 2


def test_what_stands_in_a_record_does_not_command_the_terminal(call: Call, tmp_path: Path) -> None:
    feed = tmp_path / "feed.ndjson"
    feed.write_text(json.dumps(EVENT | {"description": "\x1b]0;title\x07 rejected \x9b31m"}) + "\n{\x1b[2J\n")
    out = call("explain", feed).out
    assert "␛]0;title␇ rejected" in out
    assert "dead letter: not_json" in out
    assert not {"\x1b", "\x07", "\x9b"} & set(out)


def test_explain_takes_a_directory(call: Call, finished: Finished, tmp_path: Path) -> None:
    outcome = call("explain", finished.feed / "usage", "--limit=200", "--find=cdr")
    assert outcome.code == 2, "names of files are no text of a record"
    assert call("explain", finished.feed / "usage", "--limit=2").out.count("usage record ") == 2
    assert "no file lies in" in call("explain", tmp_path).err
