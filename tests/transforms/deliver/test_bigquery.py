"""BigQuery by load jobs, on an emulator: what lies in the table, whatever happened before."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import requests
from google.api_core.exceptions import NotFound, ServiceUnavailable
from pydantic import ValidationError

from schemas.tables import TABLES
from tests.servers.bigquery import PROJECT, BigQuery, bigquery_emulator
from tests.servers.proxy import Fault, http_proxy
from tests.servers.storage import storage_emulator
from tests.transforms.deliver.support import HOUR, WRITER, Stream, rows_of
from transforms.deliver.bigquery import BigQueryDestination, BigQueryOptions, content, errors, loading
from transforms.deliver.bigquery.loading import day_of, parsed
from transforms.deliver.destination import Outcome
from transforms.deliver.failures import FailureKind, MissingExtraError
from transforms.deliver.parts import Part
from transforms.deliver.push.options import Retry
from transforms.deliver.selection import Selection
from transforms.ledger.commit import commit_files
from transforms.ledger.counts import FileEntry
from transforms.run import Run

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


@pytest.mark.parametrize("carried", ["events", "usage", "device_usage_hourly", "device_events_hourly"])
def test_every_content_arrives_value_by_value(carried: str, emulator: BigQuery, tmp_path: Path) -> None:
    bench = made(emulator, tmp_path, carried)
    rows = filled(carried)
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
        patch.setattr(loading.Loader, "_ended", _killed)
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


def test_a_part_by_itself_is_put_beside_what_is_there(bench: Bench) -> None:
    bench.run([usage(1)])
    destination = bench.destination()
    rows = usage(2)
    for _ in range(2):
        outcome = destination.deliver(bench.part(0, WRITER, rows), Selection(rows), bench.stream, bench.output)
        assert (outcome.delivered, outcome.failure) == (1, None)
    destination.close()
    assert bench.ids() == [1, 2]


def committed(bench: Bench, *outcomes: Outcome) -> None:
    """The ledger lists the loads of these outcomes, and nothing else."""
    files = [file for outcome in outcomes for file in outcome.files]
    listed = [
        FileEntry(f"streams/{bench.stream.name}", HOUR, file.path, file.row_count or 0, file.bytes, file.checksum)
        for file in files
    ]
    commit_files(Run(bench.output, WRITER), listed)


def test_what_waited_is_put_beside_the_loads_that_the_ledger_lists(bench: Bench) -> None:
    first = bench.run([usage(1)])
    committed(bench, *first)
    second = bench.run([usage(2), usage(3)], waited=True)
    assert bench.ids() == [1, 2, 3]
    assert bench.run([usage(2), usage(3)], waited=True) == second, "killed before it was settled, and delivered again"
    bench.run([usage(2)], waited=True)
    assert bench.ids() == [1, 2], "the load of both is not listed, and counts no more"
    assert [each.delivered for each in bench.run([usage(4)])] == [1]
    assert bench.ids() == [4], "a run brings all that its writer has"


def test_what_waited_replaces_what_a_run_before_the_last_delivered(bench: Bench) -> None:
    bench.run([usage(1, 2)])
    committed(bench)
    bench.run([usage(2)], waited=True)
    assert bench.ids() == [2]


def test_what_several_writers_left_is_loaded_for_each(bench: Bench) -> None:
    rows = [usage(1), usage(2, writer="other"), usage(3)]
    parts = [bench.part(n, writer, rows[n], waited=True) for n, writer in enumerate((WRITER, "other", WRITER))]
    destination = bench.destination()
    lane = zip(parts, map(Selection, rows), strict=True)
    outcomes = dict(destination.deliver_lane(lane, bench.stream, bench.output))
    destination.close()
    assert {part: (each.delivered, len(each.files)) for part, each in outcomes.items()} == {
        parts[0]: (1, 1), parts[1]: (1, 1), parts[2]: (1, 0),
    }  # fmt: skip
    assert (bench.ids(), bench.ids("other")) == ([1, 3], [2])


def test_what_waits_of_another_content_is_not_put_into_the_table(bench: Bench) -> None:
    rows = rows_of("events", {})
    part = Part(bench.stream.name, "events", HOUR, 0, WRITER, 0, HOUR // DAY, waited=True)
    destination = bench.destination()
    ((_, outcome),) = destination.deliver_lane([(part, Selection(rows))], bench.stream, bench.output)
    destination.close()
    assert outcome.failure is not None
    assert "carries usage now, but events wait for it" in outcome.failure.error


def test_rows_of_days_that_a_writer_has_no_more_are_swept(bench: Bench) -> None:
    first = bench.run([usage(1), usage(9, hour=HOUR + 1)])
    gone = bench.run([usage(2, hour=HOUR + DAY)])
    bench.run([usage(3, hour=HOUR + DAY, writer="other")], "other")
    before = [file.path for outcome in (*first, *gone) for file in outcome.files]
    destination = bench.destination()
    assert destination.sweep(bench.stream, bench.output, WRITER, before[:1], before) is None
    assert destination.recount(before) == {before[0]: 2, before[1]: 0}
    destination.close()
    assert (bench.ids(), bench.ids("other")) == ([1, 9], [3])


def test_rows_that_cannot_be_swept_are_noted_for_the_next_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (outcome,) = bench.run([usage(1)])
    path = outcome.files[0].path
    with http_proxy(bench.emulator.address) as proxy:
        proxy.inject(Fault.UNAVAILABLE)
        with monkeypatch.context() as patch:
            patch.setenv("BIGQUERY_EMULATOR_HOST", proxy.address)
            destination = bench.destination()
            failure = destination.sweep(bench.stream, bench.output, WRITER, (), [path])
            destination.close()
    assert failure is not None
    assert failure.kind is FailureKind.TRANSIENT
    assert bench.ids() == [1]
    destination = bench.destination()
    assert destination.sweep(bench.stream, bench.output, WRITER, (), ()) is None
    destination.close()
    assert bench.ids() == []
    assert list(Path(bench.output).rglob("old-*")) == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.ERROR, FailureKind.TRANSIENT),
        (Fault.THROTTLED, FailureKind.TRANSIENT),
        (Fault.FORBIDDEN, FailureKind.MISCONFIGURED),
        (Fault.NOT_FOUND, FailureKind.MISCONFIGURED),
        (Fault.HANG, FailureKind.TRANSIENT),
        (Fault.CUT_BEFORE, FailureKind.TRANSIENT),
        (Fault.CUT_AFTER, FailureKind.TRANSIENT),
    ],
)
def test_faults_have_their_kind_and_lose_nothing(
    fault: Fault, kind: FailureKind, emulator: BigQuery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While jobs are started; what looks at the table before that is let through."""
    bench = made(emulator, tmp_path, timeout=2)
    with http_proxy(emulator.address) as proxy, monkeypatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", proxy.address)
        proxy.inject(fault, only=lambda method, path: path.startswith("/upload/"))
        (outcome,) = bench.run([usage(1, 2)])
        assert proxy.faults == 1
        assert outcome.failure is not None
        assert (outcome.failure.kind, outcome.delivered) == (kind, 0)
        assert outcome.failure.retry_after == (1.0 if fault is Fault.THROTTLED else None)
    (outcome,) = bench.run([usage(1, 2)])
    assert outcome.delivered == 2
    assert bench.ids() == [1, 2]


