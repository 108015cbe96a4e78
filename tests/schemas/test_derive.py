"""The derived schemas are valid where they are used, hold what the tables define, and the kept files are up to date."""

from __future__ import annotations

import datetime
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from schemas import derive
from schemas.tables import EVENTS, INPUTS, LEDGER, TABLES, USAGE, Table

TABLE = pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)


def example_value(kind: pa.DataType) -> Any:
    """A value of an Arrow type that a lossy type on the other side would change."""
    if pa.types.is_decimal(kind):
        return Decimal(-(10**37) - 7).scaleb(-kind.scale)
    if pa.types.is_timestamp(kind):
        return datetime.datetime(2099, 12, 31, 23, 59, 59, 999_999, tzinfo=datetime.UTC)
    if pa.types.is_integer(kind):
        return 2 ** (kind.bit_width - 1) - 1
    if pa.types.is_boolean(kind):
        return True
    return b"\x00\xff" if pa.types.is_binary(kind) else "Zürich\n\U0001f4e1"


@TABLE
def test_every_column_says_what_it_means(table: Table) -> None:
    assert [field.name for field in table.schema if not derive.description_of(field)] == []
    assert table.description


@TABLE
def test_layout_of_a_table_names_its_own_columns(table: Table) -> None:
    named = {*table.cluster, *table.key, *table.labels, *table.sums} | ({table.partition} if table.partition else set())
    assert named <= set(table.schema.names)


@TABLE
def test_avro_schema_gives_rows_back(table: Table) -> None:
    schema = fastavro.parse_schema(derive.avro_schema(table))
    full = {field.name: example_value(field.type) for field in table.schema}
    empty = {field.name: full[field.name] if not field.nullable else None for field in table.schema}
    file = io.BytesIO()
    fastavro.writer(file, schema, [full, empty])
    file.seek(0)
    assert list(fastavro.reader(file)) == [full, empty]


@TABLE
def test_bigquery_schema_is_understood_by_its_client(table: Table) -> None:
    bigquery = pytest.importorskip("google.cloud.bigquery")
    columns = derive.bigquery_schema(table)
    fields = [bigquery.SchemaField.from_api_repr(column) for column in columns]
    assert [field.name for field in fields] == table.schema.names
    assert [field.to_api_repr() for field in fields] == columns


@TABLE
def test_bigquery_table_is_understood_by_its_client(table: Table) -> None:
    bigquery = pytest.importorskip("google.cloud.bigquery")
    reference = {"projectId": "p", "datasetId": "d", "tableId": table.name}
    parsed = bigquery.Table.from_api_repr({"tableReference": reference, **derive.bigquery_table(table)})
    assert parsed.description == table.description
    assert list(parsed.clustering_fields or ()) == list(table.cluster)
    partition = parsed.time_partitioning
    assert (partition.field if partition else None) == table.partition
    assert partition is None or partition.type_ == "DAY"


@TABLE
def test_bigquery_limits(table: Table) -> None:
    assert len(table.cluster) <= 4
    assert len(table.description) <= 16_384
    assert all(len(derive.description_of(field)) <= 1_024 for field in table.schema)


@TABLE
def test_decimals_are_never_numeric_or_float(table: Table) -> None:
    for field, column in zip(table.schema, derive.bigquery_schema(table), strict=True):
        assert (column["type"] == "BIGNUMERIC") == pa.types.is_decimal(field.type), field.name
        assert column["type"] not in ("NUMERIC", "FLOAT"), field.name


def test_cost_and_volume_keep_their_scale() -> None:
    columns = {column["name"]: column for column in derive.bigquery_schema(USAGE)}
    assert (columns["cost"]["precision"], columns["cost"]["scale"]) == ("38", "10")
    assert (columns["volume_rx"]["precision"], columns["volume_rx"]["scale"]) == ("38", "6")


def test_tables_without_partition_have_none() -> None:
    assert derive.bigquery_table(EVENTS)["timePartitioning"] == {"type": "DAY", "field": "hour"}
    assert "timePartitioning" not in derive.bigquery_table(LEDGER)
    assert "clustering" not in derive.bigquery_table(INPUTS)


def test_lists_and_required_columns() -> None:
    schema = pa.schema([pa.field("names", pa.list_(pa.string())), pa.field("id", pa.int64(), nullable=False)])
    table = Table("example", "An example.", schema)
    assert [column["mode"] for column in derive.bigquery_schema(table)] == ["REPEATED", "REQUIRED"]
    avro = derive.avro_schema(table)["fields"]
    assert avro[0]["type"] == ["null", {"type": "array", "items": "string"}]
    assert avro[1]["type"] == "long"


def test_a_type_without_counterpart_is_named() -> None:
    table = Table("example", "An example.", pa.schema([("pause", pa.duration("us"))]))
    for derived in (derive.bigquery_schema, derive.avro_schema):
        with pytest.raises(TypeError, match=r"schemas/tables\.py: column example\.pause is duration\[us\]"):
            derived(table)


def test_dictionary_names_every_column_and_the_meaning_of_mb() -> None:
    text = derive.data_dictionary()
    assert "MB is 10^6 bytes.** That is inferred" in text
    for table in TABLES.values():
        section = text.split(f"\n## {table.name}\n")[1].split("\n## ")[0]
        assert [name for name in table.schema.names if f"| `{name}` |" not in section] == []


def test_kept_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert derive.main(["--check"]) == 0, capsys.readouterr().out
    kept = {path.name for path in (derive.ROOT / "templates" / "warehouse").glob("*.json")}
    assert kept == {f"{name}.json" for name in TABLES}


def test_check_names_what_differs_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(derive, "ROOT", tmp_path)
    assert derive.main(["--check"]) == 1
    assert "docs/tables.md differs from schemas/tables.py; run: python -m schemas.derive" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert derive.main([]) == 0
    assert derive.main(["--check"]) == 0
    assert json.loads((tmp_path / "templates" / "warehouse" / "inputs.json").read_text()) == derive.bigquery_schema(
        INPUTS
    )
