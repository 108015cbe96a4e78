"""Bench of ``webhook``: a receiver that writes everything down, behind a proxy that makes faults."""

from __future__ import annotations

import base64
import gzip
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from tests.destinations.bench import Bench, Received
from tests.destinations.reading import record_id_of
from tests.servers.http import receiver
from tests.servers.proxy import Fault, http_proxy


class WebhookBench(Bench):
    """A path for each stream; requests are authorised and signed. A receiver drops repeats by ``webhook-id``."""

    type: ClassVar[str] = "webhook"
    ordered: ClassVar[bool | None] = True
    faults: ClassVar[frozenset[Fault]] = frozenset(Fault) - {Fault.NONE}

    def __enter__(self) -> WebhookBench:
        self._stack = ExitStack()
        self._receiver = self._stack.enter_context(receiver())
        self._proxy = self._stack.enter_context(http_proxy(self._receiver.address))
        self.environment = {
            "WEBHOOK_AUTHORIZATION": f"Bearer {secrets.token_hex(24)}",
            "WEBHOOK_SIGNING_KEY": "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode(),
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        return {
            "type": "webhook", "url": f"{self._proxy.address}/{stream}/{content}", "timeout": 15,
            "headers": {"Authorization": {"env": "WEBHOOK_AUTHORIZATION"}},
            "signing_keys": [{"env": "WEBHOOK_SIGNING_KEY"}], "compression": "gzip",
        }  # fmt: skip

    def received(self, stream: str, content: str = "events") -> list[Received]:
        found = []
        for request in list(self._receiver.requests):
            if request.path == f"/{stream}/{content}":
                given = json.loads(gzip.decompress(request.body))
                records = given if isinstance(given, list) else [given]
                name = request.headers["webhook-id"]
                found += [Received(record_id_of(record), record, name) for record in records]
        return found

    @contextmanager
    def fault(self, fault: Fault, percent: float = 100.0) -> Iterator[None]:
        self._proxy.inject(fault, percent)
        try:
            yield
        finally:
            self._proxy.inject(Fault.NONE)
