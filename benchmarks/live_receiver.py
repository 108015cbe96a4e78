"""A receiver of webhooks in a process of its own that keeps when each record came, and how old it was then."""

from __future__ import annotations

import array
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.measure import REPOSITORY, CommandError

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_READ = 1 << 20


class _Record(msgspec.Struct):
    event_time: datetime


def ages(path: Path) -> np.ndarray:
    """What a receiver has kept: a row for each record, when it came (seconds since 1970), and its age (seconds)."""
    data = path.read_bytes()
    return np.frombuffer(data[: len(data) // 16 * 16], np.float64).reshape(-1, 2)


@contextmanager
def stamping_receiver(path: Path) -> Iterator[str]:
    """Runs a receiver that writes into a file what `ages` reads, and gives its URL.

    Raises:
      CommandError: it did not start.
    """
    command = [sys.executable, "-m", "benchmarks.live_receiver", str(path)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise CommandError(f"the receiver did not start: {' '.join(command)}")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait()


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


def _serve(connection: socket.socket, stamps: _Stamps) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb", _READ) as requests:
        while requests.readline():
            length = 0
            while (line := requests.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = requests.read(length)
            came = time.time()
            connection.sendall(_ANSWER)
            stamps.keep(body, came)


def main(path: str) -> None:
    """Serves until the process is ended; prints its port first."""
    stamps = _Stamps(Path(path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, stamps), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
