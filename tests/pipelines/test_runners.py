"""Which runner a job is for, in how many processes, and what is told when it cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from rich.console import Console

from pipelines import launch
from pipelines.data_streamer import build
from pipelines.job import prepare
from pipelines.local import local_options
from pipelines.lock import LockedError, locked
from pipelines.runners import runner_of
from tests.end_to_end import jobs
from tests.graphs import EVENT

CLOUD = ("--runner=DataflowRunner", "--project=acme-iot", "--region=europe-west3", "--temp_location=gs://acme-iot/temp")


def refused(tmp_path: Path, *arguments: str) -> str:
    """Starts the job, which must refuse before it writes anything, and returns what it printed, on one line."""
    events = jobs.write_lines(tmp_path / "events.json", [])
    done = jobs.start(f"--events={events}", f"--output={tmp_path}/output", *arguments)
    assert done.code == 2, done.text
    assert sorted(tmp_path.iterdir()) == [events]
    return " ".join(done.text.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--runner=DirectRunne"], "--runner: 'DirectRunne' is no runner of Beam (did you mean DirectRunner?)"),
        (["--runner=Abacus"], "--runner: Unexpected pipeline runner: Abacus. Valid values are DataflowRunner"),
        (["--runner=no.such.Runner"], "--runner: No module named 'no'"),
        (["--direct_running_mode=multi_threading"], "--direct_running_mode: multi_threading loses bundles"),
        ([*CLOUD[:1], *CLOUD[2:]], "project"),
        ([*CLOUD[:3]], "temp_location"),
        ([*CLOUD[:3], "--temp_location=/tmp/x"], "/tmp/x"),
        ([*CLOUD], "workers on Dataflow need a bucket"),
    ],
)
def test_a_runner_that_cannot_be_is_told_before_the_run(tmp_path: Path, arguments: list[str], expected: str) -> None:
    assert expected in refused(tmp_path, *arguments)


def test_one_of_the_places_on_dataflow_is_enough(tmp_path: Path) -> None:
    text = refused(tmp_path, *CLOUD[:3], "--staging_location=gs://acme-iot/staging")
    assert "1 mistake found" in text, "the output directory, which is local"


@pytest.mark.parametrize(
    ("arguments", "processes"),
    [
        ([], 1),
        (["--processes=3"], 3),
        (["--direct_num_workers=3"], 3),
        (["--direct_num_workers=0"], os.cpu_count()),
        (["--direct_running_mode=multi_processing"], os.cpu_count()),
        (["--direct_running_mode=multi_processing", "--direct_num_workers=3"], 3),
        (["--direct_running_mode=multi_processing", "--processes=1"], 1),
    ],
)
def test_processes_of_a_small_input(tmp_path: Path, arguments: list[str], processes: int) -> None:
    events = jobs.write_lines(tmp_path / "events.json", [])
    job = prepare([f"--events={events}", f"--output={tmp_path}/output", *arguments])
    assert local_options(job).view_as(DirectOptions).direct_num_workers == processes


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "FnApiRunner"),
        (["--runner=DirectRunner"], "FnApiRunner"),
        (["--runner=FnApiRunner"], "FnApiRunner"),
        (["--runner=PrismRunner"], "PrismRunner"),
        (["--runner=DataflowRunner"], "DataflowRunner"),
    ],
)
def test_the_usual_runner_is_beams_engine_in_this_process(arguments: list[str], expected: str) -> None:
    assert runner_of(PipelineOptions(arguments)) == expected


@pytest.mark.parametrize(("path", "code"), [("{tmp}/partner", 0), ("/proc/nowhere", 3)])
def test_a_runner_of_others_is_waited_for_and_ends_as_a_local_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str, code: int
) -> None:
    events = jobs.write_lines(tmp_path / "events.json", [EVENT])
    streams = jobs.write_streams(
        tmp_path / "streams.yaml",
        {"name": "partner", "content": "events", "destination": {"type": "files", "path": path.format(tmp=tmp_path)}},
    )
    output = tmp_path / "output"
    monkeypatch.setattr(launch, "runner_of", lambda options: "FlinkRunner")
    job = prepare([f"--events={events}", f"--streams={streams}", f"--output={output}", "--runner=FnApiRunner"])
    assert launch.submit(job.with_run(spill=None), build, Console(quiet=True)) == code
    assert "1 records in" in capsys.readouterr().out
    assert (output / "report.html").exists()
    with locked(str(output)), pytest.raises(LockedError):
        launch.submit(job, build, Console(quiet=True))
