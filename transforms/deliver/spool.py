"""The spool: records that wait for their destination, or for their stream to be resumed.

``DIR/pending/<stream>/<shard>/<hour>-<writer>-<bucket>-<pane>.arrow``: rows of the stream's table, selected already, as
Arrow IPC (lz4), with the part they are of in the schema's metadata. A second attempt at a part replaces its file. What
is left of a part that was delivered from the spool in part is a new file, ``…-<pane>.<n>.arrow``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from datetime import UTC, datetime

import pyarrow as pa

from schemas.tables import TABLES
from transforms.deliver import storage
from transforms.deliver.parts import Part

DIRECTORY = "pending"
_VERSION = "1"
_NAME = re.compile(r"(\d{8}T\d{2})-(.+)-(\d+)-(\d+)(?:\.(\d+))?\.arrow")
_HOUR = "%Y%m%dT%H"


def path_of(output: str, part: Part) -> str:
    """Where the records of a part wait."""
    hour = datetime.fromtimestamp(part.hour // 1_000_000, UTC).strftime(_HOUR)
    rest = f".{part.rest}" if part.rest else ""
    name = f"{hour}-{part.writer}-{part.bucket}-{part.pane}{rest}.arrow"
    return storage.join(output, DIRECTORY, part.stream, str(part.shard), name)


def put(output: str, part: Part, rows: pa.RecordBatch) -> storage.StoredFile:
    """Keep rows of a part, instead of any that were kept for it before.

    Raises:
      OSError: the output directory is at fault: the run fails.
    """
    # Without the columns' descriptions, which are longer than a few rows.
    bare = [pa.field(field.name, field.type) for field in rows.schema]
    schema = pa.schema(bare, {"version": _VERSION, "table": part.table})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(rows.columns, schema=schema))
    stored = storage.publish(path_of(output, part), sink.getvalue().to_pybytes(), rows.num_rows)
    return storage.StoredFile(storage.relative(output, stored.path), stored.row_count, stored.bytes, stored.checksum)


def take(output: str, part: Part) -> tuple[Part, pa.RecordBatch]:
    """The rows that wait for a part, in today's schema of their table: columns added since then are null.

    Returns:
      the part with its table, which only the file knows, and the rows.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is no spool file of a version that this program knows.
    """
    path = path_of(output, part)
    try:
        with pa.ipc.open_file(pa.py_buffer(storage.read(path))) as reader:
            rows = reader.read_all()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no Arrow file: it was cut or changed; restore it, or run the job again") from error
    metadata = rows.schema.metadata or {}
    if metadata.get(b"version") != _VERSION.encode():
        raise ValueError(f"{path} was written by another version of this program: deliver it with that one")
    table = metadata[b"table"].decode()
    return dataclasses.replace(part, table=table), _lifted(rows, TABLES[table].schema)


def _lifted(rows: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        rows.column(field.name).cast(field.type).combine_chunks()
        if field.name in rows.schema.names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def discard(output: str, part: Part) -> bool:
    """Forget the records of a part; returns whether there were any."""
    return storage.remove(path_of(output, part))


def part_of(path: str, output: str) -> Part | None:
    """The part whose records wait in a file; None where it is no file of the spool. Its table is not read."""
    *_, stream, shard, name = ("", "", *path.split("/"))
    match = _NAME.fullmatch(name)
    if match is None or not shard.isdecimal() or not path.startswith(storage.join(output, DIRECTORY) + "/"):
        return None
    hour = int(datetime.strptime(match[1], _HOUR).replace(tzinfo=UTC).timestamp()) * 1_000_000
    return Part(stream, "", hour, int(match[3]), match[2], int(match[4]), int(shard), int(match[5] or 0))


def waiting(output: str) -> dict[str, list[Part]]:
    """The parts that wait, by stream, in order of shard, hour, writer, bucket, pane; their tables are not read."""
    found: dict[str, list[Part]] = {}
    for path in storage.list_files(storage.join(output, DIRECTORY)):
        part = part_of(path, output)
        if part is not None:  # else a temporary file of an attempt that was killed: swept by its writer
            found.setdefault(part.stream, []).append(part)
    return {stream: sorted(parts, key=lambda part: (part.shard, *part.turn)) for stream, parts in sorted(found.items())}


def sweep(output: str, writer: str, listed: Collection[str]) -> list[str]:
    """Remove the spool files, and temporary ones, that a writer left and that are not listed; returns their paths.

    Args:
      output: the output directory.
      writer: whose files.
      listed: full paths of the files that hold its pending records.
    """
    temporary = rf"(?:{re.escape(storage.TEMPORARY)}[0-9a-f]+-)?"
    own = re.compile(rf"{temporary}\d{{8}}T\d{{2}}-{re.escape(writer)}-\d+-\d+(?:\.\d+)?\.arrow")
    directory = storage.join(output, DIRECTORY)
    return storage.remove_stale(directory, lambda path: own.fullmatch(path.rsplit("/", 1)[1]) is not None, listed)
