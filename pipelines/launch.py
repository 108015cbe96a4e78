"""Launch the job: on this machine, or on another runner."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import SetupOptions, StandardOptions
from rich.console import Console
from rich.text import Text

from pipelines.job import Build, Job, JobError, prepare, write_meta
from pipelines.live.job import LiveError, run_live
from pipelines.live.prism import PrismError
from pipelines.local import run_local
from pipelines.lock import LockedError
from pipelines.masks import write_report_mask
from pipelines.options import job_parser
from pipelines.screen import console_of, print_prose, stop_printing
from pipelines.waiting import deliver_waiting

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
    except (LiveError, PrismError) as error:
        _print_error(console, str(error))
        return CRASHED


def _print_error(console: Console, text: str) -> None:
    print_prose(console, Text.assemble(("error:", "red"), " ", text))


def submit(job: Job, build: Build, console: Console) -> int:
    """Hands the job to another runner; does not wait where that runner has a service of its own."""
    write_meta(job.run)
    write_report_mask(job.run.output, job.report_mask)
    job = job.holding(deliver_waiting(job.run.output, job.streams, except_writer=job.run.writer))
    job.options.view_as(SetupOptions).save_main_session = False  # nothing of main is in the graph
    pipeline = beam.Pipeline(options=job.options)
    build(pipeline, job)
    result = pipeline.run()
    runner = job.options.view_as(StandardOptions).runner
    console.print(f"submitted to {runner}; afterwards: data-streamer audit {job.run.output}")
    if runner != "DataflowRunner":
        result.wait_until_finish()
    return COMPLETE
