"""Claim checks: what crosses a shuffle is a small claim; the record batch itself waits in a spill file.

Where workers share a disk, decode writes one spill file per block and hands out claims (path, offset, length); the
cell step maps the file and reads its slices in place. Where they do not (Dataflow), the batch itself travels,
lz4-compressed, in pieces of at most `INLINE_BYTES`. Only this module knows which. Bytes: one version byte, one kind
byte, twelve bytes that order the claims of a run (plan, block, number in the block), then the claim or the Arrow
stream.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import overload

import msgspec
import numpy as np
import pyarrow as pa

VERSION = 1
_SPILLED, _INLINE, _PACKED = b"S", b"I", b"P"
_HEAD = struct.Struct(">BcIII")
_ALIGNMENT = 64  # Arrow reads mapped buffers in place only where they are aligned

_BUFFER = 1 << 20
"""Bytes gathered before they are written: a slice is many small buffers."""

_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")

INLINE_BYTES = 8 << 20
"""Most bytes of a claim that carries its batch itself, a single row apart: shuffles are made for small elements, and
one of tens of megabytes is held whole wherever it passes. Usual slices have less than 4 MB.
"""

SMALL_BYTES = 32 << 10
"""Claims that carry so little are as well in memory as on a disk."""


class _Claim(msgspec.Struct, frozen=True, array_like=True):
    path: str
    offset: int
    length: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Claim)


class Spill:
    """Takes batches and packed rows, and returns claims for them: context manager over one spill file.

    The file gets its name when the block is complete (a temporary name, then a rename), so that a claim never points
    into half a file; a retried bundle replaces its own file by the same content.

    Args:
      path: where the spill file goes; None: no shared disk, the bytes themselves travel.
      plan: number of the block plan, and
      block: number of the block within it: they order the claims of a run.
    """

    def __init__(self, path: str | None, plan: int, block: int):
        self.path = path
        self._order = (plan, block)
        self._count = 0
        self._file: pa.NativeFile | None = None
        self._temporary = f"{path}.tmp-{os.getpid()}"

    def __enter__(self) -> Spill:
        if self.path is not None:
            self._file = pa.output_stream(self._temporary, compression=None, buffer_size=_BUFFER)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is None:
            return
        self._file.close()
        if kind is None:
            os.replace(self._temporary, str(self.path))
        else:
            os.unlink(self._temporary)

    def deposit(self, batch: pa.RecordBatch) -> bytes:
        """Returns the claim for a record batch."""
        if self._file is None:
            return self._head(_INLINE) + _packed(batch)
        start = self._begin()
        with pa.ipc.new_stream(self._file, batch.schema) as writer:
            writer.write_batch(batch)
        return self._claim(start)

    def deposit_pieces(self, batch: pa.RecordBatch) -> Iterator[bytes]:
        """Yields claims for a record batch, in order: one, or several where it would travel itself and is too large."""
        claim = self.deposit(batch)
        if claim[1:2] == _SPILLED or len(claim) <= INLINE_BYTES or batch.num_rows == 1:
            yield claim
            return
        rows = math.ceil(batch.num_rows / math.ceil(len(claim) / INLINE_BYTES))
        for start in range(0, batch.num_rows, rows):
            yield from self.deposit_pieces(batch.slice(start, rows))

    def deposit_packed(self, rows: np.ndarray) -> bytes:
        """Returns the claim for packed rows (a numpy array of any dtype, read back by `packed_of`)."""
        if self._file is None:
            return self._head(_PACKED) + rows.tobytes()
        start = self._begin()
        self._file.write(np.ascontiguousarray(rows).view(np.uint8))
        return self._claim(start)

    def _begin(self) -> int:
        """Moves to where the next deposit begins."""
        assert self._file is not None
        self._file.write(b"\0" * (-self._file.tell() % _ALIGNMENT))
        return int(self._file.tell())

    def _claim(self, start: int) -> bytes:
        """The claim for what was written from `start` on."""
        assert self._file is not None
        claim = _Claim(str(self.path), start, self._file.tell() - start)
        return self._head(_SPILLED) + _encoder.encode(claim)

    def _head(self, kind: bytes) -> bytes:
        self._count += 1
        return _HEAD.pack(VERSION, kind, *self._order, self._count)


def _packed(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_LZ4) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


@lru_cache(maxsize=256)
def _mapped(path: str, _identity: tuple[int, int]) -> pa.Buffer:
    with pa.memory_map(path) as file:
        return file.read_buffer()


def _map(path: str) -> pa.Buffer:
    status = os.stat(path)
    return _mapped(path, (status.st_ino, status.st_mtime_ns))


def _body(claim: bytes) -> pa.Buffer:
    if claim[0] != VERSION:
        raise ValueError(f"claim of unknown version {claim[0]}: this job is older than the one that wrote it")
    if claim[1:2] == _SPILLED:
        spilled = _decoder.decode(claim[_HEAD.size :])
        return _map(spilled.path).slice(spilled.offset, spilled.length)
    return pa.py_buffer(claim).slice(_HEAD.size)


def keep_claim(claim: bytes, path: str) -> bytes:
    """Returns a claim for the same record batch that is kept on this worker's disk: the claim itself where it is small.

    Args:
      claim: claim of a record batch.
      path: file for it, if it has to be moved; whoever asks removes it.
    """
    if claim[1:2] == _SPILLED or len(claim) <= SMALL_BYTES:
        return claim
    with Spill(path, 0, 0) as spill, pa.ipc.open_stream(_body(claim)) as reader:
        return spill.deposit(reader.read_next_batch())


def batch_of(claim: bytes, schema: pa.Schema) -> pa.RecordBatch:
    """Redeems a claim: the record batch, lifted to `schema` (columns that an older writer did not know are null)."""
    with pa.ipc.open_stream(_body(claim)) as reader:
        batch = reader.read_next_batch()
    return batch if batch.schema.equals(schema) else lift(batch, schema)


class Slices(Sequence[pa.RecordBatch]):
    """The record batches of claims, redeemed one by one when they are asked for.

    A batch of many columns costs tens of kilobytes of objects, however few its rows; a cell of a large run has
    thousands of them, which are never held at the same time.

    Args:
      claims: the claims, in order.
      schema: schema of all of them.
    """

    def __init__(self, claims: Sequence[bytes], schema: pa.Schema):
        self._claims, self._schema = claims, schema

    def __len__(self) -> int:
        return len(self._claims)

    @overload
    def __getitem__(self, place: int) -> pa.RecordBatch: ...
    @overload
    def __getitem__(self, place: slice) -> Slices: ...
    def __getitem__(self, place: int | slice) -> pa.RecordBatch | Slices:
        if isinstance(place, slice):
            return Slices(self._claims[place], self._schema)
        return batch_of(self._claims[place], self._schema)

    def columns(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yields of each batch only these columns, which is cheaper than the whole."""
        places = [self._schema.get_field_index(name) for name in names]
        options = pa.ipc.IpcReadOptions(included_fields=places)
        for claim in self._claims:
            with pa.ipc.open_stream(_body(claim), options=options) as reader:
                batch = reader.read_next_batch()
            # A claim of an older schema may have its columns elsewhere.
            yield batch if batch.schema.names == list(names) else batch_of(claim, self._schema).select(list(names))


def packed_of(claim: bytes, dtype: np.dtype) -> np.ndarray:
    """Redeems a claim of packed rows, read only."""
    return np.frombuffer(_body(claim), dtype=dtype)


def place_of(claim: bytes) -> tuple[int, int, int]:
    """Plan, block, and number in the block, of a claim."""
    _, _, plan, block, number = _HEAD.unpack_from(claim)
    return plan, block, number


def order_of(claim: bytes) -> bytes:
    """Returns a sort key that puts claims of the same run in one fixed order, whatever the order of arrival."""
    return claim[2 : _HEAD.size]


def lift(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Returns the batch in `schema`: columns by name, missing ones null, unknown ones left out."""
    names = set(batch.schema.names)
    columns = [
        batch.column(field.name).cast(field.type) if field.name in names else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
