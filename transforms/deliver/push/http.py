"""Requests over HTTP for destinations that push: one attempt each, and its answer as a value."""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import urllib3

from transforms.dead_letters import scrub
from transforms.deliver.answer import Answer
from transforms.deliver.failures import Failure, FailureKind, of_http_status

_READ, _SAID = 4_096, 300
"""Bytes of an answer that are read, and characters of it that are told."""


class HttpClient:
    """Keeps connections open, verifies certificates, follows no redirects and never tries again by itself.

    Args:
      timeout: seconds for the connection and for each wait for the answer.
      certificates: file of certificate authorities to trust instead of the usual ones; None: the usual ones.
    """

    def __init__(self, timeout: float, certificates: str | None = None):
        self._timeout = timeout
        self._pool = urllib3.PoolManager(
            maxsize=64,
            retries=False,
            timeout=urllib3.Timeout(connect=min(timeout, 10.0), read=timeout),
            cert_reqs="CERT_REQUIRED",
            ca_certs=certificates,
        )

    def request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Sends a request: a status of 2xx is success.

        Args:
          method: such as POST.
          url: where to; its user and query are never told.
          body: what is sent.
          headers: what it is sent with.
        """
        where = told(url)
        until = time.monotonic() + 2 * self._timeout
        try:
            response = self._pool.request(
                method, url, body=body, headers=dict(headers), preload_content=False, redirect=False
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return Answer(_of_error(where, error))
        said = b""
        try:
            for piece in response.stream(_READ):
                said += piece
                if len(said) >= _READ or time.monotonic() > until:
                    response.close()  # the rest of it is of no interest, and may never end
                    break
        except (urllib3.exceptions.HTTPError, OSError) as error:
            response.close()
            return Answer(_of_error(where, error))
        finally:
            response.release_conn()
        words = " ".join(scrub(said).decode("utf-8", "replace").split())[:_SAID]
        if 200 <= response.status < 300:
            return Answer(said=f"{response.status} {response.reason or ''}".strip() + (f": {words}" if words else ""))
        return Answer(of_http_status(where, response.status, words, _retry_after(response)))

    def reach(self, url: str) -> Failure | None:
        """Opens a connection, with its handshake, and closes it; returns why that fails, or None."""
        parts = urlsplit(url)
        pool = self._pool.connection_from_url(url)
        connection = pool._new_conn()
        try:
            connection.connect()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return _of_error(f"{parts.hostname}:{parts.port or pool.port}", error)
        finally:
            connection.close()
        return None

    def close(self) -> None:
        """Closes all connections."""
        self._pool.clear()


def told(url: str) -> str:
    """A URL as errors tell it: without user, password, query and fragment."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    given = response.headers.get("Retry-After")
    if given is None:
        return None
    try:
        return max(0.0, urllib3.Retry().parse_retry_after(given))
    except urllib3.exceptions.InvalidHeader:
        return None


def _of_error(where: str, error: Exception) -> Failure:
    """The failure that an error of the connection stands for. Its text is not told: it may repeat the URL."""
    cause: BaseException = error
    while isinstance(cause, urllib3.exceptions.ProtocolError) and cause.__cause__ is not None:
        cause = cause.__cause__
    name = type(cause).__name__
    if isinstance(error, urllib3.exceptions.SSLError) and "CERTIFICATE" in str(error).upper():
        text = f"{where}: its certificate is not valid or not trusted"
        return Failure(FailureKind.MISCONFIGURED, text, "give the server a valid certificate, or name its authority")
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return Failure(FailureKind.TRANSIENT, f"{where}: its name cannot be resolved", "check the address and the DNS")
    if isinstance(error, urllib3.exceptions.LocationValueError | ValueError):
        return Failure(FailureKind.MISCONFIGURED, f"{where}: is no address to send to", "correct the address")
    return Failure(
        FailureKind.TRANSIENT, f"{where}: no answer ({name})", "see that it is up, then deliver what is pending"
    )
