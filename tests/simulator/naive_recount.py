"""Counts a simulated feed again, naively and from its files alone: ``json.loads`` per line, Decimals, dictionaries."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import xxhash

from simulator.renderings import CSV, CURRENT, LEGACY, REST

_FIRST, _END = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


class Bad(Exception):
    """A line that is no record; the argument is the reason."""


@dataclass
class Recount:
    """Counts by feed (0 events, 1 usage) and the winning record of each id."""

    empty: Counter[int] = field(default_factory=Counter)
    dead: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    decoded: Counter[int] = field(default_factory=Counter)
    duplicates: Counter[int] = field(default_factory=Counter)
    conflicts: Counter[int] = field(default_factory=Counter)
    winners: tuple[list[dict[str, Any]], list[dict[str, Any]]] = field(default_factory=lambda: ([], []))


def recount(directory: Path) -> Recount:
    """Reads every file below ``events`` and ``usage``."""
    result = Recount()
    copies: dict[tuple[int, int], list[tuple[int, int, dict[str, Any]]]] = defaultdict(list)
    for feed, name in enumerate(("events", "usage")):
        for path in sorted((directory / name).rglob("*.*")):
            for rendering, line, record in _records(path):
                if record is None and not line.strip():
                    result.empty[feed] += 1
                    continue
                try:
                    record = record or _load(line)
                    kind = 0 if "event_type" in record or "event_type_id" in record else 1
                    key = _normalised(record, kind, rendering)
                except Bad as bad:
                    result.dead[feed][bad.args[0]] += 1
                    continue
                result.decoded[kind] += 1
                copies[kind, key["id"]].append((rendering, xxhash.xxh3_64_intdigest(line), key))
    for (kind, _), found in copies.items():
        found.sort(key=lambda copy: copy[:2])
        winner = found[0][2]
        result.winners[kind].append(winner)
        for _, _, loser in found[1:]:
            same = all(winner[name] == loser[name] for name in winner["compared"])
            (result.duplicates if same else result.conflicts)[kind] += 1
    return result


def _records(path: Path) -> Any:
    """(rendering, bytes, record or None) of each line, array element or row."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if path.suffix == ".csv":
        for row in csv.DictReader(io.StringIO(content.decode(), newline="")):
            yield CSV, b"row", row
    elif path.suffix == ".json":
        for record in json.loads(content, parse_float=Decimal):
            yield REST, b"element", record
    else:
        rendering = LEGACY if path.name.startswith("legacy") else CURRENT
        for line in content.split(b"\n")[:-1]:
            yield rendering, line, None


def _load(line: bytes) -> dict[str, Any]:
    if b"\0" in line:
        raise Bad("nul_bytes")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise Bad("invalid_utf8") from None
    if len(line) > 16 * 2**20:
        raise Bad("too_large")
    if "[" * 500 in text:
        raise Bad("too_deep")
    try:
        record = json.loads(text, parse_float=Decimal)
    except json.JSONDecodeError as error:
        # A literal, or the fraction or exponent of a number, may be cut as well.
        rest = re.fullmatch(r"[a-z]+|-|\.|[eE][+-]?", text[error.pos :])
        cut = text.startswith("{") and (error.pos >= len(text) or "Unterminated" in error.msg or rest)
        raise Bad("truncated" if cut else "not_json") from None
    if not isinstance(record, dict):
        raise Bad("wrong_type")
    return record


def _time(value: Any) -> datetime:
    if not isinstance(value, str):
        raise Bad("wrong_type")
    text = value.replace(" ", "T").replace("+0000", "Z")
    time = datetime.fromisoformat(text if text.endswith("Z") else text + "Z")
    if not _FIRST <= time < _END:
        raise Bad("time_range")
    return time


def _id(value: Any) -> int:
    if value is None:
        raise Bad("missing_field")
    if isinstance(value, float) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        raise Bad("number_range")
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.isdigit():
        return int(value)
    raise Bad("wrong_type")


def _number(value: Any) -> int | None:
    return None if value in (None, "") else int(value)


def _normalised(record: dict[str, Any], kind: int, rendering: int) -> dict[str, Any]:
    """The fields that count; ``compared`` names those in which a conflict shows."""
    number = _id(record.get("id"))
    if rendering == CSV:
        return _event_row(record, number) if kind == 0 else _usage_row(record, number)
    time = record.get("timestamp") if kind == 0 else record.get("end_timestamp")
    if time is None:
        raise Bad("missing_field")
    common = {
        "id": number,
        "time": _time(time),
        "second": _time(time).replace(microsecond=0),
        "endpoint": _number((record.get("endpoint") or {}).get("id")),
        "organisation": record["organisation"]["id"],
    }
    if kind == 0:
        return {
            **common,
            "type": record["event_type"]["id"],
            "severity": record["event_severity"]["id"],
            "source": record["event_source"]["id"],
            "alert": bool(record["alert"]),
            "text": record["description"],
            "detail": record.get("detail"),
            "user": (record.get("user") or {}).get("username"),
            "compared": ("type", "second", "endpoint", "organisation", "severity"),
        }
    return {
        **common,
        "sms": record["traffic_type"]["id"] == 6,
        **{name: Decimal(record["volume"][name]) for name in ("rx", "tx", "total")},
        "cost": None if record.get("cost") is None else Decimal(record["cost"]),
        "currency": record["currency"]["code"],
        "mcc": record["operator"]["country"]["mcc"],
        "compared": ("second", "endpoint", "sms", "rx", "tx", "total", "cost", "currency"),
    }


def _event_row(row: dict[str, str], number: int) -> dict[str, Any]:
    return {
        "id": number,
        "time": _time(row["timestamp"]),
        "second": _time(row["timestamp"]),
        "endpoint": _number(row["endpoint_id"]),
        "organisation": int(row["organisation_id"]),
        "type": int(row["event_type_id"]),
        "severity": int(row["event_severity_id"]),
        "source": int(row["event_source_id"]),
        "alert": False,
        "text": "",
        "detail": None,
        "user": row["user_username"] or None,
        "compared": ("type", "second", "endpoint", "organisation", "severity"),
    }


def _usage_row(row: dict[str, str], number: int) -> dict[str, Any]:
    return {
        "id": number,
        "time": _time(row["event_stop_timestamp"]),
        "second": _time(row["event_stop_timestamp"]),
        "endpoint": _number(row["endpoint_id"]),
        "organisation": int(row["organisation_id"]),
        "sms": row["traffic_type_id"] == "6",
        "rx": Decimal(row["volume_rx"]),
        "tx": Decimal(row["volume_tx"]),
        "total": Decimal(row["volume"]),
        "cost": Decimal(row["cost"]) if row["cost"] else None,
        "currency": row["currency_code"],
        "mcc": row["country_mcc"],
        "compared": ("second", "endpoint", "sms", "rx", "tx", "total", "cost", "currency"),
    }
