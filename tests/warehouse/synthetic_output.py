"""A small, consistent output directory, written without the pipeline: one writer, two devices, three hours.

`build_output` writes the same layout and the same ledger as a run does, so that the readers in `warehouse/` can be
tested alone.
"""

from __future__ import annotations

import datetime
import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from schemas.tables import TABLES

UTC = datetime.UTC
WRITER = "0123456789abcdef"
START = datetime.datetime(2026, 10, 28, 10, tzinfo=UTC)
METER, TRACKER = 1001, 1002
HOSTILE = "<script>alert('x')</script>&\"'</script>"
STREAM = "warnings"

_LINEAGE = {"writer": WRITER, "pane": 0, "source_file": "in/feed.ndjson", "byte_offset": 0, "schema_version": 1}
_METER = {
    "organisation_id": 7,
    "organisation_name": "Acme",
    "endpoint_id": METER,
    "endpoint_name": "meter-1",
    "sim_id": 501,
    "iccid": "8988303000123456789",
    "iccid_19": "8988303000123456789",
    "imei": "490154203237518",
    "imei_raw": "4901542032375189",
}
_TRACKER = {
    **_METER,
    "endpoint_id": TRACKER,
    "endpoint_name": "tracker-2",
    "sim_id": 502,
    "iccid": "89883030001234567905",
    "iccid_19": "8988303000123456790",
    "imei": "356938035643809",
    "imei_raw": "356938035643809",
}


def _at(minutes: int) -> datetime.datetime:
    return START + datetime.timedelta(minutes=minutes)


def _hour(moment: datetime.datetime) -> datetime.datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _event(number: int, minutes: int, type_id: int, name: str | None, category: str, **values: Any) -> dict[str, Any]:
    moment = _at(minutes)
    base = {
        "hour": _hour(moment), "event_id": number, "event_time": moment, "event_type_id": type_id, "event_type": name,
        "event_type_received": name, "category": category, "severity": "INFO", "severity_inferred": False,
        "source": "network", "alert": False, "outcome": "not_applicable", "ingest_time": START, **_LINEAGE,
    }  # fmt: skip
    return {**base, **values}


def event_rows(name: str = "Vodafone IT") -> list[dict[str, Any]]:
    """Events of three hours: attach, session, rejections, limits, failed logins, an unknown type."""
    network = {"operator_name": name, "country": "Italy", "country_iso": "IT", "mcc": "222", "rat": "4G"}
    rejected = {"outcome": "rejected", "severity": "WARN", **network}
    return [
        _event(1, 1, 2, "Update GPRS location", "network_attachment", outcome="accepted", device_state="attached",
               **_METER, **network),
        _event(2, 2, 3, "Create PDP Context", "data_connection", outcome="accepted", device_state="online",
               session_id="session-1", session_start=_at(2), **_METER, **network),
        _event(3, 62, 5, "Delete PDP Context", "data_connection", device_state="attached", session_id="session-1",
               session_start=_at(2), session_seconds=3600, volume_total=Decimal("3.5"), **_METER, **network),
        _event(4, 70, 3, "Create PDP Context", "data_connection", reason="quota_exhausted", reason_domain="account",
               alert=True, description="PDP Context Request rejected, because quota volume is exhausted.",
               **_METER, **rejected),
        _event(5, 71, 3, "Create PDP Context", "data_connection", reason="quota_exhausted", reason_domain="account",
               alert=True, **_METER, **rejected),
        _event(6, 68, 18, "Quota threshold reached", "limit_enforcement", severity="WARN", reason="quota_threshold",
               reason_domain="account", quota_traffic_type="data", quota_volume=Decimal("1.5"), alert=True,
               quota_threshold_percent=20, source="policy_control", **_METER),
        _event(7, 69, 19, "Quota used up", "limit_enforcement", severity="WARN", reason="quota_exhausted",
               reason_domain="account", quota_traffic_type="data", quota_volume=Decimal("-0.0012"), alert=True,
               source="policy_control", **_METER),
        _event(8, 5, 1, "Update location", "network_attachment", reason="roaming_not_allowed",
               reason_domain="connectivity", **_TRACKER, **rejected),
        _event(9, 6, 2, "Update GPRS location", "network_attachment", outcome="accepted", device_state="attached",
               **_TRACKER, **network),
        _event(10, 7, 6, "User authentication failed", "platform_authentication", outcome="failed", severity="WARN",
               source="api", reason="invalid_credentials", reason_domain="account", source_ip="203.0.113.9",
               user_username="jane.doe@example.org", user_name="Jane Doe", organisation_id=7, organisation_name="Acme"),
        _event(11, 8, 4711, None, "other", event_type_received="Brand new", description="Something new.", **_TRACKER),
        _event(12, 121, 1, "Update location", "network_attachment", reason="other", reason_domain="connectivity",
               description="Location update rejected, oddly.", **_TRACKER, **rejected),
    ]  # fmt: skip


