from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.data_streamer import main as data_streamer
from pipelines.screen import print_table
from pipelines.summary import _streams
from tests.pipelines.commands.conftest import Call, Finished


def test_the_summary_tells_the_truth(finished: Finished) -> None:
    outcome = finished.outcome
    assert outcome.code == 3, "a stream's destination is blocked"
    lines = outcome.out.splitlines()
    for feed, truth in finished.truth().items():
        words = next(line.split() for line in lines if line.startswith(f"{feed} "))
        names = ("received", "empty", "dead_lettered", "decoded", "duplicates", "conflicts", "unique")
        assert words[1:] == [f"{truth[name]:,}" for name in names]
    streams = {line.split()[0]: line.split() for line in lines if line.startswith(("warnings", "archive", "held"))}
    assert streams["archive"][3] == "error" and streams["archive"][-1] == f"{finished.truth()['usage']['unique']:,}"
    assert streams["warnings"][3] == "running" and streams["warnings"][-1] == "0"
    assert streams["held"][3] == "paused" and streams["held"][-1] != "0"
    assert "error: stream archive: cannot write to" in outcome.out


def test_the_table_of_streams_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    stream = {
        "name": "a-long-name-of-a-stream-of-a-customer", "content": "device_events_hourly", "destination": "files",
        "state": "running", "error": None, "delivered": 1_234_567, "filtered_out": 12_345_678, "dead_lettered": 123,
        "pending": 0,
    }  # fmt: skip
    console = Console(width=80, force_terminal=True, color_system=None)
    print_table(console, _streams([stream, stream | {"name": "warnings", "error": "gone"}]))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "".join(line.split()[0] for line in lines[1:-1]) == stream["name"]
    assert all(text in "\n".join(lines) for text in ("1,234,567", "12,345,678", "pending", "error"))


def test_every_mistake_is_told_at_once_and_nothing_is_written(call: Call, tmp_path: Path) -> None:
    streams = tmp_path / "streams.yaml"
    streams.write_text(
        "streams:\n"
        "  - {name: one, content: evnts, destination: {type: files}}\n"
        "  - {name: two, content: events, filter: {min_severity: WARNIGN}, destination: {type: files}}\n"
        "  - {name: three, content: usage, destination: {type: fils}}\n"
    )
    outcome = call(
        "run", "--evnts=x", "stray", f"--events={tmp_path}/none/*,{tmp_path}/nor/*", f"--streams={streams}",
        f"--output={tmp_path}/output", "--processes=0", "--buckets=many", f"--reasons={tmp_path}/none.yaml", "--usage",
    )  # fmt: skip
    assert (outcome.code, outcome.out) == (2, "")
    for text in (
        "--evnts: no such option (did you mean --events?)",
        "stray: belongs to no option",
        f"--events={tmp_path}/none/*: matches no file",
        f"--events={tmp_path}/nor/*: matches no file",
        f"{streams}:2:",
        f"{streams}:3:",
        f"{streams}:4:",
        "--processes: 0 is not a number of processes",
        "--buckets: 'many' is not valid; expected a whole number",
        "none.yaml: cannot be read",
        "--usage: expected one argument",
    ):
        assert outcome.err.count(text) == 1, text
    assert outcome.err.splitlines()[-1] == "11 mistakes found; nothing was started."
    assert sorted(tmp_path.iterdir()) == [streams]


def test_without_arguments_it_says_what_is_needed(call: Call) -> None:
    outcome = call("run")
    assert outcome.code == 2
    assert {line.split(":")[1].strip() for line in outcome.err.splitlines()[:-1]} == {"--events, --usage", "--output"}


def test_an_output_that_cannot_be_a_directory(call: Call, finished: Finished) -> None:
    outcome = call("run", f"--events={finished.feed}/events/*/*", f"--output={finished.blocked}/output")
    assert outcome.code == 2
    assert "is not a directory" in outcome.err


def test_buckets_are_fixed(call: Call, finished: Finished) -> None:
    outcome = call("run", f"--events={finished.feed}/events/*/*", f"--output={finished.output}", "--buckets=2")
    assert outcome.code == 2
    assert "was created with 1" in outcome.err


def test_a_second_run_into_the_same_directory_is_refused(call: Call, finished: Finished, tmp_path: Path) -> None:
    (tmp_path / ".run").mkdir()
    with open(tmp_path / ".run" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = call("run", f"--events={finished.feed}/events/*/*", f"--output={tmp_path}")
    assert outcome.code == 2
    assert "a run is under way" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == [".run"]


def test_help_of_the_job_lists_our_options_first_then_those_of_beam(capsys: pytest.CaptureFixture[str]) -> None:
    assert data_streamer(["--help"]) == 0
    text = capsys.readouterr().out
    places = [text.index(option) for option in ("--events", "--output", "--reasons", "--runner", "--temp_location")]
    assert places == sorted(places)


def test_own_reasons_reach_the_rows(call: Call, finished: Finished, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("- {types: [9], reason: somebody_did_it, domain: platform}\n")
    outcome = call(
        "run", f"--events={finished.feed}/events/*/current-0*", f"--output={tmp_path}/output", f"--reasons={own}"
    )
    assert outcome.code == 0
    found = call(
        "sql", tmp_path / "output", "SELECT DISTINCT event_type_id, reason_domain FROM events WHERE reason = "
        "'somebody_did_it'", "--format=csv",
    )  # fmt: skip
    assert found.out.splitlines()[1:] == ["9,platform"]
