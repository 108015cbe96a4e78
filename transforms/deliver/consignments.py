"""Consignments: what waits for a shard of a stream of a live job whose workers share no disk, as bytes.

Its rows travel with it, or lie in the spool under the name of their part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import msgspec
import numpy as np
import pyarrow as pa

from schemas.tables import TABLES
from transforms.deliver import spool, storage
from transforms.deliver.parts import Part
from transforms.deliver.selection import Selection
from transforms.deliver.versioned import Versioned
from transforms.gather.claims import Spill, batch_of
from transforms.ledger.counts import FileEntry


class Consignment(msgspec.Struct, frozen=True, array_like=True):
    """A part of a shard that waits for its delivery.

    Attributes:
      stream: name of the stream.
      table: table of the rows; empty where only the spool's file knows.
      hour: the cell's hour, microseconds UTC.
      bucket: the cell's bucket.
      pane: number of the part in its cell.
      shard: the shard.
      rest: as in `Part`.
      row_count: how many rows.
      claim: the rows; None where they are in the spool.
    """

    stream: str
    table: str
    hour: int
    bucket: int
    pane: int
    shard: int
    rest: int
    row_count: int
    claim: bytes | None = None

    def part(self, writer: str) -> Part:
        """The part that the rows are of."""
        return Part(self.stream, self.table, self.hour, self.bucket, writer, self.pane, self.shard, self.rest)

    def rows(self, output: str, writer: str) -> tuple[Part, pa.RecordBatch]:
        """The part, with its table, and its rows.

        Raises:
          OSError: the output directory is at fault.
          ValueError: it is no spool file of a version that this program knows.
        """
        part = self.part(writer)
        if self.claim is not None:
            return part, batch_of(self.claim, TABLES[self.table].schema)
        return spool.take(output, dataclasses.replace(part, waited=True))

    def spooled(self, rest: int, row_count: int) -> Consignment:
        """The same, waiting in the spool."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return Consignment(**(fields | {"rest": rest, "row_count": row_count, "claim": None}))


_codec = Versioned(Consignment, "consignment")
encode, decode = _codec.encode, _codec.decode


def consign(part: Part, selection: Selection, lanes: np.ndarray) -> Iterator[Consignment]:
    """Consigns the rows of a part, each shard's by themselves."""
    for shard in np.unique(lanes).tolist():
        rows = selection.rows if (lanes == shard).all() else selection.rows.filter(pa.array(lanes == shard))
        claim = Spill(None, 0, 0).deposit(rows)
        yield Consignment(
            part.stream, part.table, part.hour, part.bucket, part.pane, shard, part.rest, rows.num_rows, claim
        )  # fmt: skip


def of_spooled(file: FileEntry, output: str) -> Consignment | None:
    """The consignment of a spool's file; None where the file is none."""
    part = spool.part_of(storage.absolute(output, file.path), output)
    if part is None:
        return None
    return Consignment(part.stream, "", part.hour, part.bucket, part.pane, part.shard, part.rest, file.row_count)
