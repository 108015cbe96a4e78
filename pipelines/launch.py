"""Launch the job: on this machine, or on another runner."""

from __future__ import annotations

import time
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import SetupOptions
from apache_beam.runners.runner import PipelineResult
from rich.console import Console
from rich.text import Text

from pipelines.job import Build, Job, JobError, prepare, write_meta
from pipelines.live.job import LiveError, leave, run_live
from pipelines.live.prism import PrismError
from pipelines.local import describe, run_local
from pipelines.lock import LockedError, locked
from pipelines.masks import write_report_mask
from pipelines.options import StreamerOptions, job_parser
from pipelines.runners import DATAFLOW_RUNNER, runner_of
from pipelines.screen import console_of, print_prose, stop_printing
from pipelines.summary import print_summary
from pipelines.waiting import deliver_waiting
from transforms.deliver.pending import PendingResult

COMPLETE, CRASHED, MISTAKES = 0, 1, 2


def launch(arguments: Sequence[str], build: Build, build_live: Build) -> int:
    """Checks the arguments, runs the job that `build` or `build_live` makes, and returns the exit code of
    `data_streamer.main`.
    """
    if {"-h", "--help"} & set(arguments):
        try:
            print(job_parser().format_help(), flush=True)
        except BrokenPipeError:
            stop_printing()
        return COMPLETE
    console = console_of(stderr=True)
    try:
        job = prepare(arguments)
        for warning in job.warnings:
            print_prose(console, Text.assemble(("warning:", "yellow"), " ", warning))
        if job.live_here:
            return run_live(job, build_live, console)
        if job.run.live is not None:
            return submit(job, build_live, console)
        return run_local(job, build, console) if job.local else submit(job, build, console)
    except JobError as error:
        for mistake in error.mistakes:
            _print_error(console, mistake)
        count = len(error.mistakes)
        print_prose(console, f"{count} mistake{'s' * (count != 1)} found; nothing was started.")
        return MISTAKES
    except LockedError as error:
        _print_error(console, str(error))
        return MISTAKES
    except PrismError as error:
        _print_error(console, str(error))
        return CRASHED
    except LiveError as error:
        _print_error(console, str(error))
        leave(CRASHED)


def _print_error(console: Console, text: str) -> None:
    print_prose(console, Text.assemble(("error:", "red"), " ", text))


def submit(job: Job, build: Build, console: Console) -> int:
    """Hands the job to another runner, and returns the exit code. Dataflow has a service of its own, and is not waited
    for: a job may run for hours, or for ever. Any other runner is, and its outcome is told as that of a local run.

    Raises:
      LockedError: another run works in the output directory.
    """
    if runner_of(job.options) == DATAFLOW_RUNNER:
        _start(job, build)
        console.print(f"submitted to {DATAFLOW_RUNNER}; afterwards: data-streamer audit {job.run.output}")
        return COMPLETE
    started = time.monotonic()
    with locked(job.run.output):
        result, waited = _start(job, build)
        result.wait_until_finish()
        report = None if job.options.view_as(StreamerOptions).no_report else describe(job)
    return print_summary(job, report, time.monotonic() - started, waited)


def _start(job: Job, build: Build) -> tuple[PipelineResult, list[PendingResult]]:
    """Starts the job on its runner; returns its result to come, and what became of records that waited."""
    write_meta(job.run)
    write_report_mask(job.run.output, job.report_mask)
    waited = deliver_waiting(job.run.output, job.streams, except_writer=job.run.writer)
    job = job.holding(waited)
    job.options.view_as(SetupOptions).save_main_session = False  # nothing of main is in the graph
    pipeline = beam.Pipeline(options=job.options)
    build(pipeline, job)
    return pipeline.run(), waited
