"""Bench of ``kinesis``: moto behind a proxy that makes faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiohttp import web

from tests.destinations.bench import Bench, Received
from tests.servers.aws import REGION, aws_emulator
from tests.servers.http import Answer, serving
from tests.servers.processes import HOST, free_port
from tests.servers.proxy import Fault, HttpProxy


class KinesisBench(Bench):
    """Streams of two shards. Keep them below 10,000 records: the emulator takes longer for each that it has."""

    type: ClassVar[str] = "kinesis"
    faults: ClassVar[frozenset[Fault]] = frozenset(Fault) - {Fault.NONE}

    def __enter__(self) -> KinesisBench:
        with ExitStack() as stack:
            self._aws = stack.enter_context(aws_emulator())
            port = free_port()
            self._proxy = OneByOne(f"http://{HOST}:{port}", self._aws.address)
            run = stack.enter_context(serving(self._proxy.take, port))
            stack.callback(lambda: run(self._proxy.close()))
            self._opened = stack.pop_all()
        self.environment = {**self._aws.environment, "AWS_ENDPOINT_URL": self._proxy.address}
        self._made: set[str] = set()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        name = f"{stream}-{content}"
        if name not in self._made:
            self._aws.create_stream(name)
            self._made.add(name)
        return {"type": "kinesis", "stream_name": name, "region": REGION, "timeout": 3}

    def received(self, stream: str, content: str = "events") -> list[Received]:
        found = []
        for record in self._aws.records(f"{stream}-{content}"):
            values = json.loads(record.data)
            found.append(Received(record_id_of(values), values, key=record.key))
        return found

    @contextmanager
    def fault(self, fault: Fault, percent: float = 100.0) -> Iterator[None]:
        self._proxy.inject(fault, percent)
        try:
            yield
        finally:
            self._proxy.inject(Fault.NONE)


def record_id_of(record: dict[str, Any]) -> int:
    """The id of a record of events or usage, in shape ``table`` or ``emnify``."""
    return int(next(record[name] for name in ("event_id", "usage_id", "id") if name in record))


@dataclass
class OneByOne(HttpProxy):
    """Passes on one request at a time: the emulator loses records that are put at the same time."""

    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def _passed_on(self, request: web.BaseRequest, body: bytes, cut: bool) -> Answer:
        async with self._lock:
            return await super()._passed_on(request, body, cut)
