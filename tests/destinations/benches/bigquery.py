"""Benches of ``bigquery``: an emulator behind proxies that make faults; rows go there by load jobs, or by the Storage
Write API.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import pyarrow as pa
from google.api_core.exceptions import NotFound

from schemas.tables import TABLES
from tests.destinations.bench import Bench, Received
from tests.destinations.reading import as_table, record_id_of
from tests.servers.bigquery import PROJECT, bigquery_emulator
from tests.servers.proxy import Fault, TcpFault, http_proxy, tcp_proxy

DATASET = "iot"


class BigQueryBench(Bench):
    """A table for each stream."""

    type: ClassVar[str] = "bigquery"
    packings: ClassVar[tuple[tuple[str, str], ...]] = (("ndjson", "table"),)
    drops_repeats: ClassVar[bool] = True
    batches: ClassVar[bool] = False
    attempt: ClassVar[float] = 7.0
    faults: ClassVar[frozenset[Fault]] = frozenset(Fault) - {Fault.NONE}

    def __enter__(self) -> BigQueryBench:
        with ExitStack() as stack:
            self._server = stack.enter_context(bigquery_emulator())
            self._server.create_dataset(DATASET)
            self._proxy = stack.enter_context(http_proxy(self._server.address))
            self._writes = stack.enter_context(tcp_proxy(int(self._server.write_address.rsplit(":", 1)[1])))
            self._opened = stack.pop_all()
        self.environment = {
            "BIGQUERY_EMULATOR_HOST": self._proxy.address,
            "BIGQUERY_STORAGE_EMULATOR_HOST": self._writes.address,
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        table = _table(stream, content)
        return {"type": "bigquery", "project": PROJECT, "dataset": DATASET, "table": table, "timeout": 10}

    def received(self, stream: str, content: str = "events") -> list[Received]:
        client = self._server.client()
        names = ", ".join(f"`{name}`" for name in TABLES[content].schema.names)
        query = f"SELECT {names} FROM `{PROJECT}.{DATASET}.{_table(stream, content)}` ORDER BY hour"
        try:
            rows = [dict(row.items()) for row in client.query_and_wait(query)]
        except NotFound:
            return []
        records = as_table(pa.Table.from_pylist(rows, TABLES[content].schema), content)
        return [Received(record_id_of(record), record) for record in records]

    @contextmanager
    def fault(self, fault: Fault, percent: float = 100.0) -> Iterator[None]:
        """A load makes about eight requests: of ten, the sixth is the one at fault, so that it meets it."""
        self._proxy.inject(fault, percent, counted=4)
        try:
            yield
        finally:
            self._proxy.inject(Fault.NONE)


class BigQueryWriteBench(BigQueryBench):
    """The same by the Storage Write API: rows that are sent again lie there again."""

    variant: ClassVar[str] = "storage_write"
    drops_repeats: ClassVar[bool] = False
    recountable: ClassVar[bool | None] = False
    faults: ClassVar[frozenset[Fault]] = frozenset({Fault.HANG, Fault.CUT_BEFORE})
    no_fault: ClassVar[str] = "the proxy of the Storage Write API knows connections only"

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        return {**super().options(stream, content), "method": "storage_write"}

    @contextmanager
    def fault(self, fault: Fault, percent: float = 100.0) -> Iterator[None]:
        """Of both APIs; of connections of the Storage Write API all are at fault."""
        self._writes.fault = TcpFault.HANG if fault is Fault.HANG else TcpFault.CUT
        try:
            with super().fault(fault, percent):
                yield
        finally:
            self._writes.fault = TcpFault.NONE


def _table(stream: str, content: str) -> str:
    return f"{stream}_{content}".replace("-", "_")
