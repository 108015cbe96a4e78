"""What is derived from the tables: BigQuery schemas, Avro schemas and the data dictionary.

`schemas.tables` is the only definition of a table. This module turns it into the forms that other systems want, and
writes those of them that are kept in the repository:

- ``docs/tables.md``, the data dictionary;
- ``templates/warehouse/<table>.json``, the BigQuery schemas, as ``bq mk --schema``, ``bq load`` and Terraform take
  them.

Run ``python -m schemas.derive`` after a change of `schemas.tables`, ``python -m schemas.derive --check`` to see whether
that was forgotten (exit code 1 and the files that differ; a test does the same).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.tables import SCHEMA_VERSION, TABLES, Table

ROOT = Path(__file__).resolve().parent.parent
"""The repository: derived files are written below it."""

AVRO_NAMESPACE = "data_streamer"
"""Namespace of the Avro records."""

_SIMPLE_TYPES: tuple[tuple[pa.DataType, str, Any], ...] = (
    # Arrow, BigQuery, Avro
    (pa.bool_(), "BOOLEAN", "boolean"),
    (pa.int8(), "INTEGER", "int"),
    (pa.int16(), "INTEGER", "int"),
    (pa.int32(), "INTEGER", "int"),
    (pa.int64(), "INTEGER", "long"),
    (pa.float64(), "FLOAT", "double"),
    (pa.string(), "STRING", "string"),
    (pa.binary(), "BYTES", "bytes"),
    (pa.date32(), "DATE", {"type": "int", "logicalType": "date"}),
    (pa.timestamp("us", tz="UTC"), "TIMESTAMP", {"type": "long", "logicalType": "timestamp-micros"}),
)


def bigquery_schema(table: Table) -> list[dict[str, Any]]:
    """The columns of a table as BigQuery's REST interface and ``bq`` take them.

    Decimals become BIGNUMERIC with their precision and scale: NUMERIC has 9 decimals, a cost has 10.

    Raises:
      TypeError: a column has a type that has no counterpart here.
    """
    return [_bigquery_field(table, field) for field in table.schema]


def bigquery_table(table: Table) -> dict[str, Any]:
    """A table as BigQuery's ``tables.insert`` takes it, without a table reference: schema, partitions, clustering.

    Raises:
      TypeError: a column has a type that has no counterpart here.
    """
    resource: dict[str, Any] = {"description": table.description, "schema": {"fields": bigquery_schema(table)}}
    if table.partition is not None:
        resource["timePartitioning"] = {"type": "DAY", "field": table.partition}
    if table.cluster:
        resource["clustering"] = {"fields": list(table.cluster)}
    return resource


def avro_schema(table: Table) -> dict[str, Any]:
    """The Avro schema of a table's rows: decimals as logical type on bytes, times as ``timestamp-micros``.

    Raises:
      TypeError: a column has a type that has no counterpart here.
    """
    return {
        "type": "record",
        "name": table.name,
        "namespace": AVRO_NAMESPACE,
        "doc": table.description,
        "fields": [_avro_field(table, field) for field in table.schema],
    }


def data_dictionary() -> str:
    """The text of ``docs/tables.md``: every table with its columns, types and meanings."""
    return "\n".join([_DICTIONARY_HEAD.format(version=SCHEMA_VERSION), *map(_dictionary_of, TABLES.values())])


def derived_files() -> dict[Path, str]:
    """Every derived file of the repository: its path and what it must hold."""
    files = {ROOT / "docs" / "tables.md": data_dictionary()}
    for table in TABLES.values():
        files[ROOT / "templates" / "warehouse" / f"{table.name}.json"] = (
            json.dumps(bigquery_schema(table), indent=2, ensure_ascii=False) + "\n"
        )
    return files


def description_of(field: pa.Field) -> str:
    """What a column means, out of its metadata; empty if it does not say."""
    return (field.metadata or {}).get(b"description", b"").decode()


def _bigquery_field(table: Table, field: pa.Field) -> dict[str, Any]:
    kind = field.type
    mode = "NULLABLE" if field.nullable else "REQUIRED"
    if pa.types.is_list(kind):
        kind, mode = kind.value_type, "REPEATED"
    column: dict[str, Any] = {"name": field.name, "type": "BIGNUMERIC", "mode": mode}
    if pa.types.is_decimal(kind):
        # As strings: that is how the REST interface sends 64-bit integers, and it takes no others back unchanged.
        column |= {"precision": str(kind.precision), "scale": str(kind.scale)}
    else:
        column["type"] = _simple(table, field, kind)[0]
    return column | {"description": description_of(field)}


def _avro_field(table: Table, field: pa.Field) -> dict[str, Any]:
    kind = field.type
    repeated = pa.types.is_list(kind)
    if repeated:
        kind = kind.value_type
    form: Any
    if pa.types.is_decimal(kind):
        form = {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    else:
        form = _simple(table, field, kind)[1]
    if repeated:
        form = {"type": "array", "items": form}
    column: dict[str, Any] = {"name": field.name, "type": form, "doc": description_of(field)}
    if field.nullable:
        column |= {"type": ["null", form], "default": None}
    return column


def _simple(table: Table, field: pa.Field, kind: pa.DataType) -> tuple[str, Any]:
    for arrow, bigquery, avro in _SIMPLE_TYPES:
        if kind == arrow:
            return bigquery, avro
    raise TypeError(
        f"schemas/tables.py: column {table.name}.{field.name} is {field.type}, which has no BigQuery and Avro type "
        "here; use one of those in schemas.derive._SIMPLE_TYPES, a decimal or a list of them, or add it there"
    )


_DICTIONARY_HEAD = """\
# The tables of the warehouse

