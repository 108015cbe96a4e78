"""Bench of ``datadog``: a server that plays the intake of logs, behind a proxy that makes faults.

Usage becomes points, which are no records any more: what arrives of it is tested in ``test_datadog.py``.
"""

from __future__ import annotations

import gzip
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from tests.destinations.bench import Bench, Received
from tests.destinations.reading import record_id_of
from tests.servers.http import Answer, Request, receiver
from tests.servers.proxy import Fault, http_proxy


class DatadogBench(Bench):
    """A service for each stream."""

    type: ClassVar[str] = "datadog"
    contents: ClassVar[tuple[str, ...]] = ("events",)
    ordered: ClassVar[bool | None] = True
    faults: ClassVar[frozenset[Fault]] = frozenset(Fault) - {Fault.NONE}

    def __enter__(self) -> DatadogBench:
        key = secrets.token_hex(16)

        def answer(number: int, request: Request) -> Answer:
            if request.headers.get("dd-api-key") != key:
                return Answer(403, b'{"errors":["Forbidden"]}')
            return Answer(200, b'{"valid":true}') if request.method == "GET" else Answer(202, b"{}")

        with ExitStack() as stack:
            self._receiver = stack.enter_context(receiver(answer))
            self._proxy = stack.enter_context(http_proxy(self._receiver.address))
            self._opened = stack.pop_all()
        self.environment = {"DATADOG_API_KEY": key}
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        return {
            "type": "datadog", "api_key": {"env": "DATADOG_API_KEY"}, "endpoint": self._proxy.address,
            "service": f"{stream}/{content}", "timeout": 15,
        }  # fmt: skip

    def received(self, stream: str, content: str = "events") -> list[Received]:
        return [
            Received(record_id_of(entry["event"]), entry["event"], entry["delivery_id"])
            for request in list(self._receiver.requests)
            if request.path == "/api/v2/logs"
            for entry in json.loads(gzip.decompress(request.body))
            if entry["service"] == f"{stream}/{content}"
        ]

    @contextmanager
    def fault(self, fault: Fault, percent: float = 100.0) -> Iterator[None]:
        self._proxy.inject(fault, percent)
        try:
            yield
        finally:
            self._proxy.inject(Fault.NONE)
