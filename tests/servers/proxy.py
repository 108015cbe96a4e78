"""Proxies that inject faults between a client and any server: one that knows HTTP, one that passes bytes."""

from __future__ import annotations

import asyncio
import enum
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from tests.servers.http import Answer, body_of, loop_in_thread, respond, serving
from tests.servers.processes import HOST, free_port


class Fault(enum.Enum):
    """What a proxy of HTTP does instead of passing a request on."""

    NONE = "passes everything on"
    ERROR = "answers 500"
    UNAVAILABLE = "answers 503"
    THROTTLED = "answers 429 with Retry-After: 1"
    UNAUTHORISED = "answers 401"
    FORBIDDEN = "answers 403"
    NOT_FOUND = "answers 404"
    HANG = "never answers"
    CUT_BEFORE = "closes the connection without passing the request on"
    CUT_AFTER = "passes the request on, and closes the connection in the middle of the server's answer"
    SLOW = "passes everything on, a second later"


_STATUS = {
    Fault.ERROR: 500,
    Fault.UNAVAILABLE: 503,
    Fault.THROTTLED: 429,
    Fault.UNAUTHORISED: 401,
    Fault.FORBIDDEN: 403,
    Fault.NOT_FOUND: 404,
}
_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
}
"""Headers of one connection, which a proxy does not pass on (RFC 9110, 7.6.1)."""


@dataclass
class HttpProxy:
    """A running proxy of HTTP; ``fault`` and its kin may be set at any time and hold from the next request on.

    Attributes:
      address: ``http://127.0.0.1:PORT``, to be used in place of the server's.
      upstream: address of the server.
      fault: what happens to requests.
      percent: of the requests that ``only`` chooses, how many it happens to; evenly spread, by counting, not by chance.
      only: which requests it can happen to, by method and path with query; the others are passed on.
      requests: how many arrived.
      faults: how many of them met the fault.
    """

    address: str
    upstream: str
    fault: Fault = Fault.NONE
    percent: float = 100.0
    only: Callable[[str, str], bool] = lambda method, path: True
    requests: int = 0
    faults: int = 0
    _chosen: int = field(default=0, repr=False)
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)

    def inject(
        self,
        fault: Fault,
        percent: float = 100.0,
        only: Callable[[str, str], bool] = lambda method, path: True,
        counted: int = 0,
    ) -> None:
        """Set a fault and what it happens to, and count from 0.

        Args:
          fault: the fault.
          percent: of the chosen requests, how many it happens to.
          only: which requests are chosen.
          counted: how many count as passed on already: with 10 % and 4, the sixth request is the first at fault. For
            those that make fewer requests than it would take to meet the fault.
        """
        self.fault, self.percent, self.only = fault, percent, only
        self.requests = self.faults = 0
        self._chosen = counted

    def _next(self, method: str, path: str) -> Fault:
        """What happens to the next request."""
        self.requests += 1
        fault = self.fault
        if fault is Fault.NONE or not self.only(method, path):
            return Fault.NONE
        before, self._chosen = self._chosen, self._chosen + 1
        if int(self._chosen * self.percent / 100) == int(before * self.percent / 100):
            return Fault.NONE
        self.faults += 1
        return fault

    async def take(self, request: web.BaseRequest) -> web.StreamResponse:
        fault = self._next(request.method, request.raw_path)
        body = await body_of(request)
        if fault is Fault.HANG:
            return await respond(request, Answer(hang=True))
        if fault is Fault.CUT_BEFORE:
            return await respond(request, Answer(cut=True))
        if fault in _STATUS:
            headers = {"Retry-After": "1"} if fault is Fault.THROTTLED else {}
            return await respond(request, Answer(_STATUS[fault], b"injected fault\n", headers))
        if fault is Fault.SLOW:
            await asyncio.sleep(1.0)
        return await respond(request, await self._passed_on(request, body, cut=fault is Fault.CUT_AFTER))

    async def _passed_on(self, request: web.BaseRequest, body: bytes, cut: bool) -> Answer:
        if self._session is None:
            # A connection for each request: a server may close one that is kept just when the next request goes out.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        # The client's own Host goes on, so that a server that names itself in an answer names the proxy.
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP]
        try:
            async with self._session.request(
                request.method,
                URL(self.upstream + request.raw_path, encoded=True),
                headers=headers,
                data=body or None,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            ) as answer:
                content = await answer.read()
        except aiohttp.ClientError as error:
            return Answer(502, f"{self.upstream}: {error}\n".encode())
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        if "Location" in kept:
            kept["Location"] = kept["Location"].replace(self.upstream, self.address, 1)
        return Answer(answer.status, content, kept, cut=cut)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


