"""Ids of what is delivered. None comes from a clock or a random number: the same record always has the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import xxhash

from schemas.tables import TABLES

_IDS = {"events": "event_id", "usage": "usage_id"}
_ORGANISATION = 1 << 62
"""Added to an organisation's id where a row has no device, so that the two kinds of id do not meet."""


def record_ids(stream: str, table: str, rows: pa.RecordBatch) -> list[str]:
    """Delivery ids of rows: ``<stream>/<table>/<id>``; see `transforms.deliver.push.batch.Batch.ids`."""
    head = f"{stream}/{table}/"
    if table in _IDS:
        return [f"{head}{number}" for number in rows.column(_IDS[table]).to_pylist()]
    names = ("writer", "hour", "pane", *(name for name in TABLES[table].key if name != "hour"))
    columns = [rows.column(name).cast(pa.int64()) if name == "hour" else rows.column(name) for name in names]
    values = zip(*(column.to_pylist() for column in columns), strict=True)
    return [head + xxhash.xxh3_128_hexdigest(repr(value).encode()) for value in values]


def device_keys(rows: pa.RecordBatch) -> list[str]:
    """Key of each row's device: its endpoint's id, else its organisation's."""
    pairs = zip(rows.column("endpoint_id").to_pylist(), rows.column("organisation_id").to_pylist(), strict=True)
    return [f"organisation-{owner}" if endpoint is None else str(endpoint) for endpoint, owner in pairs]


def shards_of(rows: pa.RecordBatch, shards: int) -> npt.NDArray[np.int64]:
    """Shard of each row: a fixed hash of its device (else of its organisation), modulo the number of shards."""
    if shards == 1:
        return np.zeros(rows.num_rows, np.int64)
    endpoints = pl.Series(rows.column("endpoint_id"))
    owners = pl.Series(rows.column("organisation_id")).fill_null(0) + _ORGANISATION
    mixed = endpoints.fill_null(owners).to_numpy().astype(np.uint64)
    # splitmix64's finaliser: neighbouring ids are spread over the shards.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(shards)).astype(np.int64)


def shard_of_hour(hour: int, shards: int) -> int:
    """Shard of all rows of an hour (microseconds UTC), where order between hours is of no interest."""
    return xxhash.xxh3_64_intdigest(str(hour).encode()) % shards


def digest(ids: Sequence[str]) -> str:
    """Digest of ids in order, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest("\n".join(ids).encode())


def key_of(stream: str, shard: int) -> int:
    """Key of a stream's shard in a shuffle: 63 bits, the same in every process."""
    return xxhash.xxh3_64_intdigest(f"{stream}/{shard}".encode()) >> 1
