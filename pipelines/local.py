"""Run the job on this machine: lock, spill directory, worker processes, progress, views and report."""

from __future__ import annotations

import glob
import logging
import os
import shutil
import tempfile
import time

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions, WorkerOptions
from rich.console import Console

from pipelines.job import Build, Job, write_meta
from pipelines.lock import locked
from pipelines.options import StreamerOptions
from pipelines.progress import Progress
from pipelines.remote import renew_report
from pipelines.summary import print_summary
from pipelines.waiting import deliver_waiting
from transforms.deliver import storage
from warehouse.views import create_views

LARGE_INPUT = 64 << 20
"""Bytes of input from which on worker processes pay for their start (1.7 s and 1.3 CPU seconds each)."""


def run_local(job: Job, build: Build, console: Console) -> int:
    """Runs the job on this machine's cores, writes views and report, and prints the summary; returns the exit code.

    Raises:
      LockedError: another run works in the output directory.
    """
    # Beam would print the traceback of an error that it raises as well: whoever catches it tells it once.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    started = time.monotonic()
    with locked(job.run.output):
        spill = _fresh_spill(job)
        try:
            job = job.with_run(spill=spill)
            write_meta(job.run)
            _sweep_temporary(job)
            waited = deliver_waiting(job.run.output, job.streams, except_writer=job.run.writer)
            pipeline = beam.Pipeline(runner="FnApiRunner", options=local_options(job))
            build(pipeline, job)
            with Progress(console, spill, sum(file.size for file in job.inputs), len(job.plans)):
                pipeline.run().wait_until_finish()
        finally:
            shutil.rmtree(spill, ignore_errors=True)
        seconds = time.monotonic() - started
        report = None if job.options.view_as(StreamerOptions).no_report else _describe(job)
    return print_summary(job, report, seconds, waited)


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
    # A worker process reports what fails through its bundle; its other lines would tear the progress apart.
    options.view_as(WorkerOptions).default_sdk_harness_log_level = "CRITICAL"
    return options


def _fresh_spill(job: Job) -> str:
    """Returns the run's spill directory, empty. Killed runs may have left theirs: the lock says that none is alive."""
    if storage.is_remote(job.run.output):
        return tempfile.mkdtemp(prefix="data-streamer-")
    base = os.path.join(job.run.output, ".run")
    for left in glob.glob(os.path.join(glob.escape(base), "[0-9a-f]" * 16)):
        shutil.rmtree(left)
    spill = os.path.join(base, job.run.writer)
    os.makedirs(spill)
    return spill


def _sweep_temporary(job: Job) -> None:
    """Removes temporary files that a killed run left in the results."""
    for directory in ("warehouse", "streams", "pending"):
        storage.sweep_temporary(storage.join(job.run.output, directory))


def _describe(job: Job) -> str:
    """Writes the report, and where the output directory is local its views; returns the report's path."""
    if not storage.is_remote(job.run.output):
        create_views(job.run.output)
    return renew_report(job.run.output)
