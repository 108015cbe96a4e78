"""The same record in the REST, legacy and CSV renderings, and current records with odd but valid types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from simulator.options import RENDERINGS

CURRENT, REST, LEGACY, CSV = range(len(RENDERINGS))
EVENTS, USAGE = 0, 1

USAGE_HEADER = (
    "id", "event_start_timestamp", "event_stop_timestamp", "organisation_id", "organisation_name", "endpoint_id",
    "sim_id",
    "iccid", "imsi", "operator_id", "operator_name", "country_id", "operator_country_name", "traffic_type_id",
    "traffic_type_description", "volume", "volume_tx", "volume_rx", "cost", "currency_id", "currency_code",
    "currency_symbol",
    "ratezone_tariff_id", "ratezone_tariff_name", "ratezone_id", "ratezone_name", "endpoint_name",
    "endpoint_ip_address",
    "endpoint_tags", "endpoint_imei", "msisdn_msisdn", "sim_production_date", "operator_mncs", "country_mcc",
)  # fmt: skip
"""Columns of emnify's S3 usage files."""

EVENT_HEADER = (
    "id", "timestamp", "organisation_id", "organisation_name", "event_type_id", "event_type_description",
    "event_severity_id",
    "event_source_id", "event_source_name", "endpoint_id", "endpoint_name", "endpoint_imei", "endpoint_ip_address",
    "endpoint_tags", "sim_id", "sim_iccid", "msisdn_msisdn", "sim_production_date", "imsi_id", "imsi_imsi", "user_id",
    "user_username", "user_name",
)  # fmt: skip
"""The known columns of emnify's S3 event files: neither description nor alert nor detail are among them."""

_HUGE = 1 << 60  # added to ids: beyond the whole numbers that a float holds

HEADERS = (EVENT_HEADER, USAGE_HEADER)


def csv_line(values: tuple[str | None, ...]) -> bytes:
    """One CSV row: every value in double quotes, null as nothing."""
    return ",".join("" if value is None else '"' + value.replace('"', '""') + '"' for value in values).encode()


def render(line: bytes, feed: int, rendering: int) -> bytes:
    """A line of the current rendering in another one; for REST, an element of a JSON array."""
    record = msgspec.json.decode(line)
    if rendering == CSV:
        return csv_line(_usage_row(record) if feed == USAGE else _event_row(record))
    written = _rest(record) if rendering == REST else _legacy(record)
    return msgspec.json.encode(written)


def odd(line: bytes, salt: int) -> bytes:
    """A valid record of the current rendering with the odd types that occur in the wild; ``salt`` chooses which."""
    record = msgspec.json.decode(line)
    if salt % 7 == 0:
        record["id"] += _HUGE
    if salt % 2:
        record["id"] = str(record["id"])
    key = "timestamp" if "timestamp" in record else "end_timestamp"
    if salt % 3 == 0:
        record[key] = _plain_time(record[key])
    elif salt % 3 == 1:
        record[key] = _zoned_time(record[key])
    if salt % 5 == 0:
        record["custom_field"] = {"note": "ü", "values": [1, 2.5, None]}
    if record.get("volume"):
        record["volume"] = {name: str(value) for name, value in record["volume"].items()}
    if record.get("endpoint"):
        record["endpoint"]["id"] = str(record["endpoint"]["id"])
        record["endpoint"]["firmware"] = "1.2.3"
    if "alert" in record:
        record["alert"] = int(record["alert"])
    return msgspec.json.encode(record)


def _plain_time(text: str) -> str:
    return text[:19].replace("T", " ")


def _zoned_time(text: str) -> str:
    return (text[:-1] if "." in text else text[:-1] + ".000") + "+0000"


_TIMES = ("timestamp", "start_timestamp", "end_timestamp", "production_date", "import_date")
_DATED = ("sim", "imsi")


