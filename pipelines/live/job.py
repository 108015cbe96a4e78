"""Run a live job on this machine: take up what was left, start Prism, run, and drain when it is to stop."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    SetupOptions,
    StandardOptions,
)
from apache_beam.runners.portability.prism_runner import PrismRunner
from apache_beam.runners.runner import PipelineState
from rich.console import Console

from pipelines.job import Build, Job, write_meta
from pipelines.live.options import LiveOptions
from pipelines.live.prism import Prism, find_prism
from pipelines.live.watch import Watch
from pipelines.live.workplace import Workplace, opened
from pipelines.local import describe
from pipelines.lock import locked
from pipelines.masks import write_report_mask
from pipelines.options import StreamerOptions
from pipelines.screen import print_prose
from pipelines.summary import print_summary
from pipelines.waiting import deliver_waiting

STOP = 10.0
"""Seconds that a live job has to stop in order, on a machine that is not overloaded."""

_GIVE_UP = 60.0
"""Seconds after which a stop in order is given up; the next start does what is left of it."""

_LAST_STEPS = 2.0
"""Seconds of these for what comes after the last delivery: publication of the ledger."""

_LAST_DELIVERY = 2.0
"""Seconds that the last delivery has at least, however long the pipeline took to end."""

_JOB_SERVER_SECONDS = 10_000_000
"""Beam's own 300 s would end the stream of the job's states, and with it the job."""

_LOOK = 0.2

_UPKEEP_EVERY = 1.0
"""Most seconds between two looks at the open cells."""


class LiveError(Exception):
    """The live job ended and was not asked to."""


def leave(code: int) -> NoReturn:
    """Ends the process of a job that did not end in order, at once: threads of Beam's worker are at work still, and one
    that came back from Arrow or gRPC while the interpreter ends would abort it ("terminate called …", exit code -6).
    """
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


class _Stop:
    """The wish that the job stops: SIGINT or SIGTERM. The second one ends the process."""

    def __init__(self, console: Console):
        self.asked = threading.Event()
        self.at = 0.0
        self._console = console

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked.is_set():
            self._console.show_cursor()
            os._exit(128 + number)  # Prism ends with us; the next start takes up what is left
        self.at = time.monotonic()
        self.asked.set()

    def tell(self) -> None:
        """Says that the job stops; not from the handler, which may have interrupted another line."""
        with contextlib.suppress(BrokenPipeError):  # nobody reads; it stops all the same
            print_prose(self._console, "stopping: what was pulled is finished; a second Ctrl-C stops at once")

    @property
    def left(self) -> float:
        """Seconds until the job has to have stopped."""
        return max(0.0, self.at + STOP - time.monotonic())


def run_live(job: Job, build: Build, console: Console) -> int:
    """Runs a live job until it is stopped, and prints the summary; returns the exit code.

    Raises:
      LockedError: another run works in the output directory.
      PrismError: Prism does not start.
      LiveError: Prism or the job ended. Nothing is lost: the same command takes up what is left.
    """
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    started = time.monotonic()
    with locked(job.run.output, live=job.run.writer), _signals(_Stop(console)) as stop, _quiet_worker():
        write_meta(job.run)
        write_report_mask(job.run.output, job.report_mask)
        with opened(job) as place:
            waited = deliver_waiting(job.run.output, job.streams)
            place.courier.resume()
            program = find_prism(job.options.view_as(PrismRunnerOptions).prism_location)
            with Watch(place, console, job.options.view_as(LiveOptions).metrics_port):
                with Prism(program, place.directory / "prism.log") as prism, _beside(place) as beside:
                    print_prose(console, f"reading {_subscriptions(job)}; stop with Ctrl-C")
                    _work(place, build, prism, beside, stop)
                place.flush()
                place.courier.stop(max(_LAST_DELIVERY, stop.left - _LAST_STEPS))
            place.finish()
        seconds = time.monotonic() - started
        report = None if job.options.view_as(StreamerOptions).no_report else describe(job)
    return print_summary(job, report, seconds, waited)


def _work(place: Workplace, build: Build, prism: Prism, beside: Sequence[_Again], stop: _Stop) -> None:
    """Runs the pipeline until it has ended, as it was asked to."""
    options = live_options(place.job, prism.address)
    pipeline = beam.Pipeline(runner=PrismRunner(), options=options)
    build(pipeline, place.job)
    gc.collect()
    gc.freeze()  # what is there now stays: collections need not look at all of Beam and its clients again and again
    result = _Result(pipeline)
    while not result.ended.wait(_LOOK):
        if stop.asked.is_set() and not place.desk.draining:
            place.desk.draining = True
            stop.tell()
        if prism.ended is not None:
            raise LiveError(f"{prism.ended}. {_REMEDY}")
        for work in beside:
            if work.error is not None:
                raise LiveError(f"{work.what} cannot go on: {work.error}. {_REMEDY}") from work.error
        if stop.asked.is_set() and time.monotonic() > stop.at + _GIVE_UP:
            raise LiveError(f"the job did not stop within {_GIVE_UP:.0f} s. {_REMEDY}")
    if prism.has_ended(_LOOK):  # which the result may be told of first
        raise LiveError(f"{prism.ended}. {_REMEDY}")
    if result.error is not None:
        raise LiveError(f"the job ended: {_last_line(result.error)}. {_REMEDY}") from result.error
    if result.state != PipelineState.DONE or not place.desk.draining:
        raise LiveError(f"the job ended by itself ({result.state}). {_REMEDY}")


_REMEDY = "Nothing is lost: start the same command again, which takes up what is left"


def live_options(job: Job, address: str) -> PipelineOptions:
    """Returns Beam's options of a live job on a Prism at this address, whose worker is this process."""
    options = job.options
    options.view_as(StandardOptions).streaming = True
    options.view_as(SetupOptions).save_main_session = False
    portable = options.view_as(PortableOptions)
    portable.job_endpoint = address
    portable.environment_type = "LOOPBACK"
    portable.job_server_timeout = _JOB_SERVER_SECONDS
    return options


