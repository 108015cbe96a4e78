"""A receiver of HTTP in a process of its own: reads each request whole, answers 200. As fast as Python can be, so that
what is measured is the sender.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import msgspec

from benchmarks.measure import REPOSITORY, CommandError

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_READ = 1 << 20


def receiver(decodes: bool) -> AbstractContextManager[str]:
    """Runs a receiver, and gives its URL.

    Args:
      decodes: whether it decodes the JSON of each body before it answers, as one that does anything with it has to.

    Raises:
      CommandError: it did not start.
    """
    return in_process("benchmarks.receiver", "decode" if decodes else "read")


@contextmanager
def in_process(module: str, argument: str) -> Iterator[str]:
    """Runs a module that calls `serve`, and gives its URL.

    Raises:
      CommandError: it did not start.
    """
    command = [sys.executable, "-m", module, argument]
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


def serve(before: Callable[[bytes], object], after: Callable[[bytes, float], object]) -> None:
    """Serves until the process is ended; prints its port first.

    Args:
      before: is called with each body before its answer.
      after: is called with it behind its answer, and with the time when it had come (seconds since 1970).
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_answer, args=(connection, before, after), daemon=True).start()


def _answer(
    connection: socket.socket, before: Callable[[bytes], object], after: Callable[[bytes, float], object]
) -> None:
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
            before(body)
            connection.sendall(_ANSWER)
            after(body, came)


def _pass(*_: object) -> None:
    """Does nothing with what came."""


def main(decodes: bool) -> None:
    """Serves until the process is ended; prints its port first."""
    serve(msgspec.json.Decoder().decode if decodes else _pass, _pass)


if __name__ == "__main__":
    main(sys.argv[1] == "decode")
