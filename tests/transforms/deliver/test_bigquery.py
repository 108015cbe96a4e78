"""BigQuery by load jobs, on an emulator: what lies in the table, whatever happened before."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.tables import TABLES
from tests.servers.bigquery import PROJECT, BigQuery, bigquery_emulator
from tests.transforms.deliver.support import HOUR, WRITER, Stream, rows_of
from transforms.deliver.bigquery import BigQueryDestination, BigQueryOptions, loading
from transforms.deliver.bigquery.loading import day_of, parsed
from transforms.deliver.destination import Outcome
from transforms.deliver.failures import FailureKind
from transforms.deliver.parts import Part
from transforms.deliver.push.options import Retry
from transforms.deliver.selection import Selection

ONCE = Retry(attempts=1)
DAY = 86_400_000_000
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def emulator() -> Iterator[BigQuery]:
    with bigquery_emulator() as running:
        running.create_dataset("iot")
        yield running


@pytest.fixture(autouse=True)
def environment(emulator: BigQuery, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)


@dataclass
class Bench:
    """A stream with a table of its own, and what to do with it."""

    emulator: BigQuery
    output: str
    stream: Stream

    @property
    def table(self) -> str:
        return f"{PROJECT}.iot.{self.stream.name.replace('-', '_')}"

    def destination(self) -> BigQueryDestination:
        destination = BigQueryDestination(self.stream.destination)  # type: ignore[arg-type]
        destination.setup()
        return destination

    def run(self, rows: Sequence[pa.RecordBatch], writer: str = WRITER, waited: bool = False) -> list[Outcome]:
        """Delivers a lane of parts, one for each batch, and returns what became of each."""
        parts = [(self.part(number, writer, batch, waited), Selection(batch)) for number, batch in enumerate(rows)]
        destination = self.destination()
        outcomes = dict(destination.deliver_lane(parts, self.stream, self.output))
        destination.close()
        return [outcomes[part] for part, _ in parts]

    def part(self, number: int, writer: str, rows: pa.RecordBatch, waited: bool = False) -> Part:
        hour = rows.column("hour").cast(pa.int64())[0].as_py()
        return Part(self.stream.name, self.stream.content, hour, number, writer, 0, day_of(hour), waited=waited)

    def ids(self, writer: str = WRITER) -> list[int]:
        """Ids of a writer's rows in the table, with repeats."""
        query = f"SELECT usage_id FROM `{self.table}` WHERE writer = '{writer}' ORDER BY usage_id"
        return [number for (number,) in self.emulator.rows(query)]

    def jobs(self) -> list[str]:
        """Ids of the load jobs for the table."""
        listed = self.emulator.client().list_jobs(max_results=10_000)
        return sorted(
            job.job_id for job in listed if job.job_type == "load" and f"-{self.table.split('.')[2]}-" in job.job_id
        )


@pytest.fixture
def bench(emulator: BigQuery, tmp_path: Path) -> Bench:
    return made(emulator, tmp_path)


def made(emulator: BigQuery, output: Path, content: str = "usage", **options: Any) -> Bench:
    destination = BigQueryOptions(project=PROJECT, dataset="iot", retry=ONCE, **options)
    return Bench(emulator, str(output), Stream(f"table-{next(_NUMBERS)}", content, destination=destination))


def usage(*ids: int, writer: str = WRITER, hour: int = HOUR, **values: Any) -> pa.RecordBatch:
    return rows_of("usage", *({"usage_id": number, "writer": writer, "hour": hour, **values} for number in ids))


