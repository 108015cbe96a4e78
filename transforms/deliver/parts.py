"""What names a part: all that is written for it is named by these, so that writing it again replaces it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """Rows of one stream from one pane of one cell.

    Attributes:
      stream: name of the stream.
      table: the table of its rows.
      hour: the cell's hour, microseconds UTC.
      bucket: the cell's bucket of devices.
      writer: who writes.
      pane: number of the writer's output for the cell.
      shard: hash of the devices within a pushed stream; 0 for stored ones.
      rest: how often what was left of the part was put back into the spool; 0 for the whole part.
      waited: whether it comes from the spool, so that its writer may have delivered others of the shard before. No part
        of its identity.
    """

    stream: str
    table: str
    hour: int
    bucket: int
    writer: str
    pane: int
    shard: int = 0
    rest: int = 0
    waited: bool = field(default=False, compare=False)

    @property
    def turn(self) -> tuple[int, str, int, int]:
        """What parts of a shard are ordered by: hour, writer, bucket, pane."""
        return self.hour, self.writer, self.bucket, self.pane
