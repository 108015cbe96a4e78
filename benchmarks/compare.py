"""Compare the results of the job and of the DuckDB peer, row by row and to the last decimal.

    python -m benchmarks.compare OURS PEER

Both are output directories over the same files. Every table is compared as a bag of rows in the columns of
`benchmarks.columns`, with ``EXCEPT ALL`` both ways. The job's aggregates are partial sums and are added up first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from benchmarks.columns import COLUMNS
from schemas.tables import TABLES

_SHOWN = 5
"""Rows of a difference that are shown."""

_COMBINE = {"first_time": "min", "last_time": "max"}


@dataclass(frozen=True)
class Difference:
    """Rows of one table that only one side has.

    Attributes:
      table: name of the table.
      side: who has them: ``ours`` or ``peer``.
      count: how many rows.
      rows: some of them, as text.
    """

    table: str
    side: str
    count: int
    rows: str

    def __str__(self) -> str:
        return f"{self.table}: {self.count:,} rows only in {self.side}, such as\n{self.rows}"


def _columns(table: str) -> Iterator[str]:
    """The compared columns as SQL, times without zone and decimals of one type."""
    schema = TABLES[table].schema
    for name in COLUMNS[table]:
        kind = str(schema.field(name).type)
        if kind.startswith("timestamp"):
            yield f"{name}::TIMESTAMP AS {name}"
        elif kind.startswith("decimal"):
            yield f"{name}::DECIMAL(38, {schema.field(name).type.scale}) AS {name}"
        else:
            yield name


def _summed(table: str, source: str) -> str:
    """The rows of an aggregate table with the partial sums of their keys added up."""
    definition = TABLES[table]
    if not definition.sums:
        return source
    parts = [
        name
        if name == "hour" or name in definition.key
        else f"any_value({name}) AS {name}"
        if name in definition.labels
        else f"{_COMBINE.get(name, 'sum')}({name}) AS {name}"
        for name in COLUMNS[table]
    ]
    return f"(SELECT {', '.join(parts)} FROM {source} GROUP BY ALL)"


def compare(ours: Path, peer: Path) -> tuple[dict[str, int], list[Difference]]:
    """Compares two output directories.

    Returns:
      The number of our rows by table, and the differences; none if the results are equal.
    """
    counts, differences = {}, []
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for table in COLUMNS:
            for side, directory in (("ours", ours), ("peer", peer)):
                files = f"read_parquet('{directory}/warehouse/{table}/**/*.parquet')"
                rows = f"SELECT {', '.join(_columns(table))} FROM {_summed(table, files)}"
                connection.execute(f"CREATE OR REPLACE TABLE {side} AS {rows}")
            counts[table] = connection.sql("SELECT count(*) FROM ours").fetchall()[0][0]
            for side, other in (("ours", "peer"), ("peer", "ours")):
                only = connection.sql(f"SELECT * FROM {side} EXCEPT ALL SELECT * FROM {other} ORDER BY ALL")
                if found := only.aggregate("count(*)").fetchall()[0][0]:
                    shown = "\n".join(f"  {row}" for row in only.limit(_SHOWN).fetchall())
                    differences.append(Difference(table, side, found, shown))
    return counts, differences


def main() -> int:
    """The command line; exit code 1 if the results differ."""
    counts, differences = compare(*map(Path, sys.argv[1:3]))
    for difference in differences:
        print(difference)
    if not differences:
        print("equal: " + ", ".join(f"{count:,} rows of {table}" for table, count in counts.items()))
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main())
