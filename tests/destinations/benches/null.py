"""Bench of ``null``: nothing arrives anywhere."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, ClassVar

from tests.destinations.bench import Bench, Received
from tests.servers.proxy import Fault


class NullBench(Bench):
    """Records are gone: only the ledger can be looked at."""

    type: ClassVar[str] = "null"
    keeps: ClassVar[bool] = False
    no_fault: ClassVar[str] = "it has no target"

    def __enter__(self) -> NullBench:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        return {"type": "null"}

    def received(self, stream: str, content: str = "events") -> list[Received]:
        return []

    def fault(self, fault: Fault, percent: float = 100.0) -> AbstractContextManager[None]:
        raise AssertionError(f"{fault.name}: {self.no_fault}")
