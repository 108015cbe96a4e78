from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from schemas.tables import TABLES
from tests.warehouse.synthetic_output import METER
from warehouse.derived_views import DERIVED_VIEWS
from warehouse.layout import WarehouseError, part_files
from warehouse.queries import QUERIES
from warehouse.views import connect, create_views, duckdb_type

ALL_VIEWS = [*TABLES, *(view.name for view in DERIVED_VIEWS)]


@pytest.mark.parametrize("name", TABLES)
def test_column_names_and_types_are_those_of_the_table(output: Path, name: str) -> None:
    with connect(output) as connection:
        described = connection.execute(f"DESCRIBE {name}").fetchall()
    expected = [(field.name, duckdb_type(field.type).replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"))
                for field in TABLES[name].schema]  # fmt: skip
    assert [row[:2] for row in described] == expected


@pytest.mark.parametrize("name", ALL_VIEWS)
def test_every_view_works_on_a_feed_without_records(empty_output: Path, name: str) -> None:
    with connect(empty_output) as connection:
        connection.execute(f"FROM {name}").fetchall()


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_read_by_the_default_settings_of_duckdb_and_pyarrow(output: Path, name: str) -> None:
    folder = output / "warehouse" / name
    rows = ds.dataset(folder, format="parquet", partitioning=None).count_rows()
    assert rows == sum(pq.read_metadata(part).num_rows for part in part_files(output, name))
    assert ds.dataset(folder, format="parquet").count_rows() == rows
    with duckdb.connect() as connection:
        assert connection.sql(f"SELECT count(*) FROM '{folder}/**/*.parquet'").fetchall() == [(rows,)]


def test_a_column_that_an_older_part_lacks_is_null(output: Path) -> None:
    part = next(path for path in part_files(output, "usage") if "hh=10" in str(path))
    table = pq.read_table(part, partitioning=None)
    pq.write_table(table.drop_columns(["rat", "ratezone_name"]), part)
    with connect(output) as connection:
        hours = connection.execute("SELECT DISTINCT ratezone_name FROM usage ORDER BY ALL NULLS FIRST").fetchall()
    assert hours == [(None,), ("Zone 1",)]


def test_a_table_without_any_part_is_an_empty_view(output: Path) -> None:
    shutil.rmtree(output / "warehouse" / "inputs")
    create_views(output)
    with connect(output) as connection:
        assert connection.execute("FROM inputs").fetchall() == []
        assert [column[0] for column in connection.description or ()] == TABLES["inputs"].schema.names


def test_temporary_files_are_not_read(output: Path) -> None:
    part = part_files(output, "events")[0]
    shutil.copy(part, part.with_name(".tmp-1-part-x-0-0.parquet"))
    with connect(output) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (12,)


@pytest.mark.parametrize("name", ["moved", "it's, [odd] *and? long"])
def test_views_survive_moving_the_directory(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    create_views(output)
    moved = output.rename(tmp_path / name)
    with connect(moved) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (12,)
    monkeypatch.chdir(moved)
    with duckdb.connect("warehouse.duckdb", read_only=True) as plain:
        for sql in QUERIES.values():
            plain.execute(sql).fetchall()
        assert plain.execute("SELECT count(*) FROM events").fetchone() == (12,)


def test_the_views_file_opens_from_elsewhere_with_a_search_path(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_views(output)
    moved = output.rename(tmp_path / "moved")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with duckdb.connect(str(moved / "warehouse.duckdb"), read_only=True) as plain:
        plain.execute(f"SET file_search_path = '{moved}'")
        assert plain.execute("SELECT count(*) FROM usage").fetchone() == (5,)


def test_views_are_created_where_the_path_holds_a_comma(output: Path, tmp_path: Path) -> None:
    moved = output.rename(tmp_path / "a, b")
    assert create_views(moved) == moved / "warehouse.duckdb"
    assert create_views(moved).stat().st_size > 0, "a second time replaces the first"
    assert [path.name for path in moved.glob(".tmp-*")] == []


def test_the_connection_works_while_the_views_file_is_open_elsewhere(output: Path) -> None:
    path = create_views(output)
    with duckdb.connect(str(path)), connect(output) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (12,)


def test_partial_sums_of_several_writers_are_combined(output: Path) -> None:
    part = next(path for path in part_files(output, "device_usage_hourly") if "hh=10" in str(path))
    rows = pq.read_table(part, partitioning=None).to_pylist()
    late = [{**row, "writer": "z", "endpoint_name": "renamed"} for row in rows if row["endpoint_id"] == METER]
    schema = TABLES["device_usage_hourly"].schema
    pq.write_table(pa.Table.from_pylist(late, schema=schema), part.with_name("part-z-0-0.parquet"))
    with connect(output) as connection:
        found = connection.execute(
            f"SELECT endpoint_name, volume_total, cost, records FROM device_usage WHERE endpoint_id = {METER}"
        ).fetchall()
    assert found == [("renamed", 2 * Decimal("4.000001"), 2 * Decimal("0.0300000001"), 4)]


def test_limits_tell_what_was_used_until_then(output: Path) -> None:
    with connect(output) as connection:
        rows = connection.execute(
            "SELECT limit_passed, used_percent, quota_left, used_this_month, unit "
            "FROM limits_reached ORDER BY event_time"
        ).fetchall()
    used = Decimal("4.000001")
    assert rows == [
        ("quota_threshold", 80, Decimal("1.5"), used, "MB"),
        ("quota_exhausted", 100, Decimal("-0.0012"), used, "MB"),
    ]


def test_hours_are_final_when_all_writers_closed_them_and_nothing_waits(output: Path) -> None:
    part = part_files(output, "ledger")[0]
    rows = pq.read_table(part, partitioning=None).to_pylist()
    first = next(row for row in rows if row["stage"] == "cell" and row["feed"] == "events")
    other = {**first, "writer": "live", "final": False}
    waiting = next(row for row in rows if row["stage"] == "stream" and row["hour"] != first["hour"])
    waiting.update(pending=1, delivered=waiting["delivered"] - 1)
    pq.write_table(pa.Table.from_pylist([*rows, other], schema=TABLES["ledger"].schema), part)
    with connect(output) as connection:
        final = dict(connection.execute("SELECT hour, final FROM final_hours WHERE feed = 'events'").fetchall())
    assert not final[first["hour"]], "another writer has not closed it"
    assert not final[waiting["hour"]], "a record is pending"
    assert sum(final.values()) == 1


@pytest.mark.parametrize("name", ["nothing", "output/streams"])
def test_a_directory_without_a_warehouse_is_refused(output: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(WarehouseError, match="expected an output directory"):
        connect(tmp_path / name)
    with pytest.raises(WarehouseError, match="expected an output directory"):
        create_views(tmp_path / name)


def test_every_view_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "warehouse.md").read_text()
    assert [name for name in ALL_VIEWS if f"`{name}`" not in page] == []
