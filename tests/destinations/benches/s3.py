"""Bench of ``s3``: moto behind a proxy that makes faults, in a role of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from tests.destinations.bench import Bench, Received
from tests.destinations.benches.files import FilesBench, received_in
from tests.servers.aws import REGION, aws_emulator
from tests.servers.proxy import Fault, http_proxy

BUCKET = "acme-iot-archive"


class S3Bench(Bench):
    """A prefix in one bucket for each stream. Faults are those of S3; STS, which gives the role, has none."""

    type: ClassVar[str] = "s3"
    packings: ClassVar[tuple[tuple[str, str], ...]] = FilesBench.packings
    drops_repeats: ClassVar[bool] = True
    faults: ClassVar[frozenset[Fault]] = frozenset(Fault) - {Fault.NONE}

    def __enter__(self) -> S3Bench:
        with ExitStack() as stack:
            self._server = stack.enter_context(aws_emulator())
            self._proxy = stack.enter_context(http_proxy(self._server.address))
            self._opened = stack.pop_all()
        self._server.create_bucket(BUCKET)
        self.environment = self._server.environment
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        return {
            "type": "s3",
            "bucket": BUCKET,
            "prefix": f"{stream}-{content}",
            "region": REGION,
            "role_arn": "arn:aws:iam::123456789012:role/data-streamer",
            "external_id": "organisation-4711",
            "endpoint": self._proxy.address,
            "timeout": 3,
        }

    def received(self, stream: str, content: str = "events") -> list[Received]:
        return received_in(self._server.objects(BUCKET, f"{stream}-{content}/"), content)

    @contextmanager
    def fault(self, fault: Fault, percent: float = 100.0) -> Iterator[None]:
        self._proxy.inject(fault, percent)
        try:
            yield
        finally:
            self._proxy.inject(Fault.NONE)