class _Result:
    """Runs a pipeline and waits for its result, in a thread of its own: signals find the main thread free.

    Handing the pipeline over is part of it: Beam waits without end for a Prism that is gone.
    """

    def __init__(self, pipeline: beam.Pipeline):
        self.ended = threading.Event()
        self.state: str | None = None
        self.error: Exception | None = None
        threading.Thread(target=self._run, args=(pipeline,), name="result", daemon=True).start()

    def _run(self, pipeline: beam.Pipeline) -> None:
        try:
            self.state = pipeline.run().wait_until_finish()
        except Exception as error:  # noqa: BLE001 - raised again, with its cause, by the main thread
            self.error = error
        finally:
            self.ended.set()


@contextmanager
def _beside(place: Workplace) -> Iterator[Sequence[_Again]]:
    """What is done beside the pipeline: the upkeep of cells, and the publication of the ledger."""
    live = place.run.live
    assert live is not None
    with (
        _Again("the upkeep of cells", place.upkeep.look, min(_UPKEEP_EVERY, live.aggregate_every)) as upkeep,
        _Again("the publication of the ledger", place.publish, live.publish_every) as publication,
    ):
        yield upkeep, publication


class _Again:
    """Does something again and again while this is entered.

    Args:
      what: what cannot be done where it fails, in words.
      do: what is done.
      every: seconds between two times.
    """

    def __init__(self, what: str, do: Callable[[], None], every: float):
        self.what, self._do, self._every = what, do, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)
        self.error: Exception | None = None

    def __enter__(self) -> _Again:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self._do()
            except Exception as error:  # noqa: BLE001 - raised again, with its cause, by the main thread
                self.error = error
                return


@contextmanager
def _signals(stop: _Stop) -> Iterator[_Stop]:
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet_worker() -> Iterator[None]:
    """Threads of Beam's worker lose their connections when Prism ends, which is told in a better way."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, grpc.RpcError):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def _subscriptions(job: Job) -> str:
    assert job.run.live is not None
    return " and ".join(name for _, name in job.run.live.subscriptions)


def _last_line(error: Exception) -> str:
    """What happened, of a worker's traceback that Beam passes on as a text."""
    text = error.details() if isinstance(error, grpc.Call) else str(error)
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(Error|Exception)\b", line)]
    return (named or lines or [type(error).__name__])[-1].rstrip(".")
