"""A batch: what one request carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from schemas.tables import TABLES
from transforms.deliver import text
from transforms.deliver.destination import StreamDefinition
from transforms.deliver.push import identity

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may carry.

    Attributes:
      records: most records.
      bytes: most bytes, of records and what surrounds each.
      record_bytes: most bytes of one record; a larger one is a dead letter.
      overhead: bytes that surround each record in a request.
    """

    records: int
    bytes: int
    record_bytes: int
    overhead: int = 0


class Batch:
    """Records of one stream, in order.

    Attributes:
      stream: the stream.
      table: the table of its rows.
      rows: the rows.
      texts: the JSON text of each row in the stream's shape.
      ids: the delivery ids, where they are known already.
      prepared: what a destination has made of it ahead of its request; None where it has not.
    """

    def __init__(
        self,
        stream: StreamDefinition,
        table: str,
        rows: pa.RecordBatch,
        texts: pl.Series,
        ids: list[str] | None = None,
    ):
        self.stream, self.table, self.rows, self.texts = stream, table, rows, texts
        self.prepared: object = None
        if ids is not None:
            self.ids = ids

    def __len__(self) -> int:
        return self.rows.num_rows

    def slice(self, start: int, length: int) -> Batch:
        """`length` records from `start` on."""
        ids = self.__dict__.get("ids")
        return Batch(
            self.stream,
            self.table,
            self.rows.slice(start, length),
            self.texts.slice(start, length),
            None if ids is None else ids[start : start + length],
        )

    def take(self, places: Places) -> Batch:
        """The records at these places."""
        if len(places) == len(self):
            return self
        return Batch(self.stream, self.table, self.rows.take(pa.array(places)), self.texts.gather(places))

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Batches of one stream as one."""
        first = batches[0]
        if len(batches) == 1:
            return first
        rows = pa.concat_batches([batch.rows for batch in batches])
        return cls(first.stream, first.table, rows, pl.concat([batch.texts for batch in batches]))

    @cached_property
    def ids(self) -> list[str]:
        """The delivery id of each record: the same whenever and however often it is sent; receivers drop repeats by it.

        Form: ``<stream>/<table>/<record id>``, of aggregates ``<stream>/<table>/<digest of writer, hour, pane, key>``.
        """
        return identity.record_ids(self.stream.name, self.table, self.rows)

    @cached_property
    def keys(self) -> list[str]:
        """The device of each record, for partitions and order: its endpoint's id, else ``organisation-<id>``."""
        return identity.device_keys(self.rows)

    @cached_property
    def digest(self) -> str:
        """Digest (32 hex digits) of the delivery ids: the batch's own id, the same whenever it is sent."""
        return identity.digest(self.ids)

    @property
    def content(self) -> str:
        """``event``, ``usage`` or the name of an aggregate table: what a record is called in headers."""
        return {"events": "event"}.get(self.table, self.table)

    def array(self) -> bytes:
        """All records as one JSON array."""
        return text.json_array(self.texts)

    def lines(self) -> bytes:
        """All records as lines of JSON."""
        return bytes(text.ndjson(self.texts))

    def column(self, name: str) -> list[object]:
        """Values of a column of the rows; all None where the table has no such column."""
        if name not in TABLES[self.table].schema.names:
            return [None] * len(self)
        return self.rows.column(name).to_pylist()
