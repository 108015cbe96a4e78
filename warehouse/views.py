"""DuckDB views over the Parquet of an output directory: nothing is copied.

Two ways in, with the same views:

* `connect` opens an in-memory connection whose views name the directory's absolute path: always right, whatever the
  working directory, also while another program holds ``DIR/warehouse.duckdb`` open. The commands ``sql``, ``report``
  and ``device`` use it.
* `create_views` writes ``DIR/warehouse.duckdb`` for the plain ``duckdb`` client and for notebooks. Its views hold
  relative paths, so that the directory can be moved: they resolve from inside DIR, or anywhere after ``SET
  file_search_path='DIR'``.

Each table is read by the columns of `schemas.tables`: a part that was written before a column existed gives null for
it, and a query opens only the parts that it needs (`union_by_name` would open all of them at every start).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import duckdb
import pyarrow as pa

from schemas.tables import TABLES, Table
from warehouse.derived_views import DERIVED_VIEWS
from warehouse.layout import TEMPORARY, VIEWS_FILE, existing_output, has_parts, part_glob

_SIMPLE_TYPES: dict[pa.DataType, str] = {
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}


def connect(output: str | os.PathLike[str]) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB connection with all views of an output directory; times show in UTC.

    Raises:
      warehouse.layout.WarehouseError: `output` is not a finished output directory.
    """
    directory = existing_output(output)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    # Where DuckDB spills what exceeds its memory; an in-memory database would do so in the working directory.
    spill = os.path.join(tempfile.gettempdir(), f"data-streamer-duckdb-{os.getpid()}")
    connection.execute(f"SET temp_directory = {_quoted(spill)}")
    _define(connection, directory, str(directory))
    return connection


def create_views(output: str | os.PathLike[str]) -> Path:
    """Write ``DIR/warehouse.duckdb`` with all views, replacing an older one, and return its path.

    Raises:
      warehouse.layout.WarehouseError: `output` is not a finished output directory.
    """
    directory = existing_output(output)
    target = directory / VIEWS_FILE
    # DuckDB splits the search path at commas; a link without one stands for the directory while the views are bound.
    with tempfile.TemporaryDirectory(prefix="data-streamer-views-") as scratch:
        link = Path(scratch) / "output"
        link.symlink_to(directory, target_is_directory=True)
        temporary = directory / f"{TEMPORARY}{os.getpid()}-{VIEWS_FILE}"
        temporary.unlink(missing_ok=True)
        connection = duckdb.connect(str(temporary))
        try:
            connection.execute(f"SET file_search_path = {_quoted(str(link))}")
            _define(connection, directory, "")
        finally:
            connection.close()
        os.replace(temporary, target)
    return target


def _define(connection: duckdb.DuckDBPyConnection, directory: Path, prefix: str) -> None:
    for table in TABLES.values():
        source = _parts_query(table, prefix) if has_parts(directory, table.name) else _empty_query(table)
        connection.execute(f"CREATE VIEW {table.name} AS {source}")
    for view in DERIVED_VIEWS:
        connection.execute(f"CREATE VIEW {view.name} AS {view.sql}")


def _parts_query(table: Table, prefix: str) -> str:
    columns = ", ".join(
        f"'{field.name}': {{name: '{field.name}', type: '{duckdb_type(field.type)}', default_value: NULL}}"
        for field in table.schema
    )
    glob = _quoted(part_glob(prefix, table.name))
    return f"SELECT * FROM read_parquet({glob}, hive_partitioning = false, schema = MAP {{{columns}}})"


def _empty_query(table: Table) -> str:
    """A typed query without rows: a table of which no part was ever written (an output of an older version)."""
    columns = ", ".join(f"NULL::{duckdb_type(field.type)} AS {field.name}" for field in table.schema)
    return f"SELECT {columns} WHERE false"


def duckdb_type(kind: pa.DataType) -> str:
    """Name of the DuckDB type of an Arrow type of `schemas.tables`."""
    if pa.types.is_decimal128(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    return _SIMPLE_TYPES[kind]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
