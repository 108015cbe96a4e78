"""A receiver of HTTP in a process of its own: reads each request whole, answers 200. As fast as Python can be, so that
what is measured is the sender.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from benchmarks.measure import REPOSITORY, CommandError

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_READ = 1 << 20


@contextmanager
def receiver(decodes: bool) -> Iterator[str]:
    """Runs a receiver, and gives its URL.

    Args:
      decodes: whether it decodes the JSON of each body before it answers, as one that does anything with it has to.

    Raises:
      CommandError: it did not start.
    """
    command = [sys.executable, "-m", "benchmarks.receiver", "decode" if decodes else "read"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise CommandError(f"the receiver did not start: {' '.join(command)}")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait()


def _serve(connection: socket.socket, decodes: bool) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    decoder = msgspec.json.Decoder()
    with connection, connection.makefile("rb", _READ) as requests:
        while requests.readline():
            length = 0
            while (line := requests.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = requests.read(length)
            if decodes:
                decoder.decode(body)
            connection.sendall(_ANSWER)


def main(decodes: bool) -> None:
    """Serves until the process is ended; prints its port first."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, decodes), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1] == "decode")