@pytest.mark.parametrize(("given", "least", "most"), [("7", 7, 7), ("date", 90, 100), ("soon", 0, 0), (None, 0, 0)])
def test_bigquery_may_ask_to_wait_for_seconds_or_until_a_date(given: str | None, least: float, most: float) -> None:
    response = requests.Response()
    response.status_code = 503
    if given is not None:
        date = formatdate(time.time() + 100, usegmt=True)
        response.headers["Retry-After"] = date if given == "date" else given
    failure = errors.of_error("BigQuery", ServiceUnavailable("busy", response=response))
    assert failure.kind is FailureKind.TRANSIENT and least <= (failure.retry_after or 0) <= most


@pytest.mark.parametrize("fault", [Fault.CUT_AFTER, Fault.ERROR, Fault.THROTTLED])
def test_transient_faults_are_tried_again(
    fault: Fault, emulator: BigQuery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = made(emulator, tmp_path)
    options = bench.stream.destination.model_copy(update={"retry": Retry(attempts=20, seconds=120)})
    bench.stream = dataclasses.replace(bench.stream, destination=options)
    with http_proxy(emulator.address) as proxy, monkeypatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", proxy.address)
        proxy.inject(fault, 15)
        assert bench.run([usage(1, 2)])[0].delivered == 2
        assert proxy.faults > 0
    assert bench.ids() == [1, 2]


def test_without_time_left_nothing_is_tried(bench: Bench) -> None:
    rows = usage(1)
    destination = bench.destination()
    lane = destination.deliver_lane(
        [(bench.part(0, WRITER, rows), Selection(rows))], bench.stream, bench.output, time.monotonic() - 1
    )
    ((_, outcome),) = lane
    destination.close()
    assert outcome.failure is not None
    assert outcome.failure.error == "there was no time left to deliver"
    assert bench.jobs() == []


def test_a_table_gets_the_columns_that_it_lacks(bench: Bench) -> None:
    client = bench.emulator.client()
    client.query_and_wait(f"CREATE TABLE `{bench.table}` (hour TIMESTAMP, usage_id INT64, writer STRING, mine STRING)")
    client.query_and_wait(f"INSERT INTO `{bench.table}` (mine) VALUES ('kept')")
    (outcome,) = bench.run([usage(1)])
    assert outcome.delivered == 1
    names = [field.name for field in client.get_table(bench.table).schema]
    assert names[:4] == ["hour", "usage_id", "writer", "mine"]
    assert set(TABLES["usage"].schema.names) < set(names)
    assert bench.emulator.rows(f"SELECT mine, cost FROM `{bench.table}` WHERE usage_id IS NULL") == [("kept", None)]


def test_without_create_nothing_is_made(emulator: BigQuery, tmp_path: Path) -> None:
    bench = made(emulator, tmp_path, create=False)
    (outcome,) = bench.run([usage(1)])
    assert outcome.failure is not None
    assert outcome.failure.error == f"BigQuery table {bench.table} is missing"
    client = emulator.client()
    client.query_and_wait(f"CREATE TABLE `{bench.table}` (hour TIMESTAMP, usage_id INT64, writer STRING)")
    (outcome,) = bench.run([usage(1)])
    assert outcome.failure is not None
    assert "lacks columns: start_time, end_time" in outcome.failure.error
    assert len(client.get_table(bench.table).schema) == 3


def test_the_preflight_looks_and_changes_nothing(emulator: BigQuery, tmp_path: Path) -> None:
    bench = made(emulator, tmp_path)
    destination = bench.destination()
    assert destination.preflight(bench.stream, bench.output) is None
    destination.close()
    with pytest.raises(NotFound):
        emulator.client().get_table(bench.table)
    options = BigQueryOptions(project=PROJECT, dataset="nowhere", retry=ONCE)
    bench.stream = dataclasses.replace(bench.stream, destination=options)
    destination = bench.destination()
    failure = destination.preflight(bench.stream, bench.output)
    destination.close()
    assert failure is not None
    assert failure.kind is FailureKind.MISCONFIGURED
    assert "notFound 404" in failure.error
    assert failure.remedy.startswith("create the dataset")


def test_files_may_be_staged_in_cloud_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with storage_emulator("staging") as store, bigquery_emulator(store.environment) as emulator:
        emulator.create_dataset("iot")
        for name, value in {**store.environment, **emulator.environment}.items():
            monkeypatch.setenv(name, value)
        bench = made(emulator, tmp_path, staging="gs://staging/loads")
        assert bench.run([usage(1, 2)])[0].delivered == 2
        assert bench.ids() == [1, 2]
        assert store.objects() == {}


def test_rows_of_the_other_method_are_replaced_by_a_run_and_stay_beside_what_waited(bench: Bench) -> None:
    loaded = bench.run([usage(1)])
    table = f"`{bench.table}`"
    written = f"INSERT INTO {table} (hour, usage_id, writer) SELECT hour, usage_id + 10, writer FROM {table}"
    bench.emulator.client().query_and_wait(written)
    committed(bench, *loaded)
    bench.run([usage(2)], waited=True)
    assert bench.ids() == [1, 2, 11]
    destination = bench.destination()
    assert destination.sweep(bench.stream, bench.output, WRITER, (), [loaded[0].files[0].path]) is None
    destination.close()
    assert bench.ids() == [11]
    bench.run([usage(3)])
    assert bench.ids() == [3]


def test_without_the_extra_it_says_what_to_install(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery", None)
    monkeypatch.delattr("google.cloud.bigquery")
    with pytest.raises(MissingExtraError, match=r"google-cloud-bigquery is not installed.*\[gcp\]"):
        bench.destination()


def test_a_sample_is_loaded_and_deleted_again(bench: Bench) -> None:
    rows = usage(1, writer="test")
    destination = bench.destination()
    answer = destination.try_out(bench.part(0, "test", rows), rows, bench.stream, bench.output)
    destination.close()
    assert answer.failure is None
    assert answer.said == f"loaded 1 row into {bench.table}, and deleted it"
    assert bench.ids("test") == []


def test_large_days_are_written_by_row_groups(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "ROW_GROUP", 100)
    groups: list[int] = []
    write = pyarrow.parquet.ParquetWriter.write_batch
    monkeypatch.setattr(
        pyarrow.parquet.ParquetWriter,
        "write_batch",
        lambda self, batch: (groups.append(batch.num_rows), write(self, batch))[1],
    )
    outcomes = bench.run([usage(*range(130)), usage(*range(130, 250))])
    assert [each.delivered for each in outcomes] == [130, 120]
    assert groups == [100, 100, 50]
    assert bench.ids() == list(range(250))


@pytest.mark.parametrize(
    ("given", "mistake"),
    [
        ({"exactly_once": True}, "exactly_once: is for method storage_write"),
        ({"shards": 2}, "shards: is for method storage_write"),
        ({"method": "storage_write", "staging": "gs://b"}, "staging: is for method load"),
        ({"table": "a.b"}, "table: "),
        ({"project": "a`; DROP"}, "project: "),
    ],
)
def test_mistakes_in_options(given: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValidationError) as raised:
        BigQueryOptions(**{"project": PROJECT, "dataset": "iot", **given})
    assert any(
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}".startswith(mistake) for each in raised.value.errors()
    )


def test_mistakes_of_streams(emulator: BigQuery, tmp_path: Path) -> None:
    stream = made(emulator, tmp_path).stream
    assert BigQueryDestination.validate(stream) == []
    wrong = dataclasses.replace(stream, shape="emnify")
    assert BigQueryDestination.validate(wrong) == [
        "takes the columns of the stream's table, not shape emnify: leave shape out"
    ]
    other = dataclasses.replace(stream, destination=stream.destination.model_copy(update={"table": stream.name}))
    dashed = dataclasses.replace(stream, name="a-b")
    assert BigQueryDestination.place(dashed) == f"bigquery://{PROJECT}.iot.a_b"
    assert BigQueryDestination.place(other) == f"bigquery://{PROJECT}.iot.{stream.name}"
