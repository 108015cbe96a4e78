"""Requests end in time, whatever the server does, and say nothing that is secret."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.servers.http import Answer, always, receiver, tls
from transforms.deliver.failures import FailureKind
from transforms.deliver.push.http import HttpClient, origin, retry_after, told

SECONDS = 1.0


@contextmanager
def raw_server(
    serve: Callable[[socket.socket], None], context: ssl.SSLContext | None = None
) -> Iterator[tuple[str, threading.Event]]:
    """A server that does with its one connection what it is told; its port, and an event that ends it."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) if context else connection as talking:
                    serve(talking)
                    over.wait(30)
            except OSError:
                return  # the client has left, as it should

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"localhost:{listener.getsockname()[1]}", over
        over.set()
        thread.join(10)


def drip(before: bytes, dripped: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(before)
        for _ in range(100):
            for byte in dripped:
                connection.sendall(bytes([byte]))
                time.sleep(0.1)

    return serve


def never_reads(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def reads_slowly(connection: socket.socket) -> None:
    for _ in range(40):
        connection.recv(1000)
        time.sleep(0.05)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    "serve",
    [
        pytest.param(drip(b"", b""), id="hangs before its answer"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"abcdefghij"), id="drips its headers"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b""), id="hangs in the body"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"abcdefghij"), id="drips its body"),
        pytest.param(
            drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"), id="drips its chunks"
        ),
        pytest.param(never_reads, id="never reads"),
        pytest.param(reads_slowly, id="reads slowly"),
    ],
)
def test_request_ends_in_time(serve: Callable[[socket.socket], None], secure: bool, tmp_path: Path) -> None:
    context, certificates = tls(tmp_path) if secure else (None, None)
    body = bytes(30_000_000) if serve in (never_reads, reads_slowly) else b"{}"
    with raw_server(serve, context) as (address, _):
        client = HttpClient(SECONDS, certificates and str(certificates))
        started = time.monotonic()
        answer = client.request("POST", f"http{'s' if secure else ''}://{address}/", body, {}, "the server")
        took = time.monotonic() - started
        client.close()
    assert answer.failure is not None and answer.failure.kind is FailureKind.TRANSIENT
    assert answer.failure.error.startswith("the server: no answer (")
    assert took < 2.5 * SECONDS


def test_answer_without_end_is_cut_off() -> None:
    def flood(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(bytes(65_536))

    with raw_server(flood) as (address, _):
        answer = HttpClient(10).request("POST", f"http://{address}", b"{}", {}, "the server")
    assert answer.failure is None and answer.said.startswith("200 OK")


def test_next_request_has_its_whole_time(tmp_path: Path) -> None:
    with receiver(always(Answer(after=0.7))) as server:
        client = HttpClient(SECONDS)
        for _ in range(3):  # on the same connection
            assert client.request("POST", server.address, b"{}", {}, "the server").failure is None


def test_certificate_must_name_the_host(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("example.com").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    with raw_server(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""), context) as (address, over):
        client = HttpClient(5, str(tmp_path / "authority.pem"))
        answer = client.request("POST", f"https://{address}/in", b"{}", {}, "the server")
        over.set()
    assert answer.failure is not None and answer.failure.kind is FailureKind.MISCONFIGURED
    assert answer.failure.error == "the server: its certificate is not valid or not trusted"


def test_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = HttpClient(5)
    answer = client.request("POST", f"http://127.0.0.1:{port}/?key=hidden-value", b"{}", {}, "the server")
    assert answer.failure is not None and answer.failure.kind is FailureKind.TRANSIENT
    assert answer.failure == client.reach(f"http://127.0.0.1:{port}/", "the server")


def test_name_that_cannot_be_resolved() -> None:
    answer = HttpClient(5).request("POST", "http://nowhere.invalid/", b"{}", {}, "the server")
    assert answer.failure is not None and answer.failure.kind is FailureKind.TRANSIENT
    assert answer.failure.error == "the server: its name cannot be resolved"


def test_secrets_and_tokens_in_answers_are_masked() -> None:
    with receiver(always(Answer(403, b'{"error": "key abcd-secret of\n abcd", "token": "xyz"}'))) as server:
        client = HttpClient(5, secrets=["abcd", "abcd-secret", ""])
        answer = client.request("POST", server.address, b"{}", {}, "the server")
    assert answer.failure is not None
    assert answer.failure.error == 'the server answered 403: {"error": "key *** of ***", "token": "***"}'


def test_what_is_told_of_an_address() -> None:
    assert told("https://user:word@example.com:8443/in/put?token=1#x") == "https://example.com:8443/in/put"
    assert told("http://[::1]:80/in") == "http://[::1]:80/in"
    assert origin("https://hooks.example.com/T0/secret") == "https://hooks.example.com"


@pytest.mark.parametrize(("given", "seconds"), [("7", 7.0), (None, None), ("soon", None), ("-1", None)])
def test_retry_after(given: str | None, seconds: float | None) -> None:
    assert retry_after(given) == seconds


def test_retry_after_as_a_date() -> None:
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    assert 90 < (retry_after(later) or 0) <= 100
