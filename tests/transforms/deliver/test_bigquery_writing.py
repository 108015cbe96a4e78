"""BigQuery by the Storage Write API, on an emulator: row errors, offsets, connections that break."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.streams import Batch as BatchOptions
from tests.servers.bigquery import PROJECT, BigQuery, bigquery_emulator
from tests.servers.proxy import TcpFault, tcp_proxy
from tests.transforms.deliver.support import HOUR, WRITER, Stream, rows_of
from transforms.deliver.bigquery import BigQueryDestination, BigQueryOptions, writing
from transforms.deliver.bigquery.offsets import DIRECTORY
from transforms.deliver.destination import Outcome
from transforms.deliver.failures import FailureKind
from transforms.deliver.parts import Part
from transforms.deliver.push.options import Rate, Retry
from transforms.deliver.selection import Selection

_NUMBERS = itertools.count()
TOO_LONG = Decimal("9" * 28)
"""A cost that the emulator refuses: it keeps 20 digits before the point, BigQuery 38 or more."""


@pytest.fixture(scope="module")
def emulator() -> Iterator[BigQuery]:
    with bigquery_emulator() as running:
        running.create_dataset("iot")
        yield running


@pytest.fixture(autouse=True)
def environment(emulator: BigQuery, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(writing.EMULATOR, emulator.write_address)


def stream_of(content: str = "usage", size: int | None = None, **options: Any) -> Stream:
    destination = BigQueryOptions(
        project=PROJECT, dataset="iot", method="storage_write", retry=Retry(attempts=1), **options
    )
    return Stream(f"rows-{next(_NUMBERS)}", content, destination=destination, batch=BatchOptions(size=size))


def usage(*ids: int, **values: Any) -> pa.RecordBatch:
    return rows_of("usage", *({"usage_id": number, **values} for number in ids))


def run(stream: Stream, output: Path, rows: Sequence[pa.RecordBatch]) -> list[Outcome]:
    """A lane of parts in a process of its own, as far as the destination knows."""
    destination = BigQueryDestination(stream.destination)  # type: ignore[arg-type]
    destination.setup()
    parts = [Part(stream.name, stream.content, HOUR, number, WRITER, 0) for number in range(len(rows))]
    lane = zip(parts, map(Selection, rows), strict=True)
    outcomes = [outcome for _, outcome in destination.deliver_lane(lane, stream, str(output))]
    destination.close()
    return outcomes


def ids(emulator: BigQuery, stream: Stream) -> list[int]:
    table = stream.name.replace("-", "_")
    return [row[0] for row in emulator.rows(f"SELECT usage_id FROM `{PROJECT}.iot.{table}` ORDER BY usage_id")]


@pytest.mark.parametrize("content", ["events", "usage", "device_usage_hourly"])
def test_rows_arrive_value_by_value(content: str, emulator: BigQuery, tmp_path: Path) -> None:
    stream = stream_of(content)
    rows = rows_of(content, {}, {"organisation_id": None})
    (outcome,) = run(stream, tmp_path, [rows])
    assert (outcome.delivered, outcome.failure) == (2, None)
    names = ", ".join(f"`{name}`" for name in rows.schema.names)
    table = stream.name.replace("-", "_")
    found = emulator.rows(f"SELECT {names} FROM `{PROJECT}.iot.{table}` ORDER BY organisation_id DESC NULLS LAST")
    assert [dict(zip(rows.schema.names, row, strict=True)) for row in found] == rows.to_pylist()


def test_decimals_are_sent_as_bignumeric_and_whole_numbers_as_int64() -> None:
    rows = writing.arrow_of(usage(1, cost=Decimal("-0.0000000001")))
    kinds = {field.name: field.type for field in rows.schema}
    assert (kinds["cost"], kinds["volume_rx"], kinds["pane"]) == (
        pa.decimal256(76, 38), pa.decimal256(76, 38), pa.int64(),
    )  # fmt: skip
    assert rows.column("cost")[0].as_py() == Decimal("-0.0000000001")


@pytest.mark.parametrize("exactly_once", [False, True])
def test_refused_rows_are_dead_letters_and_the_others_arrive(
    exactly_once: bool, emulator: BigQuery, tmp_path: Path
) -> None:
    stream = stream_of(size=4, exactly_once=exactly_once)
    rows = [usage(1), usage(2, 3, cost=TOO_LONG), usage(4, 5, 6), usage(7, cost=TOO_LONG), usage(8)]
    outcomes = run(stream, tmp_path, rows)
    assert [(each.delivered, len(each.dead_letters)) for each in outcomes] == [(1, 0), (0, 2), (3, 0), (0, 1), (1, 0)]
    assert [letter.record_id for each in outcomes for letter in each.dead_letters] == [2, 3, 7]
    assert ids(emulator, stream) == [1, 4, 5, 6, 8]


def test_a_request_of_refused_rows_only(emulator: BigQuery, tmp_path: Path) -> None:
    stream = stream_of()
    (outcome,) = run(stream, tmp_path, [usage(1, 2, cost=TOO_LONG)])
    assert (outcome.delivered, len(outcome.dead_letters), outcome.failure) == (0, 2, None)
    assert ids(emulator, stream) == []


def test_the_default_stream_takes_what_is_sent_again(emulator: BigQuery, tmp_path: Path) -> None:
    stream = stream_of()
    for _ in range(2):
        run(stream, tmp_path, [usage(1, 2)])
    assert ids(emulator, stream) == [1, 1, 2, 2], "at least once: a receiver tells repeats by their ids"


@pytest.mark.parametrize("exactly_once", [False, True])
def test_a_rate_holds_from_one_delivery_to_the_next(exactly_once: bool, emulator: BigQuery, tmp_path: Path) -> None:
    stream = stream_of(exactly_once=exactly_once, rate=Rate(requests_per_second=0.01))
    destination = BigQueryDestination(stream.destination)  # type: ignore[arg-type]
    destination.setup()
    until = time.monotonic() + 60
    first, second = (
        [(Part(stream.name, "usage", HOUR, number, WRITER, 0), Selection(usage(number)))] for number in (1, 2)
    )
    ((_, outcome),) = destination.deliver_lane(first, stream, str(tmp_path), until)
    assert outcome.delivered == 1, outcome.failure
    # Its turn comes after the end of the time that there is.
    ((_, outcome),) = destination.deliver_lane(second, stream, str(tmp_path), until)
    assert outcome.failure is not None and "no time left" in outcome.failure.error
    assert ids(emulator, stream) == [1]
    destination.close()


def test_exactly_once_a_replay_in_another_process_doubles_nothing(emulator: BigQuery, tmp_path: Path) -> None:
    stream = stream_of(size=2, exactly_once=True)
    rows = [usage(1, 2, 3), usage(4, cost=TOO_LONG), usage(5, 6)]
    first = run(stream, tmp_path, rows)
    assert run(stream, tmp_path, rows) == first
    assert ids(emulator, stream) == [1, 2, 3, 5, 6]
    run(stream, tmp_path, [*rows, usage(7, 8)])
    assert ids(emulator, stream) == [1, 2, 3, 5, 6, 7, 8]


def test_exactly_once_a_kill_before_the_answer_is_healed(
    emulator: BigQuery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_of(size=2, exactly_once=True)
    append = writing.Appender.append
    calls = itertools.count()

    def killed(*arguments: Any) -> writing.Appended:
        answer = append(*arguments)
        if next(calls) == 1:
            raise KeyboardInterrupt
        return answer

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writing.Appender, "append", killed)
        run(stream, tmp_path, [usage(1, 2, 3, 4, 5)])
    assert ids(emulator, stream) == [1, 2, 3, 4]
    assert run(stream, tmp_path, [usage(1, 2, 3, 4, 5)])[0].delivered == 5
    assert ids(emulator, stream) == [1, 2, 3, 4, 5]


def test_exactly_once_a_write_stream_that_is_gone_is_made_anew(emulator: BigQuery, tmp_path: Path) -> None:
    stream = stream_of(exactly_once=True)
    run(stream, tmp_path, [usage(1)])
    (state,) = (tmp_path / DIRECTORY / stream.name).iterdir()
    content = json.loads(state.read_text())
    state.write_text(json.dumps({**content, "stream": content["stream"][:-4] + "gone", "places": []}))
    (outcome,) = run(stream, tmp_path, [usage(2)])
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.TRANSIENT
    assert run(stream, tmp_path, [usage(2)])[0].delivered == 1
    assert ids(emulator, stream) == [1, 2]


@pytest.mark.parametrize("fault", [TcpFault.HANG, TcpFault.REFUSE])
def test_connections_that_break_leave_rows_waiting(
    fault: TcpFault, emulator: BigQuery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_of(timeout=2)
    run(stream, tmp_path, [usage(1)])
    with tcp_proxy(int(emulator.write_address.rsplit(":", 1)[1])) as proxy, monkeypatch.context() as patch:
        patch.setenv(writing.EMULATOR, proxy.address)
        proxy.fault = fault
        (outcome,) = run(stream, tmp_path, [usage(2)])
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.delivered) == (FailureKind.TRANSIENT, 0)
    assert run(stream, tmp_path, [usage(2)])[0].delivered == 1
    assert ids(emulator, stream) == [1, 2]


def test_a_request_that_is_too_large_is_halved(
    emulator: BigQuery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_of()
    rows = usage(*range(8))
    size = writing.arrow_of(rows).serialize().size
    monkeypatch.setattr("transforms.deliver.bigquery.destination.MOST_BYTES", size - 1)
    (outcome,) = run(stream, tmp_path, [rows])
    assert (outcome.delivered, outcome.failure) == (8, None)
    assert ids(emulator, stream) == list(range(8))


def test_lanes_go_by_device() -> None:
    stream = stream_of(shards=4)
    destination = BigQueryDestination(stream.destination)  # type: ignore[arg-type]
    rows = rows_of("usage", *({"endpoint_id": number} for number in range(100)))
    lanes = destination.lanes(Part(stream.name, "usage", HOUR, 0, WRITER, 0), rows)
    assert set(np.unique(lanes)) == {0, 1, 2, 3}


def test_batches_that_are_too_large_are_a_mistake() -> None:
    assert BigQueryDestination.validate(stream_of(size=5_000)) == []
    assert BigQueryDestination.validate(stream_of(size=5_001)) == [
        "takes batches of 1 to 5,000 records: lower batch.size"
    ]
