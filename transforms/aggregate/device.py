"""Partial sums per device and hour: ``device_usage_hourly`` and ``device_events_hourly``.

Sums are exact decimals; units and currencies are part of the key, so that they are never mixed. Records without a
device add up under their organisation. The result does not depend on the order of the rows. Rows of several panes and
writers add up: sums are sums of parts, first and last times combine by minimum and maximum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from schemas.tables import DEVICE_EVENTS_HOURLY, DEVICE_USAGE_HOURLY, SCHEMA_VERSION, Table

_VOLUMES = ("volume_rx", "volume_tx", "volume_total")
_LATEST = "latest"


def device_usage(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Sums usage per hour, device, SIM, operator, country, traffic type, tariff, rate zone and currency.

    Args:
      rows: rows of one writer and pane in the schema of the table ``usage``.

    Returns:
      One row per key, by hour, organisation, device and latest record, in the schema of ``device_usage_hourly``.
      ``cost`` is null where no record of the group was priced; ``unpriced_records`` says how many were not.
    """
    table = DEVICE_USAGE_HOURLY
    times = pc.coalesce(rows.column("end_time"), rows.column("start_time"))
    sums = [
        *(pl.col(name).sum() for name in _VOLUMES),
        pl.when(pl.col("cost").count() > 0).then(pl.col("cost").sum()).alias("cost"),
        pl.len().alias("records"),
        pl.col("cost").null_count().alias("unpriced_records"),
    ]
    return _aggregate(rows, table, (*_VOLUMES, "cost"), sums, times, rows.column("usage_id"))


def device_events(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Counts events per hour, device, SIM, operator, country, technology, type, severity, outcome and reason.

    Args:
      rows: rows of one writer and pane in the schema of the table ``events``.

    Returns:
      One row per key, by hour, organisation, device and latest record, in the schema of ``device_events_hourly``.
    """
    sums = [
        pl.len().alias("events"),
        pl.col("alert").sum().alias("alerts"),
        pl.col("event_time").min().alias("first_time"),
        pl.col("event_time").max().alias("last_time"),
    ]
    times, ids = rows.column("event_time"), rows.column("event_id")
    return _aggregate(rows, DEVICE_EVENTS_HOURLY, ("alert", "event_time"), sums, times, ids)


def _aggregate(
    rows: pa.RecordBatch, table: Table, summed: tuple[str, ...], sums: list[pl.Expr], times: pa.Array, ids: pa.Array
) -> pa.RecordBatch:
    """Groups by hour and key; labels are those of each group's latest record by time, then id."""
    order = np.lexsort((ids.to_numpy(), times.cast(pa.int64()).fill_null(0).to_numpy()))
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    frame = pl.DataFrame(pa.Table.from_batches([rows.select(["hour", *table.key, *summed])]))
    frame = frame.with_columns(pl.Series(_LATEST, rank))
    groups = frame.group_by("hour", *table.key).agg(*sums, pl.col(_LATEST).max())
    groups = groups[_order(groups)]
    latest = pa.array(order[groups.get_column(_LATEST).to_numpy()])
    constants = {"schema_version": SCHEMA_VERSION} | {
        name: rows.column(name)[0].as_py() if rows.num_rows else None for name in ("writer", "pane")
    }
    columns = []
    for field in table.schema:
        if field.name in constants:
            columns.append(pa.repeat(pa.scalar(constants[field.name], field.type), groups.height))
        elif field.name in table.labels:
            columns.append(rows.column(field.name).take(latest))
        else:
            columns.append(groups.get_column(field.name).to_arrow().cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)


def _order(groups: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.intp]]:
    """By hour, organisation, device (none first), and the group's latest record: unique, and no text is compared."""
    keys = (_LATEST, "endpoint_id", "organisation_id", "hour")
    return np.lexsort([groups.get_column(key).to_physical().fill_null(-1).to_numpy() for key in keys])
