"""Builds record batches from parsed JSON records, column by column, without the decoder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from schemas.records import EVENT_RECORD, USAGE_RECORD

_ORIGIN = {
    "rendering": 0,
    "content_hash": 1,
    "source_file": "feed.json",
    "byte_offset": 7,
    "byte_length": 100,
    "ingest_time": datetime(2026, 1, 1, tzinfo=UTC),
}


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    time = datetime.fromisoformat(text.replace("+0000", "+00:00"))
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _batch(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        values = [row.get(field.name, _ORIGIN.get(field.name)) for row in rows]
        if pa.types.is_decimal(field.type):
            values = [None if value is None else Decimal(str(value)) for value in values]
        if pa.types.is_dictionary(field.type):
            columns.append(pa.array(values, field.type.value_type).dictionary_encode().cast(field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _device(part: dict[str, Any]) -> dict[str, Any]:
    """The columns of organisation, device and SIM, which both kinds have."""
    return {
        "organisation_id": part["organisation"].get("id"),
        "organisation_name": part["organisation"].get("name"),
        "endpoint_id": part["endpoint"].get("id"),
        "endpoint_name": part["endpoint"].get("name"),
        "device_ip": part["endpoint"].get("ip_address"),
        "tags": part["endpoint"].get("tags"),
        "imei_raw": part["endpoint"].get("imei"),
        "sim_id": part["sim"].get("id"),
        "iccid": part["sim"].get("iccid"),
        "msisdn": part["sim"].get("msisdn"),
        "sim_production_date": _time(part["sim"].get("production_date")),
    }


def event(record: dict[str, Any]) -> dict[str, Any]:
    """One event record as a row of `EVENT_RECORD`."""
    part = {name: record.get(name) or {} for name in (
        "event_type", "event_severity", "event_source", "organisation", "user", "endpoint", "sim", "imsi",
    )}  # fmt: skip
    detail = record.get("detail")
    return {
        "event_id": record["id"],
        "event_time": _time(record["timestamp"]),
        "event_type_id": part["event_type"].get("id"),
        "event_type_received": part["event_type"].get("description"),
        "severity_id": part["event_severity"].get("id"),
        "severity_received": part["event_severity"].get("description"),
        "source_id": part["event_source"].get("id"),
        "source_received": part["event_source"].get("description") or part["event_source"].get("name"),
        "alert": None if record.get("alert") is None else bool(record["alert"]),
        "description": record.get("description"),
        "user_id": part["user"].get("id"),
        "user_username": part["user"].get("username"),
        "user_name": part["user"].get("name"),
        **_device(part),
        "sim_imsi_id": part["imsi"].get("id"),
        "sim_imsi": part["imsi"].get("imsi"),
        "imsi_import_date": _time(part["imsi"].get("import_date")),
        "detail": None if detail is None else json.dumps(detail),
    }


def usage(record: dict[str, Any]) -> dict[str, Any]:
    """One usage record as a row of `USAGE_RECORD`."""
    part = {name: record.get(name) or {} for name in (
        "traffic_type", "volume", "currency", "organisation", "operator", "tariff", "endpoint", "sim",
    )}  # fmt: skip
    country = part["operator"].get("country") or {}
    ratezone = part["tariff"].get("ratezone") or {}
    return {
        "usage_id": record["id"],
        "start_time": _time(record.get("start_timestamp")),
        "end_time": _time(record.get("end_timestamp")),
        "traffic_type_id": part["traffic_type"].get("id"),
        "traffic_type_received": part["traffic_type"].get("description"),
        "volume_rx": part["volume"].get("rx"),
        "volume_tx": part["volume"].get("tx"),
        "volume_total": part["volume"].get("total"),
        "cost": record.get("cost"),
        "currency_id": part["currency"].get("id"),
        "currency": part["currency"].get("code"),
        "currency_symbol": part["currency"].get("symbol"),
        **_device(part),
        "imsi": record.get("imsi"),
        "imsi_id": record.get("imsi_id"),
        "operator_id": part["operator"].get("id"),
        "operator_name": part["operator"].get("name"),
        "mnc": part["operator"].get("mnc"),
        "mcc": country.get("mcc"),
        "country_id": country.get("id"),
        "country": country.get("name"),
        "tariff_id": part["tariff"].get("id"),
        "tariff_name": part["tariff"].get("name"),
        "ratezone_id": ratezone.get("id"),
        "ratezone_name": ratezone.get("name"),
        "rat_type": record.get("rat_type"),
        "quota_id": record.get("quota_id"),
        "session_id": record.get("session_id"),
    }


def event_batch(*records: dict[str, Any]) -> pa.RecordBatch:
    """A batch of event records; each needs only the fields that matter."""
    return _batch(
        [event({"id": n, "timestamp": "2026-05-04T03:02:01Z"} | r) for n, r in enumerate(records)], EVENT_RECORD
    )


def usage_batch(*records: dict[str, Any]) -> pa.RecordBatch:
    """A batch of usage records; each needs only the fields that matter."""
    return _batch([usage({"id": number} | record) for number, record in enumerate(records)], USAGE_RECORD)


def raw_batch(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """A batch in a record schema from rows by column name."""
    return _batch(rows, schema)
