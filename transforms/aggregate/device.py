"""Partial sums per device and hour: ``device_usage_hourly`` and ``device_events_hourly``.

Sums are exact decimals; units and currencies are part of the key, so that they are never mixed. Records without a
device add up under their organisation. The result does not depend on the order of the rows. Rows of several panes and
writers add up: sums are sums of parts, first and last times combine by minimum and maximum.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from schemas.tables import DEVICE_EVENTS_HOURLY, DEVICE_USAGE_HOURLY, SCHEMA_VERSION, Table

_VOLUMES = ("volume_rx", "volume_tx", "volume_total")


def _latest(labels: tuple[str, ...], time: str, identity: str) -> list[pl.Expr]:
    """Labels of the group's latest record by time, then id."""
    order = pl.struct(time, identity)
    return [pl.col(name).get(order.arg_max()) for name in labels]


def _finish(groups: pl.DataFrame, table: Table, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Sorts the groups by their key and adds the columns of the writer."""
    groups = groups.sort("hour", *table.key)
    columns = []
    count = groups.height
    constants = {
        "writer": rows.column("writer")[0].as_py() if rows.num_rows else None,
        "pane": rows.column("pane")[0].as_py() if rows.num_rows else None,
        "schema_version": SCHEMA_VERSION,
    }
    for field in table.schema:
        if field.name in constants:
            columns.append(pa.repeat(pa.scalar(constants[field.name], field.type), count))
        else:
            columns.append(groups.get_column(field.name).to_arrow().cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)


def device_usage(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Sums usage per hour, device, SIM, operator, country, traffic type, tariff, rate zone and currency.

    Args:
      rows: rows of one writer and pane in the schema of the table ``usage``.

    Returns:
      One row per key, sorted by hour and key, in the schema of ``device_usage_hourly``. ``cost`` is null where no
      record of the group was priced; ``unpriced_records`` says how many were not.
    """
    table = DEVICE_USAGE_HOURLY
    frame = _frame(rows, ("hour", *table.key, *table.labels, *_VOLUMES, "cost", "end_time", "start_time", "usage_id"))
    frame = frame.with_columns(pl.coalesce("end_time", "start_time").alias("time"))
    groups = frame.group_by("hour", *table.key).agg(
        *(pl.col(name).sum() for name in _VOLUMES),
        pl.when(pl.col("cost").count() > 0).then(pl.col("cost").sum()).alias("cost"),
        pl.len().alias("records"),
        pl.col("cost").null_count().alias("unpriced_records"),
        *_latest(table.labels, "time", "usage_id"),
    )
    return _finish(groups, table, rows)


def device_events(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Counts events per hour, device, SIM, operator, country, technology, type, severity, outcome and reason.

    Args:
      rows: rows of one writer and pane in the schema of the table ``events``.

    Returns:
      One row per key, sorted by hour and key, in the schema of ``device_events_hourly``.
    """
    table = DEVICE_EVENTS_HOURLY
    frame = _frame(rows, ("hour", *table.key, *table.labels, "alert", "event_time", "event_id"))
    groups = frame.group_by("hour", *table.key).agg(
        pl.len().alias("events"),
        pl.col("alert").sum().alias("alerts"),
        pl.col("event_time").min().alias("first_time"),
        pl.col("event_time").max().alias("last_time"),
        *_latest(table.labels, "event_time", "event_id"),
    )
    return _finish(groups, table, rows)


def _frame(rows: pa.RecordBatch, names: tuple[str, ...]) -> pl.DataFrame:
    return pl.DataFrame(pa.Table.from_batches([rows.select(list(names))]))
