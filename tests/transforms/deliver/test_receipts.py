"""Receipts of destinations: whatever they answer, every record is accounted for once.

Tests with the fixture `stream` run over every registered type that needs no server; tests/destinations is for all.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest

from schemas.destinations import DestinationOptions
from tests.transforms.deliver.support import Stream, part_of, rows_of
from transforms.dead_letters import DeadLetter
from transforms.deliver import registry, spool
from transforms.deliver.destination import Destination, Kind, Outcome, Receipt, StreamDefinition
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.null import NullOptions
from transforms.deliver.parts import Part

BUSY = Failure(FailureKind.TRANSIENT, "the receiver answers 503", "wait, then deliver what is pending")


class Scripted(Destination[DestinationOptions]):
    """Answers what it is told to."""

    options_model: ClassVar[type[DestinationOptions]] = NullOptions
    kind: ClassVar[Kind] = Kind.PUSHED
    recountable: ClassVar[bool] = False

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(NullOptions(type="null"))
        self.outcome = outcome

    def deliver(self, part: Part, rows: pa.RecordBatch, stream: StreamDefinition, output: str) -> Outcome:
        return self.outcome


NO_SERVER = sorted(
    name
    for name, destination in registry.DESTINATIONS.items()
    if not any(field.is_required() for field in destination.options_model.model_fields.values())
)


@pytest.fixture(params=NO_SERVER)
def stream(request: pytest.FixtureRequest) -> Stream:
    """A stream to each type whose options are all optional."""
    return Stream(destination=registry.DESTINATIONS[request.param].options_model())


def store(stream: Stream, output: Path, rows: pa.RecordBatch) -> Receipt:
    destination = registry.DESTINATIONS[stream.destination.type](stream.destination)
    destination.setup()
    receipt = destination.store(part_of(stream.name, stream.content), rows, stream, str(output))
    destination.close()
    return receipt


def test_every_type_takes_each_row_once_and_the_same_part_again(stream: Stream, tmp_path: Path) -> None:
    rows = rows_of("usage", {"usage_id": 1}, {"usage_id": 2}, {"usage_id": 3})
    first = store(stream, tmp_path, rows)
    assert (first.delivered, first.pending, first.dead_letters, first.error) == (3, 0, [], None)
    files = sorted(tmp_path.rglob("*"))
    assert store(stream, tmp_path, rows) == first
    assert sorted(tmp_path.rglob("*")) == files


def test_no_type_is_reached_by_a_paused_stream(stream: Stream, tmp_path: Path) -> None:
    receipt = store(dataclasses.replace(stream, state="paused"), tmp_path, rows_of("usage", {}, {}))
    assert (receipt.delivered, receipt.pending, receipt.files, receipt.error) == (0, 2, [], None)
    assert [path.name for path in tmp_path.iterdir()] == ["pending"]


def test_no_type_takes_nothing_for_something(stream: Stream, tmp_path: Path) -> None:
    assert store(stream, tmp_path, rows_of("usage")) == Receipt()
    assert list(tmp_path.iterdir()) == []


def refused() -> DeadLetter:
    return DeadLetter("delivery", 1, "delivery_rejected", "too old", b"{}", "usage.ndjson", 0, 0)


def test_what_a_destination_took_before_it_failed_is_not_spooled(tmp_path: Path) -> None:
    rows = rows_of("usage", {"usage_id": 1}, {"usage_id": 2}, {"usage_id": 3}, {"usage_id": 4})
    outcome = Outcome(delivered=1, dead_letters=[refused()], failure=BUSY, rest=rows.slice(2))
    receipt = Scripted(outcome).store(part_of(), rows, Stream(), str(tmp_path))
    assert (receipt.delivered, receipt.pending, len(receipt.dead_letters)) == (1, 2, 1)
    assert (receipt.error, receipt.remedy) == (BUSY.error, BUSY.remedy)
    _, waiting = spool.take(str(tmp_path), part_of())
    assert waiting.column("usage_id").to_pylist() == [3, 4]


def test_without_a_rest_all_rows_wait(tmp_path: Path) -> None:
    receipt = Scripted(Outcome(failure=BUSY)).store(part_of(), rows_of("usage", {}, {}), Stream(), str(tmp_path))
    assert (receipt.delivered, receipt.pending) == (0, 2)


def test_refused_records_are_dead_letters_and_no_failure(tmp_path: Path) -> None:
    outcome = Outcome(delivered=1, dead_letters=[refused()])
    receipt = Scripted(outcome).store(part_of(), rows_of("usage", {}, {}), Stream(), str(tmp_path))
    assert (receipt.delivered, receipt.pending, len(receipt.dead_letters), receipt.error) == (1, 0, 1, None)


def test_a_destination_that_loses_count_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="archive lost count: of 2 rows 1 delivered"):
        Scripted(Outcome(delivered=1)).store(part_of(), rows_of("usage", {}, {}), Stream(), str(tmp_path))


def test_shards_wait_apart(tmp_path: Path) -> None:
    for shard in (1, 0):
        part = Part("archive", "usage", part_of().hour, 0, "w", 0, shard)
        Scripted(Outcome(failure=BUSY)).store(part, rows_of("usage", {}), Stream(), str(tmp_path))
    assert [part.shard for part in spool.waiting(str(tmp_path))["archive"]] == [0, 1]
