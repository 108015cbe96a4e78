"""Prism, Beam's engine for one machine: found, started in a session of its own, and stopped with the job."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

import apache_beam

CACHE = Path("~/.apache_beam/cache/prism/bin")
"""Where Beam keeps a Prism that it downloaded."""

BUILT = Path(__file__).resolve().parents[2] / "build" / "bin" / "prism"
"""Where ``make prism`` puts one."""

_HOST = "127.0.0.1"
_START = 30.0
"""Seconds that Prism has to accept connections."""

_PATIENCE = 3.0


class PrismError(Exception):
    """Prism is missing, does not start, or has ended: text with what to do."""


def find_prism(location: str | None = None) -> Path:
    """Returns the program: as the option says, else that of ``make prism``, of PATH, or of Beam's cache.

    Args:
      location: value of Beam's option --prism_location, a path here.

    Raises:
      PrismError: there is none.
    """
    if location:
        path = Path(location).expanduser()
        if not _runs(path):
            raise PrismError(f"--prism_location: {location} is no program; expected the path of Prism on this machine")
        return path.absolute()
    on_path = shutil.which("prism")
    places = [BUILT, *([Path(on_path)] if on_path else []), *_cached()]
    for path in places:
        if _runs(path):
            return path
    module = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{apache_beam.__version__}"
    raise PrismError(
        "--streaming: needs Prism, Beam's engine for one machine, which is neither on the PATH nor in Beam's cache. "
        f"Build it with `make prism`, or `go install {module}` (needs Go), or name it: --prism_location=PATH"
    )


def _cached() -> list[Path]:
    """Downloads of this version of Beam."""
    return sorted(CACHE.expanduser().glob(f"apache_beam-v{apache_beam.__version__}-prism-*[!p]"))


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


class Prism:
    """A Prism that runs while this is entered.

    It has a session of its own, so that Ctrl-C in a terminal reaches the job only. On Linux the kernel ends it when
    this process ends, however that is; elsewhere it ends by itself when the job's process is gone.

    Args:
      program: path of Prism.
      log: file for what it writes; replaced.
    """

    def __init__(self, program: Path, log: Path):
        self._program, self._log = program, log
        self.address = ""

    def __enter__(self) -> Prism:
        """Starts it; to be called in the main thread, which lasts.

        Raises:
          PrismError: it ended instead, or does not answer.
        """
        port = _free_port()
        self.address = f"{_HOST}:{port}"
        command = [*_ends_with_us(), str(self._program), f"-job_port={port}", "-serve_http=false", "-log_level=warn"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self._wait(port)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    @property
    def ended(self) -> str | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return f"Prism was ended by signal {-code}" if code < 0 else f"Prism ended with exit code {code}"

    def has_ended(self, within: float) -> bool:
        """Whether it has ended, or does within so many seconds."""
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """Stops it, by force if it does not stop soon."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self, port: int) -> None:
        until = time.monotonic() + _START
        while not _accepts(port):
            if self.ended is not None:
                raise PrismError(f"{self.ended} when it was started; see {self._log}")
            if time.monotonic() > until:
                raise PrismError(f"Prism does not answer {_START:.0f} s after its start; see {self._log}")
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((_HOST, 0))
        return int(found.getsockname()[1])


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _ends_with_us() -> list[str]:
    """A prefix of a command that has the kernel (Linux) kill it when this process ends."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []
