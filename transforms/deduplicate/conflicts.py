"""Conflicts become dead letters with their original bytes: read back from their file, one pass a file.

Records do not carry their raw line (each would be spilled, for one record in thousands); they carry where it
stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from schemas.records import FEEDS
from transforms.dead_letters import DeadLetter, dead_letter_batch
from transforms.gather.claims import Spill, batch_of
from transforms.read.payloads import read_payloads

CONFLICT_COLUMNS = ("source_file", "byte_offset", "byte_length", "ingest_time")

_SCHEMA = pa.schema(
    [
        ("record_id", pa.int64()),
        ("source_file", pa.string()),
        ("byte_offset", pa.int64()),
        ("byte_length", pa.int64()),
        ("ingest_time", pa.int64()),
        ("kind", pa.int8()),
    ]
)


def pack_conflicts(conflicts: pa.Table, kind: int) -> Iterator[tuple[int, bytes]]:
    """Yields (digest of the file, claim of its conflicts) for each file that has conflicts.

    Args:
      conflicts: ``record_id`` and `CONFLICT_COLUMNS` of each conflicting record.
      kind: kind of the records.
    """
    if not conflicts.num_rows:
        return
    plain = pa.table(
        [
            conflicts.column("record_id"),
            conflicts.column("source_file").cast(pa.string()),
            conflicts.column("byte_offset"),
            conflicts.column("byte_length"),
            conflicts.column("ingest_time").cast(pa.int64()),
            pa.array([kind] * conflicts.num_rows, pa.int8()),
        ],
        schema=_SCHEMA,
    )
    for file in sorted(set(plain.column("source_file").to_pylist())):
        rows = plain.filter(pc.equal(plain.column("source_file"), file)).combine_chunks().to_batches()[0]
        yield xxhash.xxh3_64_intdigest(file.encode()) >> 1, Spill(None, 0, 0).deposit(rows)


def recover(claims: Iterable[bytes], writer: str, dead_directory: str) -> Iterator[bytes]:
    """Yields claims of the dead letters of a file's conflicts.

    Args:
      claims: from `pack_conflicts`, all of one file.
      writer: the run's writer.
      dead_directory: where payloads go that are too long for the table.

    Raises:
      OSError: the input file cannot be read any more: the run fails, since the bytes would be lost.
    """
    rows = pa.Table.from_batches([batch_of(claim, _SCHEMA) for claim in claims]).sort_by("byte_offset")
    columns = rows.to_pydict()
    file = columns["source_file"][0]
    payloads = read_payloads(file, columns["byte_offset"], columns["byte_length"])
    letters = [
        DeadLetter(
            kind="conflict", feed=kind, reason="id_conflict", payload=payload, source_file=file, byte_offset=offset,
            ingest_time=ingest_time, record_id=record_id,
            message=f"another record of {FEEDS[kind]} has the same id and other content; that one was kept",
        )
        for payload, offset, ingest_time, record_id, kind in zip(
            payloads, columns["byte_offset"], columns["ingest_time"], columns["record_id"], columns["kind"], strict=True
        )
    ]  # fmt: skip
    yield from Spill(None, 0, 0).deposit_pieces(dead_letter_batch(letters, writer, dead_directory))