def _usage(
    number: int, minutes: int, volume: str, cost: str | None, device: dict[str, Any], **values: Any
) -> dict[str, Any]:
    end = _at(minutes)
    base = {
        "hour": _hour(end), "usage_id": number, "start_time": _at(minutes - 10), "end_time": end,
        "traffic_type": "data", "traffic_type_id": 5, "unit": "MB", "volume_rx": Decimal(volume),
        "volume_tx": Decimal("0.5"), "volume_total": Decimal(volume) + Decimal("0.5"),
        "cost": None if cost is None else Decimal(cost), "currency": "EUR",
        "operator_id": 12, "operator_name": "Vodafone IT", "mcc": "222", "mnc": "10", "country": "Italy",
        "country_iso": "IT", "tariff_id": 3, "tariff_name": "Flex", "ratezone_id": 4, "ratezone_name": "Zone 1",
        "ingest_time": START, **_LINEAGE,
    }  # fmt: skip
    return {**base, **device, **values}


def usage_rows(name: str = "Vodafone IT") -> list[dict[str, Any]]:
    """Usage of the same hours: data in two currencies, an unpriced record, an SMS."""
    return [
        _usage(1, 12, "1.000001", "0.0100000001", _METER, session_id="session-1", operator_name=name),
        _usage(2, 58, "2.0", "0.02", _METER, session_id="session-1", operator_name=name),
        _usage(3, 20, "0.25", None, _TRACKER, operator_name=name),
        _usage(4, 61, "5", "0.33", _TRACKER, currency="USD", mcc="262", country="Germany", country_iso="DE",
               operator_name="T-Mobile"),
        _usage(5, 122, "1", "0.04", _TRACKER, traffic_type="sms", traffic_type_id=6, unit="SMS",
               volume_tx=Decimal(0), volume_total=Decimal(1), operator_name=name),
    ]  # fmt: skip


