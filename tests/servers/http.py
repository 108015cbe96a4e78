"""Receivers of HTTP, as of a webhook or an intake of logs: scripted ones in this process, and a fast one of its own."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import threading
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web

from tests.servers.processes import HOST, Process, accepts, free_port


@dataclass(frozen=True)
class Request:
    """A request as it arrived; names of headers are in lower case, and the body is as sent, compressed or not."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What a receiver does with a request.

    Attributes:
      after: seconds before the answer.
      hang: give no answer at all; the connection stays open until the client leaves.
      cut: send the status, the headers and half of the body, then close the connection; with an empty body, close it
        before anything is sent.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0
    hang: bool = False
    cut: bool = False


Script = Callable[[int, Request], Answer]
"""From the number of the request, counted from 1, and the request itself to the answer."""


def always(answer: Answer) -> Script:
    return lambda number, request: answer


_TAKE = always(Answer())


@dataclass
class Receiver:
    """A running receiver.

    Attributes:
      address: ``http://127.0.0.1:PORT``, or ``https://localhost:PORT``.
      certificates: file with the authority that a client must trust, for https.
      script: may be replaced while it runs.
      requests: all that arrived, in order of arrival, also those that got no good answer.
      answered: the numbers of the requests, from 1, whose answer was 2xx and was sent whole.
    """

    address: str
    script: Script
    certificates: Path | None = None
    requests: list[Request] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)

    def accepted(self) -> list[Request]:
        """The requests that were answered 2xx, in order of arrival: what the receiver took."""
        return [self.requests[number - 1] for number in sorted(self.answered)]

    async def take(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await body_of(request)
        taken = Request(
            request.method, request.raw_path, {name.lower(): value for name, value in request.headers.items()}, body
        )
        self.requests.append(taken)
        number = len(self.requests)
        answer = self.script(number, taken)
        if answer.after:
            await asyncio.sleep(answer.after)
        response = await respond(request, answer)
        if 200 <= answer.status < 300 and not (answer.cut or answer.hang):
            self.answered.append(number)
        return response


async def body_of(request: web.BaseRequest) -> bytes:
    """The whole body; a client that waits to be told so is told to send it."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # aiohttp refuses to prepare a response after which something was written
    return await request.read()


async def respond(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Answer, hang or cut."""
    if answer.hang:
        await asyncio.Event().wait()  # until the client leaves: aiohttp then cancels
    if answer.cut:
        response = web.StreamResponse(status=answer.status, headers=dict(answer.headers))
        if answer.body:
            response.content_length = len(answer.body)
            await response.prepare(request)
            await response.write(answer.body[: len(answer.body) // 2])
        if request.transport is not None:
            request.transport.abort() if not answer.body else request.transport.close()
        return response
    return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body)


@contextmanager
def loop_in_thread(name: str) -> Iterator[Callable[[Awaitable[Any]], Any]]:
    """A function that runs something on an event loop of its own and returns its result."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=name, daemon=True)
    thread.start()

    def run(todo: Awaitable[Any]) -> Any:
        async def done() -> Any:
            return await todo

        return asyncio.run_coroutine_threadsafe(done(), loop).result(60)

    try:
        yield run
    finally:
        run(_cancel_all())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

LARGEST = 1 << 30
"""Bytes of a body that are taken; larger ones are answered 413."""


async def serve(handler: Handler, port: int, context: ssl.SSLContext | None = None) -> web.ServerRunner:
    """Start to serve HTTP; bodies stay compressed, and a handler whose client leaves is cancelled."""
    loop = asyncio.get_running_loop()

    def request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=LARGEST)

    server = web.Server(
        handler, request_factory=request, handler_cancellation=True, access_log=None, auto_decompress=False
    )
    runner = web.ServerRunner(server, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, HOST, port, ssl_context=context, backlog=1024).start()
    return runner


async def serve_forever(handler: Handler, port: int) -> None:
    await serve(handler, port)
    await asyncio.Event().wait()


@contextmanager
def serving(
    handler: Handler, port: int, context: ssl.SSLContext | None = None
) -> Iterator[Callable[[Awaitable[Any]], Any]]:
    """Serve HTTP with a handler on a thread of its own; yields a function that runs something on its loop."""
    with loop_in_thread(f"http-{port}") as run:
        runner = run(serve(handler, port, context))
        try:
            yield run
        finally:
            run(runner.cleanup())


@contextmanager
def receiver(script: Script = _TAKE, directory: Path | None = None) -> Iterator[Receiver]:
    """A scripted receiver in this process.

    Args:
      script: what it answers; 200 without a body, if none is given.
      directory: where the certificate of its authority is written; with it, it speaks https.
    """
    port = free_port()
    if directory is None:
        running = Receiver(f"http://{HOST}:{port}", script)
        context = None
    else:
        context, certificates = tls(directory)
        running = Receiver(f"https://localhost:{port}", script, certificates)
    with serving(running.take, port, context):
        yield running


def tls(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for ``localhost`` and 127.0.0.1, and the file with the authority to trust."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", HOST).configure_cert(context)
    certificates = directory / "authority.pem"
    authority.cert_pem.write_to_path(str(certificates))
    return context, certificates


@dataclass(frozen=True)
class CountingReceiver:
    """A receiver in a process of its own, so that it takes no time from the client; it answers 200 and counts."""

    address: str
    process: Process

    def requests(self) -> int:
        with urllib.request.urlopen(f"{self.address}/count") as answer:
            return int(json.load(answer)["requests"])


@contextmanager
def counting_receiver() -> Iterator[CountingReceiver]:
    """To measure the throughput of a client: every request is read whole and answered 200 with an empty body."""
    port = free_port()
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.servers.counting", str(port)]
    with Process("HTTP receiver", command, lambda: accepts(port), {"PYTHONPATH": str(root)}) as process:
        yield CountingReceiver(f"http://{HOST}:{port}", process)
