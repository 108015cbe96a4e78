"""What a live job has counted and is still on its way: it says so in its commit file.

A job that runs flushes its cells every half minute or so. What was published in between counts records that no part
holds; streams that send at once have them already, others get them with the parts. Where its workers share no disk
(Dataflow), steps also report on different ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import msgspec

from transforms.ledger.in_flight import InFlight
from warehouse.layout import COMMITS, WAREHOUSE


class _Commit(msgspec.Struct, frozen=True):
    writer: str
    in_flight: InFlight | None = None


@dataclass(frozen=True)
class OnTheWay:
    """How much is in flight, of all writers.

    Attributes:
      rows: rows of cells that no part holds yet.
      letters: dead letters that no part holds yet.
      decoded: records that no cell has counted yet.
      pending: rows that wait for their destination and lie in no spool.
    """

    rows: int
    letters: int
    decoded: int
    pending: int

    def notes(self) -> list[str]:
        """What an audit tells of it."""
        told = (
            (self.rows, "records in flight: the live job has them, and writes them within its next flush"),
            (self.letters, "dead letters in flight: the live job has them, and writes them within its next flush"),
            (self.decoded, "decoded records on their way to their cells"),
            (self.pending, "records wait for their destinations within the live job, beside what is in the spool"),
        )
        return [f"{count:,} {text}" for count, text in told if count]


def define_in_flight(connection: duckdb.DuckDBPyConnection, directory: Path) -> OnTheWay:
    """Makes the tables which the equations read: ``in_flight`` (writer, feed, hour, n), ``with_flight`` (writer,
    stream), ``decoded_in_flight`` (writer, feed, n), ``letters_in_flight`` (writer, feed, stream, n) and
    ``pending_in_flight`` (writer, stream, n). All are empty unless a live job runs. A commit file that cannot be read
    is left to the audit.

    Returns:
      how much is in flight.
    """
    tables: dict[str, tuple[str, list[tuple[object, ...]]]] = {
        "in_flight": ("writer VARCHAR, feed VARCHAR, hour BIGINT, n BIGINT", []),
        "with_flight": ("writer VARCHAR, stream VARCHAR", []),
        "decoded_in_flight": ("writer VARCHAR, feed VARCHAR, n BIGINT", []),
        "letters_in_flight": ("writer VARCHAR, feed VARCHAR, stream VARCHAR, n BIGINT", []),
        "pending_in_flight": ("writer VARCHAR, stream VARCHAR, n BIGINT", []),
    }
    rows = {name: rows for name, (_, rows) in tables.items()}
    for writer, found in _found(directory):
        rows["in_flight"] += [(writer, feed, hour, n) for feed, own in found.rows.items() for hour, n in own.items()]
        rows["with_flight"] += [(writer, stream) for stream in found.streams_with_them]
        rows["decoded_in_flight"] += [(writer, feed, n) for feed, n in found.decoded.items()]
        rows["letters_in_flight"] += [(writer, one.feed, one.stream, one.rows) for one in found.letters]
        rows["pending_in_flight"] += [(writer, stream, n) for stream, n in found.pending.items()]
    for name, (columns, found_rows) in tables.items():
        connection.execute(f"CREATE TEMP TABLE {name} ({columns})")
        if found_rows:
            connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(found_rows[0]))})", found_rows)
    connection.execute("ALTER TABLE in_flight ALTER hour TYPE TIMESTAMPTZ USING make_timestamptz(hour)")
    totals = {name: sum(int(str(row[-1])) for row in rows[name]) for name in tables if name != "with_flight"}
    return OnTheWay(
        totals["in_flight"], totals["letters_in_flight"], totals["decoded_in_flight"], totals["pending_in_flight"]
    )


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