def aggregate_rows(table_name: str, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Partial sums as the pipeline makes them, the plain way."""
    table = TABLES[table_name]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[(row["hour"], *(row.get(column) for column in table.key))].append(row)
    result = []
    for key, members in groups.items():
        latest = members[-1]
        out: dict[str, Any] = dict(zip(("hour", *table.key), key, strict=True))
        out.update({column: latest.get(column) for column in table.labels})
        out.update({"writer": WRITER, "pane": 0, "schema_version": 1})
        if table_name == "device_usage_hourly":
            costs = [row["cost"] for row in members if row["cost"] is not None]
            out.update({name: sum(row[name] for row in members) for name in ("volume_rx", "volume_tx", "volume_total")})
            out.update(cost=sum(costs) if costs else None)
            out.update(records=len(members), unpriced_records=len(members) - len(costs))
        else:
            times = [row["event_time"] for row in members]
            out.update(events=len(members), alerts=sum(row["alert"] for row in members))
            out.update(first_time=min(times), last_time=max(times))
        result.append(out)
    return result


class _Builder:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: list[dict[str, Any]] = []

    def register(self, path: Path, table_or_stream: str, hour: datetime.datetime | None, row_count: int) -> None:
        data = path.read_bytes()
        self.files.append({
            "writer": WRITER, "table_or_stream": table_or_stream, "hour": hour,
            "path": str(path.relative_to(self.directory)), "row_count": row_count, "bytes": len(data),
            "checksum": f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}",
        })  # fmt: skip

    def part(self, table: str, rows: Sequence[dict[str, Any]], hour: datetime.datetime | None) -> None:
        folder = self.directory / "warehouse" / table
        name = f"part-{WRITER}-0.parquet"
        if hour is not None:
            folder = folder / f"dt={hour:%Y-%m-%d}" / f"hh={hour:%H}"
            name = f"part-{WRITER}-0-0.parquet"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows), schema=TABLES[table].schema), folder / name)
        self.register(folder / name, table, hour, len(rows))

    def by_hour(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        self.part(table, [], None)
        for hour in sorted({row["hour"] for row in rows}):
            self.part(table, [row for row in rows if row["hour"] == hour], hour)

    def stream(self, rows: Sequence[dict[str, Any]]) -> dict[datetime.datetime, int]:
        """The stream `STREAM`: warnings as gzip NDJSON, one file per hour."""
        selected = [row for row in rows if row["severity"] == "WARN"]
        for hour in sorted({row["hour"] for row in selected}):
            folder = self.directory / "streams" / STREAM / f"dt={hour:%Y-%m-%d}" / f"hh={hour:%H}"
            folder.mkdir(parents=True)
            lines = [json.dumps({"event_id": row["event_id"]}) for row in selected if row["hour"] == hour]
            path = folder / f"part-{WRITER}-0-0.ndjson.gz"
            path.write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode(), mtime=0))
            self.register(path, f"streams/{STREAM}", hour, len(lines))
        return _count_by_hour(selected)


def _count_by_hour(rows: Iterable[dict[str, Any]]) -> dict[datetime.datetime, int]:
    counts: dict[datetime.datetime, int] = defaultdict(int)
    for row in rows:
        counts[row["hour"]] += 1
    return counts


def _count(stage: str, feed: str, **values: Any) -> dict[str, Any]:
    names = (
        "received", "empty", "decoded", "duplicates", "conflicts", "dead_lettered", "filtered_out", "delivered",
        "pending",
    )  # fmt: skip
    numbers = dict.fromkeys(names, 0)
    clock = START + datetime.timedelta(days=1)
    return {
        "writer": WRITER, "stage": stage, "feed": feed, "unit": "records", "final": False, "published_time": clock,
        **numbers, **values,
    }  # fmt: skip


def _ledger(
    events: list[dict[str, Any]], usage: list[dict[str, Any]], selected: dict[datetime.datetime, int]
) -> list[dict[str, Any]]:
    rows = []
    for feed, records in (("events", events), ("usage", usage)):
        hours = _count_by_hour(records)
        duplicate_hour = min(hours, default=None)
        dead = 1 if feed == "events" and records else 0
        conflicts = 1 if feed == "events" and records else 0
        extra = (1 + conflicts) if records else 0  # a duplicate, and in the event feed a conflict
        rows.append(_count("feed", feed, received=len(records) + extra + dead + 1, empty=1, dead_lettered=dead,
                           decoded=len(records) + extra))  # fmt: skip
        for hour, number in sorted(hours.items()):
            first = hour == duplicate_hour
            rows.append(_count("cell", feed, hour=hour, pane=0, received=number + (extra if first else 0),
                               duplicates=1 if first else 0, conflicts=conflicts if first else 0, delivered=number,
                               final=True))  # fmt: skip
            if feed == "events":
                rows.append(_count("stream", feed, stream=STREAM, hour=hour, pane=0, received=number,
                                   filtered_out=number - selected[hour], delivered=selected[hour]))  # fmt: skip
    return rows


def _dead_letters(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not events:
        return []
    shared = {
        "feed": "events", "source_file": "in/feed.ndjson", "ingest_time": START, "writer": WRITER, "schema_version": 1,
    }  # fmt: skip
    return [
        {"id": "a", "kind": "malformed", "reason": "not_json", "message": "expected JSON", "payload": b"{oops",
         "payload_size": 5, "byte_offset": 10, **shared},
        {"id": "b", "kind": "conflict", "reason": "id_conflict", "message": "same id, other content", "payload": b"{}",
         "payload_size": 2, "byte_offset": 20, "record_id": 1, **shared},
    ]  # fmt: skip


def build_output(directory: Path, *, hostile: bool = False, empty: bool = False) -> Path:
    """Write the output directory; `hostile` puts markup into names, `empty` is a run over a feed without records."""
    name = HOSTILE if hostile else "Vodafone IT"
    events = [] if empty else event_rows(name)
    usage = [] if empty else usage_rows(name)
    if hostile:
        for row in (*events, *usage):
            names = ("endpoint_name", "organisation_name", "description")
            row.update({column: HOSTILE for column in names if column in row})
    builder = _Builder(directory)
    builder.by_hour("events", events)
    builder.by_hour("usage", usage)
    builder.by_hour("device_usage_hourly", aggregate_rows("device_usage_hourly", usage))
    builder.by_hour("device_events_hourly", aggregate_rows("device_events_hourly", events))
    builder.part("dead_letters", _dead_letters(events), None)
    selected = builder.stream(events)
    times = [row["event_time"] for row in events]
    builder.part("inputs", [{
        "writer": WRITER, "feed": "events", "file": "in/feed.ndjson", "bytes": 12345, "records": len(events) + 2,
        "dead_letters": 1, "first_time": min(times, default=None), "last_time": max(times, default=None),
    }], None)  # fmt: skip
    builder.part("ledger", _ledger(events, usage, selected), None)
    builder.part("ledger_files", list(builder.files), None)
    commit_files(directory, builder.files[-1])
    return directory


def commit_files(directory: Path, listed: dict[str, Any]) -> None:
    """Write the commit file that vouches for the writer's part of ledger_files."""
    path = directory / "warehouse" / "_commits" / f"{WRITER}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({name: listed[name] for name in ("writer", "path", "bytes", "checksum")}))


def relist(directory: Path, more: dict[str, tuple[str, int]] | None = None) -> None:
    """List all listed files as they are now, with sizes and checksums, those that are gone left out, and commit.

    `more` adds files: path to table or stream, and row count.
    """
    part = directory / "warehouse" / "ledger_files" / f"part-{WRITER}-0.parquet"
    old = pq.read_table(part, partitioning=None).to_pylist()
    builder = _Builder(directory)
    for row in old:
        path = directory / row["path"]
        if path.is_file():
            rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else row["row_count"]
            builder.register(path, row["table_or_stream"], row["hour"], rows)
    for name, (table_or_stream, count) in (more or {}).items():
        builder.register(directory / name, table_or_stream, None, count)
    builder.part("ledger_files", list(builder.files), None)
    commit_files(directory, builder.files[-1])


def write_run_file(directory: Path, **stream: Any) -> None:
    """Write run.json with one stream; `stream` replaces fields of its status."""
    status = {
        "name": STREAM, "title": "Warnings", "content": "events", "destination": "files", "state": "running",
        "delivered": 8, "pending": 0, "filtered_out": 4, "dead_lettered": 0, "error": None, "remedy": None, **stream,
    }  # fmt: skip
    run = {"writer": WRITER, "finished": 1793527204000000, "streams": [status]}
    (directory / "run.json").write_text(json.dumps(run))
