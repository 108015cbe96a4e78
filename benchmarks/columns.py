"""The columns that both the job and the DuckDB peer produce, and by which their results are compared row by row.

These are the columns of the tables that plain SQL produces sensibly. Left out: ``detail`` and ``extra``, which restore
a record to the last field; lineage; IMEI check digits; and quotas and breakouts, whose details come in several shapes.
The job writes those as well: the comparison is in the peer's favour.
"""

from __future__ import annotations

EVENTS = (
    "hour", "event_id", "event_time", "event_type_id", "event_type", "event_type_received", "category", "severity",
    "source", "alert", "outcome", "reason", "reason_domain", "description", "device_state", "organisation_id",
    "organisation_name", "user_id", "user_username", "user_name", "endpoint_id", "endpoint_name", "device_ip", "tags",
    "imei_raw", "tac", "sim_id", "iccid", "iccid_19", "msisdn", "sim_production_date", "imsi", "sim_imsi_id",
    "sim_imsi", "imsi_import_date", "operator_id", "operator_name", "mcc", "mnc", "country", "country_iso", "rat",
    "apn", "region", "breakout_ip", "gtp_version", "lac", "ci", "serving_node", "session_id", "session_start",
    "session_seconds", "volume_rx", "volume_tx", "volume_total",
)  # fmt: skip

USAGE = (
    "hour", "usage_id", "start_time", "end_time", "traffic_type", "unit", "volume_rx", "volume_tx", "volume_total",
    "cost", "currency", "organisation_id", "organisation_name", "endpoint_id", "endpoint_name", "device_ip", "tags",
    "imei_raw", "tac", "sim_id", "iccid", "iccid_19", "msisdn", "sim_production_date", "imsi", "imsi_id",
    "operator_id", "operator_name", "mcc", "mnc", "country", "country_iso", "tariff_id", "tariff_name", "ratezone_id",
    "ratezone_name", "rat", "quota_id", "session_id", "traffic_type_id", "country_id", "currency_id",
    "currency_symbol",
)  # fmt: skip

DEVICE_USAGE_HOURLY = (
    "hour", "organisation_id", "endpoint_id", "sim_id", "operator_id", "mcc", "country_iso", "traffic_type", "unit",
    "tariff_id", "ratezone_id", "currency", "organisation_name", "endpoint_name", "tags", "iccid", "operator_name",
    "country", "tariff_name", "ratezone_name", "volume_rx", "volume_tx", "volume_total", "cost", "records",
    "unpriced_records",
)  # fmt: skip

DEVICE_EVENTS_HOURLY = (
    "hour", "organisation_id", "endpoint_id", "sim_id", "operator_name", "country_iso", "rat", "category", "severity",
    "event_type_id", "outcome", "reason", "reason_domain", "organisation_name", "endpoint_name", "tags", "event_type",
    "events", "alerts", "first_time", "last_time",
)  # fmt: skip

COLUMNS: dict[str, tuple[str, ...]] = {
    "events": EVENTS,
    "usage": USAGE,
    "device_usage_hourly": DEVICE_USAGE_HOURLY,
    "device_events_hourly": DEVICE_EVENTS_HOURLY,
}
"""The compared columns of each table."""
