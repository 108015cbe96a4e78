"""The record schemas: what decode makes of a raw record, complete and lossless (secrets apart).

A *batch* is a `pyarrow.RecordBatch` in one of these schemas. Every received field is a column here, or inside
``detail`` (valid JSON), or in ``extra``: a JSON object that, merged recursively over the record that the columns
render, restores the input (unknown fields, texts that differ from the canonical ones, numbers that exceed a column's
scale). ``detail`` and ``extra`` are always valid JSON or null.
"""

from __future__ import annotations

import pyarrow as pa

from schemas.tables import COST, ID, TEXT, TIME, VOLUME

EVENTS_FEED, USAGE_FEED = 0, 1
FEEDS = ("events", "usage")
"""The two kinds of records; the index is the kind's number in keys and claims."""

HOUR = 3_600_000_000
"""Microseconds in an hour."""

FIRST_TIME = 946_684_800_000_000
"""2000-01-01T00:00:00Z in microseconds: the earliest valid time of a record."""
END_TIME = 4_102_444_800_000_000
"""2100-01-01T00:00:00Z in microseconds: times from here on are out of range."""

# Renderings, fullest first (the winner among duplicates is the one with the smallest number).
CURRENT, REST, LEGACY, CSV, FLAT = 0, 1, 2, 3, 4
RENDERINGS = ("current", "rest", "legacy", "csv", "flat")

_ORIGIN = (
    ("rendering", pa.int8()),  # index into RENDERINGS
    ("content_hash", pa.uint64()),  # xxh3_64 of the record's bytes as received
    ("source_file", pa.dictionary(pa.int32(), TEXT)),
    ("byte_offset", ID),
    ("byte_length", ID),
    ("ingest_time", TIME),
)

EVENT_RECORD = pa.schema(
    [
        pa.field("event_id", ID, nullable=False),
        pa.field("event_time", TIME, nullable=False),
        ("event_type_id", pa.int32()),
        ("event_type_received", TEXT),
        ("severity_id", pa.int32()),
        ("severity_received", TEXT),
        ("source_id", pa.int32()),
        ("source_received", TEXT),
        ("alert", pa.bool_()),
        ("description", TEXT),
        ("organisation_id", ID),
        ("organisation_name", TEXT),
        ("user_id", ID),
        ("user_username", TEXT),
        ("user_name", TEXT),
        ("endpoint_id", ID),
        ("endpoint_name", TEXT),
        ("device_ip", TEXT),
        ("tags", TEXT),
        ("imei_raw", TEXT),
        ("sim_id", ID),
        ("iccid", TEXT),
        ("msisdn", TEXT),
        ("sim_production_date", TIME),
        ("sim_imsi_id", ID),
        ("sim_imsi", TEXT),
        ("imsi_import_date", TIME),
        ("detail", TEXT),
        ("extra", TEXT),
        *_ORIGIN,
    ]
)

USAGE_RECORD = pa.schema(
    [
        pa.field("usage_id", ID, nullable=False),
        ("start_time", TIME),
        ("end_time", TIME),
        ("traffic_type_id", pa.int32()),
        ("traffic_type_received", TEXT),
        ("volume_rx", VOLUME),
        ("volume_tx", VOLUME),
        ("volume_total", VOLUME),
        ("cost", COST),
        ("currency_id", pa.int32()),
        ("currency", TEXT),
        ("currency_symbol", TEXT),
        ("organisation_id", ID),
        ("organisation_name", TEXT),
        ("endpoint_id", ID),
        ("endpoint_name", TEXT),
        ("device_ip", TEXT),
        ("tags", TEXT),
        ("imei_raw", TEXT),
        ("sim_id", ID),
        ("iccid", TEXT),
        ("msisdn", TEXT),
        ("sim_production_date", TIME),
        ("imsi", TEXT),
        ("imsi_id", ID),
        ("operator_id", ID),
        ("operator_name", TEXT),
        ("mnc", TEXT),
        ("mcc", TEXT),
        ("country_id", ID),
        ("country", TEXT),
        ("tariff_id", ID),
        ("tariff_name", TEXT),
        ("ratezone_id", ID),
        ("ratezone_name", TEXT),
        ("rat_type", pa.int32()),
        ("quota_id", ID),
        ("session_id", TEXT),
        ("extra", TEXT),
        *_ORIGIN,
    ]
)

RECORD_SCHEMAS = (EVENT_RECORD, USAGE_RECORD)
ID_COLUMN = ("event_id", "usage_id")
TIME_COLUMN = ("event_time", "end_time")
