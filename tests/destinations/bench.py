"""What the contract suite needs of each destination type: a bench, which knows its server."""

from __future__ import annotations

import abc
import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

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
      variant: what it does otherwise than the type's first bench, where a type has several; that has none.
      packings: (format, shape) pairs that a stream to it can have, to be tested.
      contents: contents that a stream to it can have, to be tested.
      drops_repeats: whether what is sent twice lies there once (files, tables): `received` then has no repeats.
      keeps: whether what is delivered can be looked at; otherwise `received` is always empty.
      batches: whether a stream to it can say how many records a request has, where its type pushes.
      attempt: seconds that one attempt may take on a busy machine, where that is long: retries get them on top.
      ordered: whether records arrive in order within a device; None: where they come with a key.
      faults: faults that can be made.
      no_fault: why the others cannot.
      recountable: whether `audit` counts again what lies there; None: as the type says.
      environment: environment variables that the job needs to find the server, and its secrets.
      output: the output directory of the run, for what lies within it; set by whoever uses the bench.
    """

    type: ClassVar[str]
    variant: ClassVar[str] = ""
    packings: ClassVar[tuple[tuple[str, str], ...]] = (("ndjson", "table"), ("ndjson", "emnify"))
    contents: ClassVar[tuple[str, ...]] = ("events", "usage")
    drops_repeats: ClassVar[bool] = False
    keeps: ClassVar[bool] = True
    batches: ClassVar[bool] = True
    attempt: ClassVar[float] = 0.0
    ordered: ClassVar[bool | None] = None
    faults: ClassVar[frozenset[Fault]] = frozenset()
    no_fault: ClassVar[str] = "its server cannot be made to"
    recountable: ClassVar[bool | None] = None
    environment: Mapping[str, str] = {}
    output: str = ""

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
    def fault(self, fault: Fault, percent: float = 100.0) -> AbstractContextManager[None]:
        """While it is open, the server is at fault in this way, for so many of the requests."""

    def command_options(self) -> list[str]:
        """Beam options that the job needs to find the server."""
        return []


def bench_of(kind: str) -> Bench:
    """The bench of a destination type, or of ``<type>:<variant>``, from ``benches/<type>.py``; it is not opened yet.

    Raises:
      LookupError: the type has none.
    """
    kind, _, variant = kind.partition(":")
    if not (Path(__file__).parent / "benches" / f"{kind}.py").exists():
        raise LookupError(f"destination type {kind} has no bench: write tests/destinations/benches/{kind}.py")
    module = importlib.import_module(f"tests.destinations.benches.{kind}")
    for found in vars(module).values():
        ours = isinstance(found, type) and issubclass(found, Bench) and getattr(found, "type", None) == kind
        if ours and found.variant == variant:
            return found()
    wanted = f"type is {kind}" + (f", and its variant {variant}" if variant else "")
    raise LookupError(f"tests/destinations/benches/{kind}.py has no subclass of Bench whose {wanted}")


class Benches:
    """Benches that are opened when first asked for, and closed together; their environment holds only while in use."""

    def __init__(self) -> None:
        self._open: dict[str, Bench] = {}
        self._skipped: dict[str, str] = {}

    @contextmanager
    def use(self, kind: str) -> Iterator[Bench]:
        """A bench with its environment set. Skips, by name, where its server cannot be had."""
        if kind in self._skipped:
            pytest.skip(self._skipped[kind])
        if kind not in self._open:
            bench = bench_of(kind)
            try:
                bench.__enter__()
            except pytest.skip.Exception as skipped:
                self._skipped[kind] = str(skipped)
                raise
            self._open[kind] = bench
        bench = self._open[kind]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in bench.environment.items():
                patch.setenv(name, value)
            yield bench

    def close(self) -> None:
        """Close all that were opened."""
        while self._open:
            self._open.popitem()[1].__exit__(None, None, None)


def secrets_of(options: Any, environment: Mapping[str, str]) -> list[str]:
    """The secrets that options refer to, and the parts of those that are connection strings."""
    if isinstance(options, Mapping):
        own = [environment[options["env"]]] if set(options) == {"env"} else []
        nested = [secret for value in options.values() for secret in secrets_of(value, environment)]
        return [part for text in own for part in {text, *re.split(r"[;=\s]", text)} if len(part) >= 16] + nested
    if isinstance(options, list | tuple):
        return [secret for value in options for secret in secrets_of(value, environment)]
    return []
