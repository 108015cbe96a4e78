"""Parcels: what a pushed stream takes of a pane, one shard of it, as bytes for the shuffle on (stream, shard)."""

from __future__ import annotations

import msgspec

from transforms.deliver.parts import Part
from transforms.deliver.versioned import Versioned


class Parcel(msgspec.Struct, frozen=True, array_like=True):
    """Rows of one shard of a stream, of one pane.

    Attributes:
      stream: name of the stream.
      table: table of the rows.
      kind: kind of the cell's records: 0 events, 1 usage.
      hour: the cell's hour, microseconds UTC.
      bucket: the cell's bucket.
      pane: number of the pane in its cell.
      shard: the shard.
      piece: number of the piece within the pane and shard: rows that travel themselves may be cut.
      claim: claim check of the rows.
    """

    stream: str
    table: str
    kind: int
    hour: int
    bucket: int
    pane: int
    shard: int
    piece: int
    claim: bytes

    def part(self, writer: str) -> Part:
        """The part that the rows are of."""
        return Part(self.stream, self.table, self.hour, self.bucket, writer, self.pane, self.shard)

    @property
    def turn(self) -> tuple[int, int, int, int]:
        """What the parcels of a shard are ordered by."""
        return self.hour, self.bucket, self.pane, self.piece


_codec = Versioned(Parcel, "parcel")
encode, decode = _codec.encode, _codec.decode
