"""The elements that pass between steps within a worker, and their coders.

Blocks and panes stay in memory: the steps that hand them on are fused, and only `KV<int, bytes>` crosses a shuffle.
Their coders exist for runners that break the fusion; their cheap size estimates keep Beam's sampling from encoding
whole blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import apache_beam as beam
import msgspec
import numpy as np
import pyarrow as pa

from transforms.dead_letters import DeadLetter
from transforms.deliver.selection import Selection
from transforms.gather.cells import Cell
from transforms.read.blocks import RawBlock


@dataclass(frozen=True)
class Block:
    """A raw block with its place in the run: number of its plan, number within the plan."""

    plan: int
    number: int
    raw: RawBlock


@dataclass(frozen=True)
class Pane:
    """Rows of one table that belong to one cell: the unit that is classified, aggregated, written and routed.

    Attributes:
      table: name of the rows' table (before classification: the kind's table, rows still in the record schema).
      cell: where the rows belong.
      number: number of the pane in its cell, from 0; the same in every run of the same writer.
      rows: up to `PANE_ROWS` rows.
    """

    table: str
    cell: Cell
    number: int
    rows: pa.RecordBatch = field(repr=False)

    def with_rows(self, table: str, rows: pa.RecordBatch) -> Pane:
        """The same pane of another table."""
        return replace(self, table=table, rows=rows)


@dataclass(frozen=True)
class Routed:
    """What a stream takes of a pane.

    Attributes:
      stream: name of the stream.
      table: table of the rows.
      cell: cell of the rows.
      number: number of the pane in its cell.
      received: rows that the stream's filter saw.
      selection: the rows that it selected; of panes that several streams take, made to text once.
    """

    stream: str
    table: str
    cell: Cell
    number: int
    received: int
    selection: Selection = field(repr=False)


class _BlockWire(msgspec.Struct):
    plan: int
    number: int
    feed: int
    path: str
    ingest_time: int
    framing: str
    header: tuple[str, ...] | None
    items: list[bytes]
    offsets: bytes
    empty: int
    faults: list[DeadLetter]


class BlockCoder(beam.coders.Coder):
    """Coder of `Block`: msgpack."""

    def encode(self, value: Block) -> bytes:
        """Returns the block as msgpack."""
        raw = value.raw
        return msgspec.msgpack.encode(
            _BlockWire(
                value.plan,
                value.number,
                raw.feed,
                raw.path,
                raw.ingest_time,
                raw.framing,
                raw.header,
                raw.items,
                np.asarray(raw.offsets, np.int64).tobytes(),
                raw.empty,
                raw.faults,
            )  # fmt: skip
        )

    def decode(self, encoded: bytes) -> Block:
        """Returns the block that `encode` made."""
        wire = msgspec.msgpack.decode(encoded, type=_BlockWire)
        fields = {name: getattr(wire, name) for name in _BlockWire.__struct_fields__ if name not in ("plan", "number")}
        fields["offsets"] = np.frombuffer(wire.offsets, np.int64)
        return Block(wire.plan, wire.number, RawBlock(**fields))

    def estimate_size(self, value: Block) -> int:
        """A guess: what the records span in the file."""
        offsets = value.raw.offsets
        return int(offsets[-1] - offsets[0]) if len(offsets) else 0

    def is_deterministic(self) -> bool:
        """True: equal blocks give equal bytes."""
        return True


def _write_rows(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue().to_pybytes()


def _read_rows(data: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(data) as reader:
        return reader.read_next_batch()


class PaneCoder(beam.coders.Coder):
    """Coder of `Pane`: a small msgpack head and an Arrow stream."""

    def encode(self, value: Pane) -> bytes:
        """Returns the pane as bytes."""
        return msgspec.msgpack.encode((value.table, tuple(value.cell), value.number, _write_rows(value.rows)))

    def decode(self, encoded: bytes) -> Pane:
        """Returns the pane that `encode` made."""
        table, cell, number, rows = msgspec.msgpack.decode(encoded, type=tuple[str, tuple[int, int, int], int, bytes])
        return Pane(table, Cell(*cell), number, _read_rows(rows))

    def estimate_size(self, value: Pane) -> int:
        """The rows' buffers."""
        return value.rows.nbytes

    def is_deterministic(self) -> bool:
        """True: equal panes give equal bytes."""
        return True


class RoutedCoder(beam.coders.Coder):
    """Coder of `Routed`: a small msgpack head and the selected rows as an Arrow stream."""

    def encode(self, value: Routed) -> bytes:
        """Returns the selection as bytes; what it shares with others stays behind."""
        head = (value.stream, value.table, tuple(value.cell), value.number, value.received)
        return msgspec.msgpack.encode((*head, _write_rows(value.selection.rows)))

    def decode(self, encoded: bytes) -> Routed:
        """Returns the selection that `encode` made."""
        wire = tuple[str, str, tuple[int, int, int], int, int, bytes]
        stream, table, cell, number, received, rows = msgspec.msgpack.decode(encoded, type=wire)
        return Routed(stream, table, Cell(*cell), number, received, Selection(_read_rows(rows)))

    def estimate_size(self, value: Routed) -> int:
        """A guess that does not take the rows out: a kilobyte each."""
        return value.selection.num_rows << 10

    def is_deterministic(self) -> bool:
        """True: equal selections give equal bytes."""
        return True


beam.coders.registry.register_coder(Block, BlockCoder)
beam.coders.registry.register_coder(Pane, PaneCoder)
beam.coders.registry.register_coder(Routed, RoutedCoder)
