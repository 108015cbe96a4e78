"""Run the job on this machine: lock, spill directory, worker processes, progress, views and report."""

from __future__ import annotations

import glob
import logging
import os
import shlex
import shutil
import sys
import tempfile
import time

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions, WorkerOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.job.utils import dict_to_struct
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from rich.console import Console

from pipelines import worker
from pipelines.job import Build, Job, write_meta
from pipelines.lock import LIVE, locked
from pipelines.masks import write_report_mask
from pipelines.options import StreamerOptions
from pipelines.progress import Progress
from pipelines.remote import renew_report
from pipelines.summary import print_summary
from pipelines.waiting import deliver_waiting
from transforms.deliver import storage
from transforms.ledger.commit import writers_of
from warehouse.views import create_views

LARGE_INPUT = 64 << 20
"""Bytes of input from which on worker processes pay for their start: one to two CPU seconds each, most of it imports.
"""


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
            write_report_mask(job.run.output, job.report_mask)
            _sweep(job)
            waited = deliver_waiting(job.run.output, job.streams, except_writer=job.run.writer)
            job = job.holding(waited)
            options = local_options(job)
            pipeline = beam.Pipeline(runner=local_runner(options), options=options)
            build(pipeline, job)
            with Progress(console, spill, sum(file.size for file in job.inputs), len(job.plans)):
                pipeline.run().wait_until_finish()
        finally:
            shutil.rmtree(spill, ignore_errors=True)
        seconds = time.monotonic() - started
        report = None if job.options.view_as(StreamerOptions).no_report else describe(job)
    return print_summary(job, report, seconds, waited)


def local_options(job: Job) -> PipelineOptions:
    """Returns Beam's options for a run on this machine: worker processes where the input is large enough."""
    options = job.options
    direct = options.view_as(DirectOptions)
    direct.direct_num_workers = _processes(job, direct)
    direct.direct_running_mode = "in_memory"  # else Beam would replace the environment of `local_runner`
    options.view_as(SetupOptions).save_main_session = False
    # A worker process reports what fails through its bundle; its other lines would tear the progress apart.
    options.view_as(WorkerOptions).default_sdk_harness_log_level = "CRITICAL"
    return options


def _processes(job: Job, direct: DirectOptions) -> int:
    """Returns what our option says, else what Beam's say (1 is its default, 0 one a core), else what pays."""
    ours, beams = job.options.view_as(StreamerOptions).processes, direct.direct_num_workers
    if ours is not None or beams > 1:
        return int(beams if ours is None else ours)
    large = sum(file.size for file in job.inputs) >= LARGE_INPUT
    all_cores = large or beams == 0 or direct.direct_running_mode == "multi_processing"
    return (os.cpu_count() or 1) if all_cores else 1


def local_runner(options: PipelineOptions) -> FnApiRunner:
    """Returns the runner for `local_options`: in this process, or with worker processes (`pipelines.worker`)."""
    if options.view_as(DirectOptions).direct_num_workers == 1:
        return FnApiRunner()
    command = shlex.join([sys.executable, "-m", worker.__name__])
    # Beam tells worker processes no options by itself: they would not know the address of an object store. Numbers
    # become floats on this way, which options do not accept; no worker needs one.
    told = {name: value for name, value in options.get_all_options(drop_default=True).items()
            if isinstance(value, str | bool)}  # fmt: skip
    provision = beam_provision_api_pb2.ProvisionInfo(retrieval_token="unused", pipeline_options=dict_to_struct(told))
    return FnApiRunner(
        SubprocessSDKEnvironment.from_command_string(command), provision_info=ExtendedProvisionInfo(provision)
    )


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


def _sweep(job: Job) -> None:
    """Removes what a killed run left in the results: temporary files, and parts that were never committed.

    The same run again would replace the parts, but one over other inputs has another writer, and writes their records
    once more. Remote directories have no lock: there another run may be under way.
    """
    output = job.run.output
    live = [os.path.basename(path) for path in glob.glob(os.path.join(glob.escape(output), LIVE, "*"))]
    known = {job.run.writer, *writers_of(output), *live}
    for name in ("warehouse", "streams", "pending"):
        directory = storage.join(output, name)
        storage.sweep_temporary(directory)
        if not storage.is_remote(output):
            storage.sweep_abandoned(directory, known)


def describe(job: Job) -> str:
    """Writes the report, and where the output directory is local its views; returns the report's path."""
    if not storage.is_remote(job.run.output):
        create_views(job.run.output)
    return renew_report(job.run.output)
