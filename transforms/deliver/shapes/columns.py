"""Shape ``csv``: the columns of emnify's S3 exports, under their names and in their order.

Usage has the published 34 columns. Of the event export no complete header is public; these are the 23 columns that
emnify's and 1NCE's documents and tools name. Rows are typed; the format ``csv`` writes them as emnify does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

USAGE_COLUMNS = {
    "id": "usage_id", "event_start_timestamp": "start_time", "event_stop_timestamp": "end_time",
    "organisation_id": "organisation_id", "organisation_name": "organisation_name", "endpoint_id": "endpoint_id",
    "sim_id": "sim_id", "iccid": "iccid", "imsi": "imsi", "operator_id": "operator_id",
    "operator_name": "operator_name", "country_id": "country_id", "operator_country_name": "country",
    "traffic_type_id": "traffic_type_id", "traffic_type_description": "traffic_type", "volume": "volume_total",
    "volume_tx": "volume_tx", "volume_rx": "volume_rx", "cost": "cost", "currency_id": "currency_id",
    "currency_code": "currency", "currency_symbol": "currency_symbol", "ratezone_tariff_id": "tariff_id",
    "ratezone_tariff_name": "tariff_name", "ratezone_id": "ratezone_id", "ratezone_name": "ratezone_name",
    "endpoint_name": "endpoint_name", "endpoint_ip_address": "device_ip", "endpoint_tags": "tags",
    "endpoint_imei": "imei_raw", "msisdn_msisdn": "msisdn", "sim_production_date": "sim_production_date",
    "operator_mncs": "mnc", "country_mcc": "mcc",
}  # fmt: skip
"""emnify's column: ours, in emnify's order."""

EVENT_COLUMNS = {
    "id": "event_id", "timestamp": "event_time", "organisation_id": "organisation_id",
    "organisation_name": "organisation_name", "event_type_id": "event_type_id",
    "event_type_description": "event_type_received", "event_severity_id": "severity", "event_source_id": "source",
    "event_source_name": "source", "endpoint_id": "endpoint_id", "endpoint_name": "endpoint_name",
    "endpoint_imei": "imei_raw", "endpoint_ip_address": "device_ip", "endpoint_tags": "tags", "sim_id": "sim_id",
    "sim_iccid": "iccid", "msisdn_msisdn": "msisdn", "sim_production_date": "sim_production_date",
    "imsi_id": "sim_imsi_id", "imsi_imsi": "sim_imsi", "user_id": "user_id", "user_username": "user_username",
    "user_name": "user_name",
}  # fmt: skip
"""emnify's column: ours, in the documents' order."""

SEVERITY_IDS = {"INFO": 0, "WARN": 1, "CRITICAL": 2}
SOURCE_IDS = {"network": 0, "policy_control": 1, "api": 2}
SOURCE_NAMES = {"network": "Network", "policy_control": "Policy Control", "api": "API"}
TRAFFIC_NAMES = {"data": "Data", "sms": "SMS"}
"""emnify's words and ids for ours."""

_CODES: dict[str, tuple[Mapping[str, Any], pa.DataType]] = {
    "event_severity_id": (SEVERITY_IDS, pa.int32()),
    "event_source_id": (SOURCE_IDS, pa.int32()),
    "event_source_name": (SOURCE_NAMES, pa.string()),
    "traffic_type_description": (TRAFFIC_NAMES, pa.string()),
}


def flat_rows(content: str, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of ``usage`` or ``events`` with emnify's columns."""
    names = USAGE_COLUMNS if content == "usage" else EVENT_COLUMNS
    arrays = [_translated(name, rows.column(ours)) for name, ours in names.items()]
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def _translated(name: str, column: pa.Array) -> pa.Array:
    if name not in _CODES:
        return column
    codes, kind = _CODES[name]
    places = pc.index_in(column, value_set=pa.array(list(codes), pa.string()))
    return pa.array(list(codes.values()), kind).take(places)
