"""The live job as it is measured: in a process of its own, with its Prism, over a Pub/Sub server of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.measure import REPOSITORY, CommandError, anonymous
from examples.live_demo.__main__ import PROJECT
from examples.live_demo.fleet import FEEDS

SUBSCRIPTIONS = [f"projects/{PROJECT}/subscriptions/{feed}" for feed in FEEDS]

_START, _STOP = 60.0, 30.0
_RECEIVED = re.compile(r"^data_streamer_received_total (\S+)", re.MULTILINE)
_UPDATED = re.compile(r"^data_streamer_updated_seconds (\S+)", re.MULTILINE)
_IDS = re.compile(r"^data_streamer_ids (\S+)", re.MULTILINE)


class Progress(NamedTuple):
    """How far a job was at one moment.

    Attributes:
      at: seconds since 1970.
      messages: how many there were.
      ids: how many it held, to know duplicates by.
    """

    at: float
    messages: int
    ids: int = 0


BACKLOG = 0.9
"""Share of a backlog that rates are told from: of what comes then, a pull that was given up may hold the last."""


def rate(points: Sequence[Progress], messages: int) -> float:
    """Messages a second while there is a backlog.

    Args:
      points: from its first messages on.
      messages: how many it had.

    Raises:
      CommandError: nothing happened between the first point and the last.
    """
    points = [point for point in points if point.messages <= BACKLOG * messages]
    if len(points) < 2 or points[-1].messages <= points[0].messages:
        raise CommandError(f"no rate can be told from {len(points)} measurements: give more messages")
    return (points[-1].messages - points[0].messages) / (points[-1].at - points[0].at)


@dataclass(frozen=True)
class Load:
    """What a process took over a span.

    Attributes:
      cores: processor time a second.
      memory: anonymous bytes at its end.
      grown: how much they grew.
    """

    cores: float
    memory: int
    grown: int


class LiveJob:
    """A live job that runs.

    Attributes:
      worker: its process.
      prism: that of its Prism.
    """

    def __init__(self, process: subprocess.Popen[str], port: int):
        self._process, self._port = process, port
        self.worker = psutil.Process(process.pid)
        (self.prism,) = [child for child in self.worker.children(recursive=True) if child.name() == "prism"]

    def progress(self) -> Progress:
        """What it has received and committed, as it measures every second.

        Raises:
          CommandError: it has ended.
        """
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            raise CommandError(f"the live job does not answer, exit code {self._process.poll()}") from None
        received, updated, ids = _RECEIVED.search(text), _UPDATED.search(text), _IDS.search(text)
        assert received and updated and ids, text
        return Progress(float(updated[1]), int(float(received[1])), int(float(ids[1])))

    @contextmanager
    def loads(self) -> Iterator[dict[str, Load]]:
        """Measures worker and Prism; the loads are there when this is left."""
        found: dict[str, Load] = {}
        before = {name: _spent(process) for name, process in self._processes()}
        started = time.monotonic()
        yield found
        seconds = time.monotonic() - started
        for name, process in self._processes():
            spent, memory = _spent(process)
            found[name] = Load((spent - before[name][0]) / seconds, memory, memory - before[name][1])

    def memory(self) -> dict[str, int]:
        """Anonymous bytes of worker and Prism."""
        return {name: anonymous(process.pid) for name, process in self._processes()}

    def _processes(self) -> list[tuple[str, psutil.Process]]:
        return [("worker", self.worker), ("Prism", self.prism)]


def _spent(process: psutil.Process) -> tuple[float, int]:
    times = process.cpu_times()
    return times.user + times.system, anonymous(process.pid)


@contextmanager
def live_job(output: Path, address: str, streams: Sequence[dict[str, object]], *options: str) -> Iterator[LiveJob]:
    """Runs the live job, drains it in the end, and leaves its output.

    Args:
      output: the output directory; emptied first.
      address: of Pub/Sub.
      streams: the definitions of the streams.
      options: more options of the job.

    Raises:
      CommandError: it does not start, or its exit code is neither 0 nor 3.
    """
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    definitions, log = output.with_name(f"{output.name}-streams.yaml"), output.with_name(f"{output.name}.log")
    definitions.write_text(json.dumps({"streams": list(streams)}))  # JSON is YAML
    port = _free_port()
    command = [
        sys.executable, "-m", "pipelines.data_streamer", "--streaming", f"--output={output}",
        f"--streams={definitions}", f"--metrics_port={port}", "--no_report",
        *(f"--{feed}_subscription={name}" for feed, name in zip(FEEDS, SUBSCRIPTIONS, strict=True)), *options,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PUBSUB_EMULATOR_HOST": address}
    with log.open("w") as printed:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=printed, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + _START
        while "reading " not in log.read_text():
            if process.poll() is not None or time.monotonic() > until:
                raise CommandError(f"the live job does not start: {' '.join(command)}\n{log.read_text()[-2_000:]}")
            time.sleep(0.1)
        yield LiveJob(process, port)
        process.send_signal(signal.SIGINT)
        code = process.wait(_STOP)
        if code not in (0, 3):  # 3: records wait, as those of a server that hangs
            raise CommandError(f"exit code {code}: {' '.join(command)}\n{log.read_text()[-2_000:]}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
