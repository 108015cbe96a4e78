"""Requests over HTTP for destinations that push: one attempt each, and its answer as a value."""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import unquote, unquote_plus, urlsplit

import urllib3
import urllib3.connection

from transforms.dead_letters import scrub
from transforms.deliver.answer import Answer
from transforms.deliver.failures import Failure, FailureKind, of_http_status

_READ, _KEPT, _SAID = 65_536, 4_096, 300
"""Bytes of an answer that are read (the connection of a longer one is closed), bytes of them that are looked at, and
characters that are told."""

_CONNECT = 10.0
"""Most seconds until a connection stands."""

_TLS_PIECE = 16_384
"""Bytes of a TLS record: what is sent under one time-out."""

_SHORTEST = 6
"""Characters of the shortest part of a secret address that is masked: `/in` or `v1` stand in every second answer."""


_NEAR = (".internal", ".local", ".localhost", ".svc", ".home.arpa", ".test")
"""Ends of names that never lie in the public network."""


class HttpClient:
    """Keeps connections open, verifies certificates, follows no redirects and never tries again by itself.

    A request ends within `timeout` seconds of its start (and of the connection, at most 10 s more), whatever the server
    does: hang, read slowly, or send its answer byte by byte.

    Args:
      timeout: seconds for a request, from its first byte to the last one of its answer.
      certificates: file of certificate authorities to trust instead of the usual ones; None: the usual ones.
      secrets: texts that are masked where the server repeats them.

    Raises:
      OSError: the file of certificates cannot be read.
    """

    def __init__(self, timeout: float, certificates: str | None = None, secrets: Sequence[str] = ()):
        self._pool = pool_manager(timeout, certificates)
        self._targets: dict[str, tuple[urllib3.HTTPConnectionPool, str]] = {}
        self._secrets = [secret.encode() for secret in sorted(secrets, key=len, reverse=True) if secret]

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], where: str) -> Answer:
        """Sends a request: a status of 2xx is success.

        Args:
          method: such as POST.
          url: where to.
          body: what is sent.
          headers: what it is sent with.
          where: the URL as errors tell it.
        """
        try:
            pool, target = self._target(url)
            response = pool.urlopen(
                method, target, body, headers, preload_content=False, decode_content=False, redirect=False
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return Answer(of_error(where, error))
        try:
            said = b""
            while piece := response.read(_READ):
                said += piece
                if len(said) >= _READ:
                    response.close()  # the rest of it is of no interest, and may never end
                    break
        except (urllib3.exceptions.HTTPError, OSError) as error:
            response.close()
            return Answer(of_error(where, error))
        finally:
            response.release_conn()
        words = self._told(said[:_KEPT]) if said else ""
        if 200 <= response.status < 300:
            return Answer(said=f"{response.status} {response.reason or ''}".strip() + (f": {words}" if words else ""))
        return Answer(of_http_status(where, response.status, words, retry_after(response.headers.get("Retry-After"))))

    def _target(self, url: str) -> tuple[urllib3.HTTPConnectionPool, str]:
        """Connections and target of a URL: taking them out of it anew costs a fifth of a small request."""
        if url not in self._targets:
            self._targets[url] = self._pool.connection_from_url(url), urllib3.util.parse_url(url).request_uri
        return self._targets[url]

    def _told(self, said: bytes) -> str:
        for secret in self._secrets:
            said = said.replace(secret, b"***")
        return " ".join(scrub(said).decode("utf-8", "replace").split())[:_SAID]

    def reach(self, url: str, where: str) -> Failure | None:
        """Opens a connection, with its handshake, and closes it; returns why that fails, or None."""
        connection = self._pool.connection_from_url(url)._new_conn()
        try:
            connection.connect()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return of_error(where, error)
        finally:
            connection.close()
        return None

    def close(self) -> None:
        """Closes all connections."""
        self._pool.clear()


def pool_manager(timeout: float, certificates: str | None = None) -> urllib3.PoolManager:
    """Connections that verify certificates, do not try again, and bound each request as a whole.

    Raises:
      OSError: the file of certificates cannot be read.
    """
    if certificates is not None:
        ssl.create_default_context(cafile=certificates)  # found out now, not with the first request
    bounds = {"seconds": timeout}
    pools = {
        "http": (urllib3.HTTPConnectionPool, _Connection),
        "https": (urllib3.HTTPSConnectionPool, _TlsConnection),
    }
    manager = urllib3.PoolManager(
        maxsize=64,
        retries=False,
        timeout=urllib3.Timeout(connect=min(timeout, _CONNECT), read=timeout),
        cert_reqs="CERT_REQUIRED",
        ca_certs=certificates,
    )
    manager.pool_classes_by_scheme = {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": type(kind.__name__, (kind,), bounds)})
        for scheme, (pool, kind) in pools.items()
    }
    return manager


class _Connection(urllib3.connection.HTTPConnection):
    """Ends each request by a time of its own. A time-out of a socket begins anew with every byte that arrives."""

    seconds: ClassVar[float]
    _until = float("inf")

    def request(self, *args: Any, **options: Any) -> None:
        self._until = time.monotonic() + self.seconds
        super().request(*args, **options)

    def send(self, data: Any) -> None:
        if self.sock is None and self.auto_open:
            self.connect()
        # Python bounds the whole of a plain send, but of one over TLS each record by itself.
        size = _TLS_PIECE if isinstance(self.sock, ssl.SSLSocket) else len(data)
        view = memoryview(data)
        for start in range(0, len(view), max(size, 1)):
            self.sock.settimeout(_left(self._until))
            super().send(view[start : start + size])

    def response_class(self, sock: socket.socket, **options: Any) -> _Response:  # type: ignore[override]
        return _Response(sock, self._until, **options)


class _TlsConnection(_Connection, urllib3.connection.HTTPSConnection):
    """The same over TLS."""


class _Response(http.client.HTTPResponse):
    """An answer that is read until a time."""

    def __init__(self, sock: socket.socket, until: float, **options: Any):
        super().__init__(sock, **options)
        self.fp = io.BufferedReader(_Until(self.fp.detach(), sock, until))


class _Until(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, until: float):
        self._raw, self._sock, self._until = raw, sock, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left(self._until))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def wrong_address(url: str) -> str | None:
    """What is wrong with an address that a user gave, without repeating it; None if nothing is."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises where it is no number
    except ValueError:
        return "must be https://HOST/PATH"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "must be https://HOST/PATH"
    if parts.username or parts.password:
        return "must not hold a user or password: use the header Authorization"
    if parts.scheme == "http" and not _is_near(parts.hostname):
        return "must be https://…: http:// is only for this machine and private networks"
    return None


def _is_near(host: str) -> bool:
    """Whether a host lies on this machine or in a private network, as far as its name says."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_NEAR)
    return address.is_private or address.is_loopback or address.is_link_local


