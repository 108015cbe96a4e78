"""A receiver of webhooks in a process of its own that keeps when each record came, and how old it was then."""

from __future__ import annotations

import array
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.receiver import in_process, serve


class _Record(msgspec.Struct):
    event_time: datetime


def ages(path: Path) -> np.ndarray:
    """What a receiver has kept: a row for each record, when it came (seconds since 1970), and its age (seconds)."""
    data = path.read_bytes()
    return np.frombuffer(data[: len(data) // 16 * 16], np.float64).reshape(-1, 2)


def stamping_receiver(path: Path) -> AbstractContextManager[str]:
    """Runs a receiver that writes into a file what `ages` reads, and gives its URL.

    Raises:
      CommandError: it did not start.
    """
    return in_process("benchmarks.live_receiver", str(path))


@contextmanager
def hanging_server() -> Iterator[str]:
    """A server that takes connections and answers nothing; gives its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


class _Stamps:
    def __init__(self, path: Path):
        self._file = path.open("wb", buffering=0)
        self._lock = threading.Lock()
        self._decoder = msgspec.json.Decoder(list[_Record])

    def keep(self, body: bytes, came: float) -> None:
        found = array.array("d")
        for record in self._decoder.decode(body):
            found.extend((came, came - record.event_time.timestamp()))
        with self._lock:
            self._file.write(found.tobytes())


def main(path: str) -> None:
    """Serves until the process is ended; prints its port first."""
    serve(lambda body: None, _Stamps(Path(path)).keep)


if __name__ == "__main__":
    main(sys.argv[1])
