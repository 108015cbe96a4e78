"""The warehouse: Parquet parts of tables, and the destination type ``warehouse``."""

from __future__ import annotations

from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from schemas.destinations import DestinationOptions
from transforms.deliver import formats, storage
from transforms.deliver.destination import Destination, Kind, Outcome, StreamDefinition
from transforms.deliver.parts import Part
from transforms.deliver.selection import Selection
from transforms.deliver.storage import StoredFile

DIRECTORY = "warehouse"
STREAM_TABLE = "streams_"
"""Prefix of the tables that streams make."""


def table_part_path(output: str, table: str, hour: int | None, bucket: int, writer: str, pane: int) -> str:
    """Where a table's part lies; tables without an hour, and empty parts, have one number in their name."""
    root = storage.join(output, DIRECTORY, table)
    if hour is None:
        return storage.join(root, f"part-{writer}-{pane}.parquet")
    return storage.join(root, storage.hour_directory(hour), storage.part_name(writer, bucket, pane, "parquet"))


def write_table_part(
    output: str, table: str, hour: int | None, bucket: int, writer: str, pane: int, rows: pa.RecordBatch | pa.Table
) -> StoredFile:
    """Write rows of a table as one Parquet part, replacing that part.

    Args:
      output: the output directory.
      table: name of the table.
      hour: hour of the rows in microseconds UTC; None for tables without an hour and for empty parts.
      bucket: the cell's bucket; not used without an hour.
      writer: who writes.
      pane: number of the pane, or of the part where there is no hour.
      rows: rows in the table's schema.

    Returns:
      the file, its path relative to the output directory.

    Raises:
      OSError: the output directory is at fault: the run fails.
    """
    path = table_part_path(output, table, hour, bucket, writer, pane)
    stored = storage.publish(path, formats.parquet(rows), rows.num_rows)
    return StoredFile(storage.relative(output, path), rows.num_rows, stored.bytes, stored.checksum)


class WarehouseOptions(DestinationOptions):
    """A table of its own in the warehouse: ``streams_<name of the stream>``."""

    type: Literal["warehouse"] = Field(default="warehouse", description="Type of the destination.")


class WarehouseDestination(Destination[WarehouseOptions]):
    """Keeps the selected rows as a table ``streams_<name>`` of the warehouse, ready for its views.

    Always Parquet with the columns of the stream's table: format and shape do not apply.
    Guarantee: exactly once; a part that is written again replaces itself. `audit` counts its files again.
    It lies in the run's own directory: a fault there fails the run.
    """

    options_model: ClassVar[type[DestinationOptions]] = WarehouseOptions
    kind: ClassVar[Kind] = Kind.STORED
    recountable: ClassVar[bool] = True
    packs: ClassVar[bool] = False

    def roots(self, stream: StreamDefinition, output: str) -> list[str]:
        """The table's directory."""
        return [storage.join(output, DIRECTORY, STREAM_TABLE + stream.name)]

    def deliver(self, part: Part, rows: Selection, stream: StreamDefinition, output: str) -> Outcome:
        """Write the rows as one part of the stream's table."""
        table = STREAM_TABLE + stream.name
        stored = write_table_part(output, table, part.hour, part.bucket, part.writer, part.pane, rows.rows)
        return Outcome(delivered=rows.num_rows, files=[stored])
