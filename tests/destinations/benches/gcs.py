"""Bench of ``gcs``: the emulator of Cloud Storage behind a proxy that makes faults."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from tests.destinations.bench import Bench, Received
from tests.destinations.benches.files import FilesBench, received_in
from tests.servers.proxy import Fault, http_proxy
from tests.servers.storage import storage_emulator

BUCKET = "acme-iot-archive"


class GcsBench(Bench):
    """A prefix in one bucket for each stream."""

    type: ClassVar[str] = "gcs"
    packings: ClassVar[tuple[tuple[str, str], ...]] = FilesBench.packings
    drops_repeats: ClassVar[bool] = True
    faults: ClassVar[frozenset[Fault]] = frozenset(Fault) - {Fault.NONE}

    def __enter__(self) -> GcsBench:
        with ExitStack() as stack:
            self._server = stack.enter_context(storage_emulator(BUCKET))
            self._proxy = stack.enter_context(http_proxy(self._server.address))
            self._opened = stack.pop_all()
        self.environment = {**self._server.environment, "STORAGE_EMULATOR_HOST": self._proxy.address}
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        return {"type": "gcs", "bucket": BUCKET, "prefix": f"{stream}-{content}", "timeout": 3}

    def received(self, stream: str, content: str = "events") -> list[Received]:
        return received_in(self._server.objects(f"{stream}-{content}/"), content)

    @contextmanager
    def fault(self, fault: Fault, percent: float = 100.0) -> Iterator[None]:
        self._proxy.inject(fault, percent)
        try:
            yield
        finally:
            self._proxy.inject(Fault.NONE)