def told(url: str) -> str:
    """A URL as errors tell it: without user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{origin(url)}{parts.path}"


def origin(url: str) -> str:
    """Scheme, host and port of a URL: what errors tell of one that is secret."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def secrets_of(url: str) -> list[str]:
    """What a server may repeat of an address that is secret: all of it, path and query, and the longer parts of both.

    Each as it was given, as it is sent and as the server decodes it. Parts also stand for themselves, because servers
    quote paths in ways of their own (`\\/` in JSON, `&amp;` in HTML). Scheme, host and port are told.
    """
    try:
        sent = urllib3.util.parse_url(url).request_uri
    except urllib3.exceptions.LocationParseError:
        sent = ""  # no request can be made to it
    given = urlsplit(url)
    targets = {sent, given.path + (f"?{given.query}" if given.query else "")}
    found = {url}
    for target in targets:
        path, _, query = target.partition("?")
        values = [value if equals else name for name, equals, value in (p.partition("=") for p in query.split("&"))]
        parts = (target, path, query, *path.split("/"), *values)
        found.update(form for part in parts for form in (part, unquote(part), unquote_plus(part)))
    if given.fragment:
        found.add(given.fragment)
    return [text for text in found if len(text) >= _SHORTEST]


def retry_after(given: str | None) -> float | None:
    """Seconds of a header ``Retry-After``, which has a number or a date; None without one that can be read."""
    if given is None:
        return None
    try:
        return max(0.0, urllib3.Retry().parse_retry_after(given))
    except urllib3.exceptions.InvalidHeader:
        return None


def of_error(where: str, error: Exception) -> Failure:
    """The failure that an error of the connection stands for. Its text is not told: it may repeat the URL.

    Args:
      where: what was asked, without secrets.
      error: what the client raised.
    """
    cause: BaseException = error
    while isinstance(cause, urllib3.exceptions.ProtocolError) and cause.__cause__ is not None:
        cause = cause.__cause__
    name = type(cause).__name__
    if isinstance(error, urllib3.exceptions.SSLError | ssl.SSLError) and "CERTIFICATE" in str(error).upper():
        text = f"{where}: its certificate is not valid or not trusted"
        return Failure(FailureKind.MISCONFIGURED, text, "give the server a valid certificate, or name its authority")
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return Failure(FailureKind.TRANSIENT, f"{where}: its name cannot be resolved", "check the address and the DNS")
    if isinstance(error, urllib3.exceptions.LocationValueError | ValueError):
        return Failure(FailureKind.MISCONFIGURED, f"{where}: is no address to send to", "correct the address")
    return Failure(
        FailureKind.TRANSIENT, f"{where}: no answer ({name})", "see that it is up, then deliver what is pending"
    )
