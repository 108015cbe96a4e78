"""What a live job has counted and not written into parts yet: it says so in its commit file.

A job that runs flushes its cells every half minute or so. What was published in between counts records that no part
holds; streams that send at once have them already, others get them with the parts.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import msgspec

from warehouse.layout import COMMITS, WAREHOUSE


class InFlight(msgspec.Struct, frozen=True):
    """Rows in flight.

    Attributes:
      rows: how many, by feed and hour (microseconds, UTC).
      streams_with_them: streams that have them already.
    """

    rows: dict[str, dict[int, int]]
    streams_with_them: list[str]


class _Commit(msgspec.Struct, frozen=True):
    writer: str
    in_flight: InFlight | None = None


def define_in_flight(connection: duckdb.DuckDBPyConnection, directory: Path) -> int:
    """Makes the tables ``in_flight`` (writer, feed, hour, n) and ``with_flight`` (writer, stream), which the equations
    read; both are empty unless a live job runs. A commit file that cannot be read is left to the audit.

    Returns:
      the number of rows in flight.
    """
    connection.execute("CREATE TEMP TABLE in_flight (writer VARCHAR, feed VARCHAR, hour TIMESTAMPTZ, n BIGINT)")
    connection.execute("CREATE TEMP TABLE with_flight (writer VARCHAR, stream VARCHAR)")
    total = 0
    for writer, found in _found(directory):
        for feed, hours in found.rows.items():
            for hour, rows in hours.items():
                total += rows
                connection.execute(
                    "INSERT INTO in_flight VALUES (?, ?, make_timestamptz(?::BIGINT), ?)", [writer, feed, hour, rows]
                )
        for stream in found.streams_with_them:
            connection.execute("INSERT INTO with_flight VALUES (?, ?)", [writer, stream])
    return total


def _found(directory: Path) -> list[tuple[str, InFlight]]:
    found = []
    for path in sorted((directory / WAREHOUSE / COMMITS).glob("*.json")):
        try:
            commit = msgspec.json.decode(path.read_bytes(), type=_Commit)
        except msgspec.DecodeError:
            continue  # the audit tells which file it is, and why
        if commit.in_flight is not None:
            found.append((commit.writer, commit.in_flight))
    return found
