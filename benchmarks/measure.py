"""Run a command and measure it: wall and CPU time, and the memory of its largest process."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
_INTERVAL = 0.1
"""Seconds between two looks at the memory: one look costs well under a millisecond a process."""


@dataclass(frozen=True)
class Measurement:
    """What a command took.

    Attributes:
      wall: seconds from start to end.
      cpu: seconds of processor time of the whole process tree.
      memory: most anonymous bytes that one of its processes held. Resident size would count mapped file pages as well,
        which the kernel takes back at will.
    """

    wall: float
    cpu: float
    memory: int


class CommandError(Exception):
    """A measured command failed; the text ends with what it printed last."""


def measure(command: Sequence[str]) -> Measurement:
    """Runs a command in the repository to its end.

    Raises:
      CommandError: its exit code is not 0.
    """
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    watch = _Watch(process.pid)
    watch.start()
    output, _ = process.communicate()
    wall = time.perf_counter() - started
    watch.stop()
    if process.returncode:
        tail = "\n".join(output.splitlines()[-20:])
        raise CommandError(f"exit code {process.returncode}: {' '.join(command)}\n{tail}")
    return Measurement(wall, watch.cpu, watch.memory)


class _Watch(threading.Thread):
    """Looks at a process and its descendants until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.memory = 0
        self._root = psutil.Process(pid)
        self._times: dict[tuple[int, float], float] = {}
        self._over = threading.Event()
        self._before = _children_cpu()

    def run(self) -> None:
        while not self._over.wait(_INTERVAL):
            try:
                for process in (self._root, *self._root.children(recursive=True)):
                    self._look(process)
            except psutil.NoSuchProcess:
                continue  # it ended between two looks

    def _look(self, process: psutil.Process) -> None:
        try:
            self.memory = max(self.memory, anonymous(process.pid))
            spent = process.cpu_times()
            self._times[process.pid, process.create_time()] = spent.user + spent.system
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            return  # it ended between two looks

    def stop(self) -> None:
        """Ends the watch; the command has been waited for."""
        self._over.set()
        self.join()

    @property
    def cpu(self) -> float:
        """Processor time of the tree: as the kernel hands it up, or as seen, where a process was not waited for."""
        return max(_children_cpu() - self._before, sum(self._times.values()))


def _children_cpu() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system


def anonymous(pid: int) -> int:
    """Anonymous resident bytes of a process, by the kernel's own count: summing up ``smaps`` would slow the process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0  # a process that has ended and is not yet waited for


def median(runs: Sequence[Measurement]) -> Measurement:
    """The medians of several runs, each figure by itself."""
    return Measurement(
        statistics.median(run.wall for run in runs),
        statistics.median(run.cpu for run in runs),
        int(statistics.median(run.memory for run in runs)),
    )