def _times(record: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The record with ``change`` applied to its times, and to those of its SIM and IMSI."""
    changed: dict[str, Any] = {
        key: change(value) if key in _TIMES and value else value for key, value in record.items()
    }
    for name in _DATED:
        part = changed.get(name)
        if isinstance(part, dict):  # the IMSI of a usage record is a text
            changed[name] = _times(part, change)
    return changed


def _rest(record: dict[str, Any]) -> dict[str, Any]:
    record = {key: value for key, value in _times(record, _zoned_time).items() if value is not None}
    if "event_severity" in record:
        severity = record["event_severity"]
        record["event_severity"] = {**severity, "description": severity["description"].capitalize()}
    return record


def _legacy(record: dict[str, Any]) -> dict[str, Any]:
    record = _times(record, _plain_time)
    if "event_source" in record:
        record["alert"] = int(record["alert"])
        record["event_source"] = {"id": record["event_source"]["id"], "name": record["event_source"]["description"]}
        context = record["detail"].get("pdp_context", {}) if isinstance(record["detail"], dict) else {}
        for name in {"pdp_context_id", "gtp_version", "rx_teid"} & context.keys():
            context[name] = str(context[name])
    return record


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _common(record: dict[str, Any]) -> dict[str, str | None]:
    endpoint, sim = record["endpoint"] or {}, record["sim"] or {}
    made = sim.get("production_date")
    return {
        "id": str(record["id"]), "organisation_id": str(record["organisation"]["id"]),
        "organisation_name": record["organisation"]["name"], "endpoint_id": _text(endpoint.get("id")),
        "endpoint_name": endpoint.get("name"), "endpoint_ip_address": endpoint.get("ip_address"),
        "endpoint_tags": endpoint.get("tags"), "endpoint_imei": endpoint.get("imei"), "sim_id": _text(sim.get("id")),
        "msisdn_msisdn": sim.get("msisdn"), "sim_production_date": _plain_time(made) if made else None,
    }  # fmt: skip


def _usage_row(record: dict[str, Any]) -> tuple[str | None, ...]:
    operator, tariff, volume = record["operator"], record["tariff"], record["volume"]
    country, zone, currency = operator["country"], tariff["ratezone"], record["currency"]
    values = {
        **_common(record), "event_start_timestamp": _plain_time(record["start_timestamp"]),
        "event_stop_timestamp": _plain_time(record["end_timestamp"]), "iccid": record["sim"]["iccid"],
        "imsi": record["imsi"],
        "operator_id": str(operator["id"]), "operator_name": operator["name"], "country_id": str(country["id"]),
        "operator_country_name": country["name"], "traffic_type_id": str(record["traffic_type"]["id"]),
        "traffic_type_description": record["traffic_type"]["description"], "volume": f"{volume['total']:.6f}",
        "volume_tx": f"{volume['tx']:.6f}", "volume_rx": f"{volume['rx']:.6f}",
        "cost": None if record["cost"] is None else f"{record['cost']:.10f}", "currency_id": str(currency["id"]),
        "currency_code": currency["code"], "currency_symbol": currency["symbol"],
        "ratezone_tariff_id": str(tariff["id"]),
        "ratezone_tariff_name": tariff["name"], "ratezone_id": str(zone["id"]), "ratezone_name": zone["name"],
        "operator_mncs": operator["mnc"], "country_mcc": country["mcc"],
    }  # fmt: skip
    return tuple(values[name] for name in USAGE_HEADER)


def _event_row(record: dict[str, Any]) -> tuple[str | None, ...]:
    imsi, user = record["imsi"] or {}, record["user"] or {}
    values = {
        **_common(record), "timestamp": _plain_time(record["timestamp"]),
        "event_type_id": str(record["event_type"]["id"]),
        "event_type_description": record["event_type"]["description"],
        "event_severity_id": str(record["event_severity"]["id"]), "event_source_id": str(record["event_source"]["id"]),
        "event_source_name": record["event_source"]["description"], "sim_iccid": (record["sim"] or {}).get("iccid"),
        "imsi_id": _text(imsi.get("id")), "imsi_imsi": imsi.get("imsi"), "user_id": _text(user.get("id")),
        "user_username": user.get("username"), "user_name": user.get("name"),
    }  # fmt: skip
    return tuple(values[name] for name in EVENT_HEADER)
