"""What the contract suite needs of each destination type: a bench, which knows its server."""

from __future__ import annotations

import abc
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from tests.servers.proxy import Fault


@dataclass(frozen=True, slots=True)
class Received:
    """One record as it lies at the destination, or arrived there.

    Attributes:
      record_id: event_id or usage_id.
      record: the record as JSON values, in the stream's shape; typed formats (Parquet, tables) give the same values as
        shape ``table`` in ndjson: decimals and times as text.
      delivery_id: the delivery id that came with it, where the destination carries one.
      key: partition or ordering key, where there is one.
    """

    record_id: int
    record: dict[str, Any]
    delivery_id: str | None = None
    key: str | None = None


class Bench(abc.ABC):
    """A destination type with its server running: context manager, in use for one test at a time.

    Subclasses skip, by name, where their server cannot be had.

    Attributes:
      type: the destination type.
      packings: (format, shape) pairs that a stream to it can have, to be tested.
      drops_repeats: whether what is sent twice lies there once (files, tables): `received` then has no repeats.
      faults: faults that can be made.
      environment: environment variables that the job needs to find the server, and its secrets.
    """

    type: ClassVar[str]
    packings: ClassVar[tuple[tuple[str, str], ...]] = (("ndjson", "table"), ("ndjson", "emnify"))
    drops_repeats: ClassVar[bool] = False
    faults: ClassVar[frozenset[Fault]] = frozenset()
    environment: dict[str, str]

    @abc.abstractmethod
    def __enter__(self) -> Bench: ...

    @abc.abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abc.abstractmethod
    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        """Options of a destination with a target of its own (topic, table, prefix), which is made."""

    @abc.abstractmethod
    def received(self, stream: str, content: str = "events") -> list[Received]:
        """Everything that has arrived for a stream so far, in the order in which it did within each key."""

    @abc.abstractmethod
    def fault(self, fault: Fault) -> AbstractContextManager[None]:
        """While it is open, the server is at fault in this way."""

    def command_options(self) -> list[str]:
        """Beam options that the job needs to find the server."""
        return []