@contextmanager
def http_proxy(upstream: str) -> Iterator[HttpProxy]:
    """A proxy of a server of HTTP without TLS; it holds a request and its answer whole in memory."""
    port = free_port()
    proxy = HttpProxy(f"http://{HOST}:{port}", upstream.rstrip("/"))
    with serving(proxy.take, port) as run:
        try:
            yield proxy
        finally:
            run(proxy.close())


class TcpFault(enum.Enum):
    """What a proxy of bytes does with connections, also with those that are open already."""

    NONE = "passes all bytes on"
    REFUSE = "refuses new connections and closes the open ones, as a server that is down"
    HANG = "accepts connections and holds back all bytes; what it still holds at the next NONE goes on, as on a network"
    CUT = "accepts connections and closes them at once"


class TcpProxy:
    """A running proxy of bytes; ``fault`` may be set at any time.

    Attributes:
      port: of this proxy, on 127.0.0.1.
      connections: how many were accepted.
      broken: how many of them ended otherwise than by both sides closing them.
    """

    def __init__(self, upstream: int, run: Callable[[Any], Any]) -> None:
        self.port, self.connections, self.broken = free_port(), 0, 0
        self._upstream, self._run = upstream, run
        self._fault = TcpFault.NONE
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._flow = asyncio.Event()
        # Bound but never listening: keeps the port while the proxy refuses connections.
        self._holder = _bound(self.port)
        run(self._set(TcpFault.NONE))

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def fault(self) -> TcpFault:
        return self._fault

    @fault.setter
    def fault(self, fault: TcpFault) -> None:
        self._run(self._set(fault))

    def cut(self) -> None:
        """Close the connections that are open now, once."""
        self._run(self._cut())

    async def _set(self, fault: TcpFault) -> None:
        self._fault = fault
        if fault in (TcpFault.REFUSE, TcpFault.CUT):
            await self._cut()
        if fault is TcpFault.HANG:
            self._flow.clear()
        else:
            self._flow.set()
        if fault is TcpFault.REFUSE:
            await self._stop_listening()
        elif self._server is None:
            listener = _bound(self.port)
            self._server = await asyncio.start_server(self._accept, sock=listener)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def close(self) -> None:
        await self._stop_listening()
        await self._cut()
        self._holder.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            if self._fault is not TcpFault.CUT:
                await self._flow.wait()
                if writer.transport.is_closing():
                    return
                from_server, to_server = await asyncio.open_connection(HOST, self._upstream)
                self._open.add(to_server)
                try:
                    await asyncio.gather(self._pump(reader, to_server), self._pump(from_server, writer))
                finally:
                    self._open.discard(to_server)
                    to_server.transport.abort()
        except OSError:
            self.broken += 1
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await self._flow.wait()
            if writer.transport.is_closing():
                return
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, port))
    return bound


@contextmanager
def tcp_proxy(upstream: int) -> Iterator[TcpProxy]:
    """A proxy of a port of 127.0.0.1, for servers of any protocol, with or without TLS."""
    with loop_in_thread(f"tcp-{upstream}") as run:
        proxy = TcpProxy(upstream, run)
        try:
            yield proxy
        finally:
            run(proxy.close())