<!-- Derived from schemas/tables.py by `python -m schemas.derive`; change it there. -->

Version {version} of the schemas. Changes are additive and nullable; read by column name.

- **Times** are UTC, with microseconds. **Ids** are 64-bit integers.
- **MB is 10^6 bytes.** That is inferred: emnify's documents say "MB" and give six decimals, and in every published
  record rx + tx = total to the last of them; none says whether MB or MiB is meant.
- **Decimals are exact.** Volumes are `decimal128(38, 6)` in the unit beside them (`MB` or `SMS`), costs
  `decimal128(38, 10)` in the currency beside them. Never add two units or two currencies. There are no exchange rates:
  "in euro" means billed in EUR.
- **Layout**: tables with an hour lie in
  `warehouse/<table>/dt=YYYY-MM-DD/hh=HH/part-<writer>-<bucket>-<pane>.parquet`, the others in
  `warehouse/<table>/part-<writer>-<n>.parquet`. `warehouse.duckdb` holds a view of each.
- **Aggregates are partial sums** of one writer and pane. Their sum over all rows is the truth at any time; times
  combine by min and max. Do not count their rows.
- In **BigQuery** decimals are BIGNUMERIC (NUMERIC has 9 decimals, a cost 10); the schemas are in
  `templates/warehouse/`.
"""


def _dictionary_of(table: Table) -> str:
    facts = [table.description]
    if table.key:
        facts.append(f"Key: {', '.join(f'`{name}`' for name in table.key)}.")
    if table.labels:
        facts.append(f"Labels, of the latest record: {', '.join(f'`{name}`' for name in table.labels)}.")
    if table.sums:
        facts.append(f"Sums: {', '.join(f'`{name}`' for name in table.sums)}.")
    if table.partition is not None:
        cluster = f", clustered by {', '.join(f'`{name}`' for name in table.cluster)}" if table.cluster else ""
        facts.append(f"In BigQuery partitioned by the day of `{table.partition}`{cluster}.")
    lines = [
        f"## {table.name}",
        "",
        "\n\n".join(facts),
        "",
        "| column | type | BigQuery | meaning |",
        "|---|---|---|---|",
    ]
    for field, column in zip(table.schema, bigquery_schema(table), strict=True):
        kind = str(field.type).replace("timestamp[us, tz=UTC]", "timestamp[us, UTC]")
        meaning = description_of(field).replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| `{field.name}` | {kind} | {column['type']} | {meaning} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the derived files, or with ``--check`` only compare them; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m schemas.derive", description="Write what schemas/tables.py defines."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a derived file differs")
    options = parser.parse_args(arguments)
    stale = [path for path, text in derived_files().items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if options.check:
            print(f"{path.relative_to(ROOT)} differs from schemas/tables.py; run: python -m schemas.derive")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(derived_files()[path], "utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
