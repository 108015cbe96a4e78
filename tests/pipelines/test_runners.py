"""Which runner a job is for, in how many processes, and what is told when it cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import DirectOptions

from pipelines.job import prepare
from pipelines.local import local_options
from tests.end_to_end import jobs

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
