"""How rows are packed: the same rows give the same bytes, and every reader gets the same values back."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import fastavro
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.streams import SHAPES as DECLARED
from schemas.tables import STREAM_CONTENTS, TABLES
from tests.transforms.deliver.support import rows_of
from transforms.deliver import formats
from transforms.deliver.selection import LINES_AT_ONCE
from transforms.deliver.shapes import SHAPES
from transforms.deliver.shapes.columns import EVENT_COLUMNS, USAGE_COLUMNS

COST = Decimal("0.0018851200")
START = datetime(2026, 10, 1, tzinfo=UTC)
PAIRS = [
    (form, shape, content)
    for form in formats.FORMATS
    for shape in SHAPES
    for content in STREAM_CONTENTS
    if formats.check(form, shape, content) is None
]


@pytest.mark.parametrize(("form", "shape", "content"), [pair for pair in PAIRS if pair[2] != "device_events_hourly"])
def test_the_same_rows_give_the_same_bytes(form: str, shape: str, content: str) -> None:
    first = rows_of(content, {}, {"organisation_id": 9}, {"organisation_name": 'a "b", c\nd'})
    again = pa.concat_batches([rows_of(content, {}), first.slice(1)]).slice(0)
    assert formats.encode(form, shape, content, first) == formats.encode(form, shape, content, again)


@pytest.mark.parametrize(("form", "shape", "content"), PAIRS)
def test_no_rows_give_a_valid_file(form: str, shape: str, content: str) -> None:
    data = formats.encode(form, shape, content, pa.RecordBatch.from_pylist([], TABLES[content].schema))
    count = {
        "ndjson": lambda: len(gzip.decompress(data).splitlines()),
        "json": lambda: len(json.loads(data)),
        "csv": lambda: len(list(csv.DictReader(io.StringIO(data.decode())))),
        "parquet": lambda: pa.parquet.read_table(pa.BufferReader(data)).num_rows,
        "avro": lambda: len(list(fastavro.reader(io.BytesIO(data)))),
    }[form]()
    assert count == 0


def test_ndjson_is_gzip_without_time_or_name() -> None:
    data = formats.encode("ndjson", "emnify", "usage", rows_of("usage", {}, {"usage_id": 2}))
    assert data[:2] == b"\x1f\x8b" and data[3:8] == bytes(5)
    assert [json.loads(line)["id"] for line in gzip.decompress(data).splitlines()] == [333333333333333, 2]


def test_a_large_part_has_each_row_once_with_its_own_times() -> None:
    count = LINES_AT_ONCE + 1500
    seconds = [number % 700 for number in range(count)]
    ends = [None if number % 900 == 7 else START + timedelta(seconds=second) for number, second in enumerate(seconds)]
    one = rows_of("usage", {"end_time": None})
    rows = pa.concat_batches([one] * count)
    rows = rows.set_column(rows.schema.get_field_index("usage_id"), "usage_id", pa.array(range(count), pa.int64()))
    kind = one.schema.field("end_time")
    rows = rows.set_column(rows.schema.get_field_index("end_time"), kind, pa.array(ends, kind.type))
    lines = gzip.decompress(formats.encode("ndjson", "table", "usage", rows)).splitlines()
    found = [json.loads(line) for line in lines]
    assert [row["usage_id"] for row in found] == list(range(count))
    assert [row["end_time"] for row in found] == [end and end.strftime("%Y-%m-%dT%H:%M:%SZ") for end in ends]


def test_json_is_one_array() -> None:
    data = formats.encode("json", "table", "usage", rows_of("usage", {}, {"usage_id": 2}))
    assert [row["usage_id"] for row in json.loads(data)] == [333333333333333, 2]


EMNIFY_HEADER = (
    '"id","event_start_timestamp","event_stop_timestamp","organisation_id","organisation_name","endpoint_id","sim_id",'
    '"iccid","imsi","operator_id","operator_name","country_id","operator_country_name","traffic_type_id",'
    '"traffic_type_description","volume","volume_tx","volume_rx","cost","currency_id","currency_code",'
    '"currency_symbol","ratezone_tariff_id","ratezone_tariff_name","ratezone_id","ratezone_name","endpoint_name",'
    '"endpoint_ip_address","endpoint_tags","endpoint_imei","msisdn_msisdn","sim_production_date","operator_mncs",'
    '"country_mcc"'
)
EMNIFY_ROW = (
    '"333333333333333","2021-11-15 20:00:01","2021-11-15 20:00:15","12345","Example Organization","123456789",'
    '"3324192","89883030000080139311","295050901064821","5","Telefonica O2","74","Germany","5","Data","0.219933",'
    '"0.047085","0.172848","0.0018851200","1","EUR","€","1","Internal Test Data Plan","2","Area 2","Example Device",'
    '"192.0.2.7",,"8677300511111142","423663920123456","2021-11-14 20:00:00","07","262"'
)


def test_usage_csv_is_emnifys() -> None:
    data = formats.encode("csv", "csv", "usage", rows_of("usage", {"tags": None}))
    assert data.decode() == f"{EMNIFY_HEADER}\n{EMNIFY_ROW}\n"
    assert len(USAGE_COLUMNS) == 34


def test_event_csv_has_the_known_columns() -> None:
    data = formats.encode("csv", "csv", "events", rows_of("events", {"source": "policy_control", "severity": "WARN"}))
    (row,) = csv.DictReader(io.StringIO(data.decode()))
    assert list(row) == list(EVENT_COLUMNS) and len(row) == 23
    assert (row["event_severity_id"], row["event_source_id"], row["event_source_name"]) == ("1", "1", "Policy Control")
    assert row["timestamp"] == "2021-11-15 20:00:01"


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | NAMES, min_size=1, max_size=4))
def test_any_text_survives_csv(names: list[str | None]) -> None:
    data = formats.encode("csv", "csv", "usage", rows_of("usage", *({"endpoint_name": name} for name in names)))
    read = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert [row["endpoint_name"] for row in read] == [name or "" for name in names]


def test_duckdb_reads_csv_ndjson_and_parquet(tmp_path: Path) -> None:
    rows = rows_of("usage", {"endpoint_name": 'a "b",\nc'}, {"tags": None, "tariff_name": ""})
    for form, shape in (("csv", "table"), ("ndjson", "table"), ("parquet", "table")):
        path = tmp_path / f"part.{formats.FORMATS[form].extension}"
        path.write_bytes(formats.encode(form, shape, "usage", rows))
        reader = {
            "csv": f"read_csv('{path}', all_varchar=true, allow_quoted_nulls=false)",
            "ndjson": f"read_json('{path}')",
            "parquet": f"read_parquet('{path}')",
        }[form]
        time = "end_time::timestamptz at time zone 'UTC'"
        query = f"select endpoint_name, tags, tariff_name, cost::decimal(38,10), {time} from {reader}"
        end = datetime(2021, 11, 15, 20, 0, 15, 260_000)
        with duckdb.connect() as connection:
            found = connection.sql(query).fetchall()
        assert found == [
            ('a "b",\nc', "V1", "Internal Test Data Plan", COST, end),
            ("Example Device", None, "", COST, end),
        ], form


def test_parquet_has_statistics_of_numbers_and_times_only() -> None:
    data = formats.encode("parquet", "table", "usage", rows_of("usage", {}, {"usage_id": 2}))
    group = pa.parquet.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    columns = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
    with_statistics = {name for name, column in columns.items() if column.is_stats_set}
    assert {"hour", "usage_id", "organisation_id", "endpoint_id", "end_time"} <= with_statistics
    assert not {"iccid", "imsi", "operator_name", "extra"} & with_statistics


def test_parquet_keeps_types_and_says_utc() -> None:
    rows = rows_of("usage", {}, {"cost": None})
    read = pa.parquet.read_table(pa.BufferReader(formats.encode("parquet", "table", "usage", rows)))
    assert read.schema.remove_metadata().equals(rows.schema.remove_metadata(), check_metadata=False)
    assert read.to_pylist() == rows.to_pylist()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | st.decimals(-(10**17), 10**17, places=10), min_size=1, max_size=4))
def test_parquet_and_avro_keep_any_decimal(costs: list[Decimal | None]) -> None:
    rows = rows_of("usage", *({"cost": cost} for cost in costs))
    parquet = pa.parquet.read_table(pa.BufferReader(formats.encode("parquet", "csv", "usage", rows)))
    avro = fastavro.reader(io.BytesIO(formats.encode("avro", "csv", "usage", rows.slice(0))))
    assert parquet.column("cost").to_pylist() == costs
    assert [row["cost"] for row in avro] == costs


def test_avro_keeps_times_and_slices() -> None:
    rows = rows_of("usage", {"cost": Decimal(1)}, {}, {"cost": Decimal(-2)}).slice(1)
    first, second = fastavro.reader(io.BytesIO(formats.encode("avro", "table", "usage", rows)))
    assert (first["cost"], second["cost"]) == (COST, Decimal(-2))
    assert first["end_time"] == datetime(2021, 11, 15, 20, 0, 15, 260_000, UTC)


def test_check_says_what_to_use_instead() -> None:
    assert formats.check("parquet", "emnify", "usage") == (
        "shape emnify is nested and format parquet is not: use format ndjson, json, or shape table or csv"
    )
    assert "use shape table" in str(formats.check("ndjson", "csv", "device_usage_hourly"))


def test_definitions_allow_only_what_can_be_packed() -> None:
    for shape, (contents, forms, _) in DECLARED.items():
        for content in contents:
            assert all(formats.check(form, shape, content) is None for form in forms), shape
