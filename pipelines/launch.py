"""Launch the job: on this machine with progress, summary and report, or on another runner."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from functools import partial

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions, StandardOptions
from rich.console import Console
from rich.text import Text

from pipelines.data_streamer import build
from pipelines.job import Job, JobError, prepare, write_meta
from pipelines.lock import LockedError, locked
from pipelines.options import StreamerOptions, job_parser
from pipelines.progress import Progress
from pipelines.screen import console_of, print_prose
from pipelines.summary import print_summary
from schemas.streams import Stream
from transforms.deliver import storage
from transforms.deliver.pending import PendingResult, deliver_pending
from transforms.ledger.commit import listed_files, writers_of
from transforms.ledger.settle import settle
from warehouse.report import write_report
from warehouse.views import create_views

LARGE_INPUT = 64 << 20
"""Bytes of input from which on worker processes pay for their start (1.7 s and 1.3 CPU seconds each)."""

COMPLETE, CRASHED, MISTAKES, INCOMPLETE = 0, 1, 2, 3


def launch(arguments: Sequence[str]) -> int:
    """Checks the arguments, runs the job, and returns the exit code of `pipelines.data_streamer.main`."""
    if {"-h", "--help"} & set(arguments):
        print(job_parser().format_help())
        return COMPLETE
    console = console_of(stderr=True)
    try:
        job = prepare(arguments)
        return run_local(job, console) if job.local else submit(job, console)
    except JobError as error:
        for mistake in error.mistakes:
            _print_error(console, mistake)
        count = len(error.mistakes)
        print_prose(console, f"{count} mistake{'s' * (count != 1)} found; nothing was started.")
        return MISTAKES
    except LockedError as error:
        _print_error(console, str(error))
        return MISTAKES


def _print_error(console: Console, text: str) -> None:
    print_prose(console, Text.assemble(("error:", "red"), " ", text))


def run_local(job: Job, console: Console) -> int:
    """Runs the job on this machine's cores and writes views and report; returns the exit code."""
    # Beam would print the traceback of an error that it raises as well: whoever catches it tells it once.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    started = time.monotonic()
    with locked(job.run.output):
        job = job.with_run(spill=_fresh_spill(job))
        write_meta(job.run)
        _sweep_temporary(job)
        deliver_waiting(job.run.output, job.streams, except_writer=job.run.writer)
        try:
            with Progress(console, str(job.run.spill), sum(file.size for file in job.inputs), len(job.plans)):
                _run(job)
        finally:
            shutil.rmtree(str(job.run.spill), ignore_errors=True)
        create_views(job.run.output)
        report = str(write_report(job.run.output))
    return print_summary(job, report, time.monotonic() - started)


def _run(job: Job) -> None:
    options = local_options(job)
    with beam.Pipeline(runner="FnApiRunner", options=options) as pipeline:
        build(pipeline, job)


def local_options(job: Job) -> PipelineOptions:
    """Returns Beam's options for a run on this machine: worker processes where the input is large enough."""
    options = job.options
    processes = options.view_as(StreamerOptions).processes
    if processes is None:
        large = sum(file.size for file in job.inputs) >= LARGE_INPUT
        processes = (os.cpu_count() or 1) if large else 1
    direct = options.view_as(DirectOptions)
    direct.direct_num_workers = processes
    direct.direct_running_mode = "multi_processing" if processes > 1 else "in_memory"
    options.view_as(SetupOptions).save_main_session = False
    return options


def deliver_waiting(output: str, streams: Sequence[Stream], except_writer: str | None = None) -> list[PendingResult]:
    """Delivers what waits in the spool, in order, and settles it in the ledger.

    Args:
      output: the output directory.
      streams: today's definitions.
      except_writer: a writer that is about to run again, and will deliver its records itself.
    """
    listed = {file.path for writer in writers_of(output) for file in listed_files(output, writer)}
    return deliver_pending(output, streams, partial(settle, output), except_writer, listed)


def submit(job: Job, console: Console) -> int:
    """Hands the job to another runner; does not wait where that runner has a service of its own."""
    write_meta(job.run)
    deliver_waiting(job.run.output, job.streams, except_writer=job.run.writer)
    job.options.view_as(SetupOptions).save_main_session = False  # nothing of main is in the graph
    pipeline = beam.Pipeline(options=job.options)
    build(pipeline, job)
    result = pipeline.run()
    runner = job.options.view_as(StandardOptions).runner
    console.print(f"submitted to {runner}; afterwards: data-streamer audit {job.run.output}")
    if runner != "DataflowRunner":
        result.wait_until_finish()
    return COMPLETE


def _fresh_spill(job: Job) -> str:
    """Returns the run's spill directory, emptied: a killed run may have left one."""
    if storage.is_remote(job.run.output):
        base = os.path.join(os.environ.get("TMPDIR", "/tmp"), "data-streamer")
    else:
        base = os.path.join(job.run.output, ".run")
    spill = os.path.join(base, job.run.writer)
    shutil.rmtree(spill, ignore_errors=True)
    os.makedirs(spill)
    return spill


def _sweep_temporary(job: Job) -> None:
    """Removes temporary files that a killed run left in the results."""
    for directory in ("warehouse", "streams", "pending"):
        storage.sweep_temporary(storage.join(job.run.output, directory))


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
