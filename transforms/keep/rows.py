"""Rows that a live job keeps until their cell is flushed: Arrow files that survive a kill."""

from __future__ import annotations

import os

import pyarrow as pa

from transforms.deliver.storage import TEMPORARY
from transforms.gather.claims import lift

DIRECTORY = "kept"


def path_of(directory: str, cell: int, number: int) -> str:
    """Where the rows of a cell with this number are kept."""
    return os.path.join(directory, DIRECTORY, f"{cell}-{number}.arrow")


def put(path: str, rows: pa.RecordBatch) -> None:
    """Writes rows, whole or not at all.

    Raises:
      OSError: the directory is at fault.
    """
    parent, name = os.path.split(path)
    os.makedirs(parent, exist_ok=True)
    temporary = os.path.join(parent, TEMPORARY + name)
    bare = pa.schema([pa.field(field.name, field.type) for field in rows.schema])
    with pa.ipc.new_file(temporary, bare, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(rows.columns, schema=bare))
    os.replace(temporary, path)


def take(path: str, schema: pa.Schema) -> pa.RecordBatch:
    """The rows, in today's schema of their table.

    Raises:
      OSError: the file cannot be read.
    """
    with pa.ipc.open_file(path) as reader:
        batch = reader.get_batch(0)
    return batch if batch.schema.equals(schema) else lift(batch, schema)