def test_a_day_is_one_load_with_the_rows_of_all_parts(bench: Bench) -> None:
    later = HOUR + 3_600_000_000
    outcomes = bench.run([usage(1, 2), usage(3, hour=later)])
    assert [(each.delivered, each.failure) for each in outcomes] == [(2, None), (1, None)]
    assert bench.ids() == [1, 2, 3]
    assert len(bench.jobs()) == 1
    ((file,), none) = (each.files for each in outcomes)
    assert none == []
    found = parsed(file.path)
    assert found is not None
    assert found[:3] == (bench.table, HOUR // DAY, WRITER)
    assert (file.row_count, file.checksum[:9]) == (3, "xxh3_128:")


def test_the_table_is_partitioned_clustered_and_exact(bench: Bench) -> None:
    bench.run([usage(1)])
    table = bench.emulator.client().get_table(bench.table)
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("DAY", "hour")
    assert table.clustering_fields == ["organisation_id", "endpoint_id"]
    kinds = {field.name: field.field_type for field in table.schema}
    assert [kinds[name] for name in ("cost", "volume_rx", "hour", "load_id")] == [
        "BIGNUMERIC", "BIGNUMERIC", "TIMESTAMP", "INTEGER",
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["events", "usage", "device_usage_hourly", "device_events_hourly"])
def test_every_content_arrives_value_by_value(content: str, emulator: BigQuery, tmp_path: Path) -> None:
    bench = made(emulator, tmp_path, content)
    rows = filled(content)
    (outcome,) = bench.run([rows])
    assert outcome.delivered == rows.num_rows
    names = rows.schema.names
    order = "ORDER BY pane"
    found = emulator.rows(f"SELECT {', '.join(f'`{name}`' for name in names)} FROM `{bench.table}` {order}")
    assert [dict(zip(names, row, strict=True)) for row in found] == rows.to_pylist()


def filled(content: str) -> pa.RecordBatch:
    """A row with a value in each column, and one with nothing but its hour, writer and pane."""
    values: dict[str, Any] = {}
    for number, field in enumerate(TABLES[content].schema):
        kind = field.type
        if pa.types.is_timestamp(kind):
            values[field.name] = HOUR + number
        elif pa.types.is_decimal(kind):
            # The emulator keeps 20 digits before the point; BigQuery all that ours have.
            values[field.name] = Decimal("-12345678901234567890." + "9" * kind.scale)
        elif pa.types.is_boolean(kind):
            values[field.name] = True
        elif pa.types.is_integer(kind):
            values[field.name] = 2 ** (kind.bit_width - 1) - 1 - number
        else:
            values[field.name] = f'{field.name}: "ü€\\n😀'
    whole = {**values, "hour": HOUR, "writer": WRITER, "pane": 0}
    return pa.RecordBatch.from_pylist([whole, {"hour": HOUR, "writer": WRITER, "pane": 1}], TABLES[content].schema)


def test_repetitions_load_nothing(bench: Bench) -> None:
    first = bench.run([usage(1, 2), usage(3)])
    assert bench.run([usage(1, 2), usage(3)]) == first
    assert bench.run([usage(1, 2, 3)])[0].files == first[0].files, "cut otherwise, the content is the same"
    assert bench.ids() == [1, 2, 3]
    assert len(bench.jobs()) == 1


def test_two_writers_of_a_day_leave_each_other_alone(bench: Bench) -> None:
    bench.run([usage(1, 2)])
    bench.run([usage(2, 3, writer="other")], "other")
    bench.run([usage(2)])
    assert (bench.ids(), bench.ids("other")) == ([2], [2, 3])
    bench.run([usage(4, writer="other")], "other")
    assert (bench.ids(), bench.ids("other")) == ([2], [4])


def test_days_are_replaced_apart(bench: Bench) -> None:
    bench.run([usage(1)])
    bench.run([usage(2, hour=HOUR + DAY)])
    bench.run([usage(3)])
    assert bench.ids() == [2, 3]


def test_changed_content_replaces_that_of_the_same_writer_and_can_come_back(bench: Bench) -> None:
    a, b = [usage(1, 2, 3)], [usage(2)]
    loaded_a = bench.run(a)
    loaded_b = bench.run(b)
    assert bench.ids() == [2]
    assert loaded_a[0].files[0].path != loaded_b[0].files[0].path
    assert bench.run(a) == loaded_a, "the job of a is known as done, yet its rows were gone"
    assert bench.ids() == [1, 2, 3]
    assert [name.rsplit("-", 1)[1] for name in bench.jobs()].count("1") == 1


def test_the_same_ids_with_other_values_are_other_content(bench: Bench) -> None:
    bench.run([usage(1, cost=Decimal("1.5"))])
    bench.run([usage(1, cost=Decimal("2.5"))])
    bench.run([usage(1, cost=Decimal("1.5"))])
    assert bench.emulator.rows(f"SELECT cost FROM `{bench.table}`") == [(Decimal("1.5"),)]


class Killed(BaseException):
    """The process ends here."""


def _killed(*_: object) -> None:
    raise Killed


def test_killed_when_the_old_rows_are_deleted_the_next_run_loads_the_new(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run([usage(1, 2)])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loading.Loader, "_load", _killed)
        bench.run([usage(2, 3)])
    assert bench.ids() == []
    assert bench.run([usage(2, 3)])[0].delivered == 2
    assert bench.ids() == [2, 3]


def test_killed_when_the_job_has_begun_the_next_run_does_not_load_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loading, "_ended", _killed)
        bench.run([usage(2, 3)])
    assert bench.run([usage(2, 3)])[0].delivered == 2
    assert bench.ids() == [2, 3]
    assert len(bench.jobs()) == 1


def test_a_job_that_another_attempt_began_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers have the same bundle: both look, see nothing, and start the same job."""
    bench.run([usage(1)])
    own = loading.Loader._own
    looks = iter([{}])
    with monkeypatch.context() as patch:
        patch.setattr(loading.Loader, "_own", lambda *arguments: next(looks, None) or own(*arguments))
        assert bench.run([usage(1)])[0].failure is None
    assert bench.ids() == [1]
    assert len(bench.jobs()) == 1


def test_a_job_that_failed_gives_way_to_the_next(bench: Bench) -> None:
    """A table that does not take the rows, until somebody mends it."""
    client = bench.emulator.client()
    bench.run([usage(1)])
    client.query_and_wait(f"DELETE FROM `{bench.table}` WHERE TRUE")
    client.query_and_wait(f"ALTER TABLE `{bench.table}` DROP COLUMN cost")
    client.query_and_wait(f"ALTER TABLE `{bench.table}` ADD COLUMN cost INT64")
    (outcome,) = bench.run([usage(5)])
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.MISCONFIGURED
    assert "column cost is INTEGER NULLABLE" in outcome.failure.error
    assert outcome.failure.remedy == "make it BIGNUMERIC NULLABLE, or name another table"


def test_a_refused_job_is_told_without_the_values_of_rows(bench: Bench, emulator: BigQuery) -> None:
    """The emulator keeps 20 digits before the point."""
    outcome, _ = bench.run([usage(1), usage(2, volume_rx=Decimal("9" * 32))])
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.MISCONFIGURED
    assert "load job data-streamer-iot-" in outcome.failure.error
    assert "999" not in outcome.failure.error
    assert bench.ids() == []
    bench.run([usage(1)])
    assert bench.ids() == [1]
