"""Bench of ``warehouse``: tables in the output directory of the run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq

from tests.destinations.bench import Bench, Received
from tests.destinations.reading import as_table, record_id_of
from tests.servers.proxy import Fault


class WarehouseBench(Bench):
    """A table for each stream."""

    type: ClassVar[str] = "warehouse"
    packings: ClassVar[tuple[tuple[str, str], ...]] = (("ndjson", "table"),)
    drops_repeats: ClassVar[bool] = True
    no_fault: ClassVar[str] = "it is the run's own directory: a fault there fails the run"

    def __enter__(self) -> WarehouseBench:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        return {"type": "warehouse"}

    def received(self, stream: str, content: str = "events") -> list[Received]:
        parts = sorted(Path(self.output, "warehouse", f"streams_{stream}").rglob("*.parquet"))
        records = [record for part in parts for record in as_table(pq.ParquetFile(part).read(), content)]
        return [Received(record_id_of(record), record) for record in records]

    def fault(self, fault: Fault, percent: float = 100.0) -> AbstractContextManager[None]:
        raise AssertionError(f"{fault.name}: {self.no_fault}")
