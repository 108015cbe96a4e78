"""One record that stands for nothing that happened: to try a destination with, and what it says it takes."""

from __future__ import annotations

import json

import pyarrow as pa

from schemas.records import EVENTS_FEED, USAGE_FEED
from schemas.tables import DEVICE_EVENTS_HOURLY, DEVICE_USAGE_HOURLY
from transforms.aggregate import device_events, device_usage
from transforms.classify import event_rows, usage_rows
from transforms.decode import decode_one

WRITER = "test"
MARK = "data-streamer-test"
"""Name of the device and of the organisation of the sample record; their ids are 0, and the record's id is 1."""

_WHO = {
    "organisation": {"id": 0, "name": MARK},
    "endpoint": {"id": 0, "name": MARK, "ip_address": None, "tags": None, "imei": None},
    "sim": {"id": 0, "iccid": "8988303000000000000", "msisdn": None, "production_date": None},
}
_EVENT = {
    "id": 1,
    "timestamp": "2026-01-01T00:00:00Z",
    "event_type": {"id": 0, "description": "Generic"},
    "event_severity": {"id": 0, "description": "INFO"},
    "event_source": {"id": 2, "description": "API"},
    "alert": False,
    "description": "Test record of the Data Streamer: it stands for nothing that happened.",
    **_WHO,
}
_USAGE = {
    "id": 1,
    "start_timestamp": "2026-01-01T00:00:00Z",
    "end_timestamp": "2026-01-01T00:00:01Z",
    "traffic_type": {"id": 5, "description": "Data"},
    "volume": {"total": 0, "rx": 0, "tx": 0},
    "cost": 0,
    "currency": {"id": 1, "code": "EUR", "symbol": "€"},
    **_WHO,
}


def sample_rows(content: str) -> pa.RecordBatch:
    """The sample record as one row.

    Args:
      content: the table: events, usage, or one of their aggregates.
    """
    kind = USAGE_FEED if content in ("usage", DEVICE_USAGE_HOURLY.name) else EVENTS_FEED
    decoded = decode_one(kind, json.dumps(_USAGE if kind == USAGE_FEED else _EVENT).encode())
    assert isinstance(decoded, tuple), decoded
    rows = usage_rows(decoded[1], WRITER, 0) if kind == USAGE_FEED else event_rows(decoded[1], WRITER, 0)
    if content == DEVICE_USAGE_HOURLY.name:
        return device_usage(rows)
    return device_events(rows) if content == DEVICE_EVENTS_HOURLY.name else rows
