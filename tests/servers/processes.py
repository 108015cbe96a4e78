"""What all servers of the tests share: ports, waiting, processes that end with the test, things made once."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HOST = "127.0.0.1"
START = 120.0
"""Seconds that a server has to answer for the first time; a busy machine is slow."""

JAVA_OPTIONS = ["-Xms32m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
"""For a server in Java that must start soon and be small, not be fast."""

_PORTS = range(15_000, 30_000)
"""Below those that systems hand to outgoing connections: no client takes one before its server does."""


def free_port() -> int:
    """A port of the loopback address that nothing listens on."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                candidate.bind((HOST, port))
                return port
    raise OSError(f"no free port among 100 of {_PORTS.start}–{_PORTS.stop - 1}")


def accepts(port: int) -> bool:
    """Whether something accepts connections on a port."""
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except OSError:
        return False
    return True


def answers(url: str) -> bool:
    """Whether a URL answers 2xx."""
    try:
        urllib.request.urlopen(url, timeout=30).close()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True


def wait_until(holds: Callable[[], bool], what: str, seconds: float = START) -> None:
    """Wait until something holds.

    Raises:
      TimeoutError: after ``seconds``, saying ``what``.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:g} s still not: {what}")
        time.sleep(0.05)


class Process:
    """A server in a process of its own, which can be stopped, killed and started again with the same arguments.

    On Linux the process also ends when the process of the test does, however that ends.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self._command, self._ready = name, [str(part) for part in command], ready
        self._environment = {**os.environ, **(environment or {})}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._running is not None, f"{self.name} does not run"
        return self._running.pid

    def log(self) -> str:
        """The end of what the server wrote to its outputs."""
        size = os.fstat(self._log.fileno()).st_size
        start = max(0, size - 4_000)
        return os.pread(self._log.fileno(), size - start, start).decode("utf-8", "replace")

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
          RuntimeError: it ended instead, or did not answer in time; with the end of its log.
        """
        assert self._running is None, f"{self.name} runs already"
        self._running = subprocess.Popen(
            [*_ends_with_us(), *self._command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        running = self._running
        try:
            wait_until(lambda: running.poll() is not None or self._ready(), f"{self.name} answers")
        except TimeoutError as error:
            self.stop()
            raise RuntimeError(f"{error}\n{self.log()}") from error
        except BaseException:
            self.stop()
            raise
        if running.poll() is not None:
            self._running = None
            raise RuntimeError(f"{self.name} ended with {running.returncode} when it was started\n{self.log()}")

    def stop(self, patience: float = 10.0) -> None:
        """End it as an administrator would, by force after ``patience`` seconds."""
        self._end(signal.SIGTERM, patience)

    def kill(self) -> None:
        """End it as a power failure would."""
        self._end(signal.SIGKILL, 10.0)

    def _end(self, with_signal: signal.Signals, patience: float) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        running.send_signal(with_signal)
        try:
            running.wait(patience)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()

    def __enter__(self) -> Process:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.close()


def _ends_with_us() -> list[str]:
    """A prefix of a command that has the kernel kill it when this process ends.

    The kernel goes by the thread that started it, so only the main thread, which lasts, asks for it.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    return [setpriv, "--pdeathsig", "KILL"]


class Unavailable(Exception):
    """A component cannot be had on this machine; the message names it and says why."""


_UNAVAILABLE: dict[Path, str] = {}


def made_once(name: str, wanted: Path, make: Callable[[Path], None]) -> Path:
    """A directory below ~/.cache/data-streamer, made by the first that needs it, for all processes of this machine.

    Args:
      name: how the directory's name begins.
      wanted: file that decides the content; another content of it makes another directory.
      make: fills the empty directory.

    Raises:
      Unavailable: by ``make``; asked again in the same process, it is raised without another try.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "data-streamer"
    name = f"{name}-{hashlib.sha256(wanted.read_bytes()).hexdigest()[:12]}"
    directory, done = caches / name, caches / f"{name}.made"
    if directory in _UNAVAILABLE:
        raise Unavailable(_UNAVAILABLE[directory])
    caches.mkdir(parents=True, exist_ok=True)
    with _locked(caches / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            try:
                make(directory)
            except Unavailable as error:
                _UNAVAILABLE[directory] = str(error)
                raise
            done.touch()
    return directory


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: Sequence[str | Path], what: str, timeout: float = 300.0) -> None:
    """Run a command that makes something.

    Raises:
      Unavailable: it failed, or took longer than ``timeout`` seconds.
    """
    try:
        subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, timeout=timeout)
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:]
        raise Unavailable(f"{what} failed: {' '.join(last)[:300]}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{what} took longer than {timeout:g} s") from error
