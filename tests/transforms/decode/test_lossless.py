"""Every published record decodes, and what was decoded restores what was received."""

from __future__ import annotations

import copy
import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from schemas.records import CURRENT, RECORD_SCHEMAS, REST
from schemas.tables import TIME
from transforms.decode.paths import COLUMNS

TIMES = ("timestamp", "start_timestamp", "end_timestamp", "production_date", "import_date")


def restore(kind: int, columns: dict[str, Any]) -> dict[str, Any]:
    """The nested record of a decoded row: its columns, ``detail``, and ``extra`` merged over them."""
    record: dict[str, Any] = {}
    for path, column in COLUMNS[kind].items():
        value = columns.get(column)
        if value is None:
            continue
        target = record
        for name in path[:-1]:
            target = target.setdefault(name, {})
        target[path[-1]] = load(value) if column == "detail" else value
    return merge(record, load(columns.get("extra", "{}")))


def load(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def merge(record: Any, extra: Any) -> Any:
    if not (isinstance(record, dict) and isinstance(extra, dict)):
        return extra
    return {**record, **{name: merge(record.get(name), value) for name, value in extra.items()}}


def plain(value: Any, name: str = "") -> Any:
    """JSON values for comparison: numbers by value, times by instant, null equal to absent."""
    if isinstance(value, dict):
        members = {key: plain(item, key) for key, item in value.items()}
        return {key: item for key, item in members.items() if item is not None}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and name in TIMES:
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return value
    return value


def same(received: dict[str, Any], columns: dict[str, Any]) -> None:
    exact = load(json.dumps(received))
    assert plain(restore(columns["kind"], columns)) == plain(exact)


def test_samples_decode(samples, row):
    for kind, records in enumerate(samples):
        for record in records:
            columns = row(kind, record)
            assert columns["kind"] == kind
            assert columns[("event_id", "usage_id")[kind]] == record["id"]
            if columns["rendering"] in (CURRENT, REST):
                same(record, columns)


def test_samples_need_no_extra(samples, row):
    assert [record["id"] for kind in (0, 1) for record in samples[kind] if "extra" in row(kind, record)] == []


def test_batches_have_the_record_schema(samples, block):
    for kind, records in enumerate(samples):
        decoded = block(kind, [json.dumps(record).encode() for record in records] * 60)
        batch = decoded.batches[kind]
        assert batch.schema.equals(RECORD_SCHEMAS[kind])
        batch.validate(full=True)
        assert batch.num_rows == len(records) * 60
        assert decoded.batches[1 - kind] is None
        assert decoded.received == {kind: len(records) * 60, 1 - kind: 0}


CHANGES: list[tuple[str, Any]] = [
    ("event_severity.description", "Strange"),
    ("event_severity.id", 17),
    ("event_severity", {"id": 1}),
    ("event_severity", {"description": "WARN"}),
    ("event_severity", "WARN"),
    ("event_source.description", "Martian"),
    ("event_type.id", 4711),
    ("event_type.description", None),
    ("user", {"id": 1, "username": "a@b.c", "name": "N"}),
    ("user", {}),
    ("endpoint", None),
    ("endpoint", {}),
    ("endpoint.firmware", {"version": [1, 2.50, None]}),
    ("endpoint.tags", ["a", "b"]),
    ("endpoint.id", "7"),
    ("endpoint.balance", 1.25),
    ("endpoint.name", 5),
    ("sim.production_date", "in autumn"),
    ("sim.production_date", ""),
    ("imsi", "295050901064821"),
    ("imsi.import_date", "2019-10-10T12:14:27.123456789Z"),
    ("detail", None),
    ("detail", {}),
    ("detail", 'a text, no JSON {"volume": 500.000000, "expiry_date": 2022-03-31T00:00:00Z}'),
    ("detail", [1, {"a": "ü€"}]),
    ("id", "10582804066"),
    ("id", 12.0),
    ("id", 2**63 - 1),
    ("alert", None),
    ("alert", "true"),
    ("alert", 7),
    ("keen", {"id": "x", "created_at": "2021-10-27T15:17:38.065Z"}),
    ("timestamp", "2026-10-27T15:17:23.123456789Z"),
]


@pytest.mark.parametrize(("path", "value"), CHANGES)
def test_odd_events_are_lossless(path, value, event, row):
    changed = replaced(event, path, value)
    same(changed, row(0, changed))


USAGE_CHANGES: list[tuple[str, Any]] = [
    ("cost", None),
    ("cost", "0.5"),
    ("cost", 0.30000000000000004),
    ("cost", 123456789012345678),
    ("cost", 1e-30),
    ("volume", {"total": -0.5, "rx": -0.25}),
    ("volume.rx", "0.172848"),
    ("volume", {}),
    ("volume", None),
    ("traffic_type", {"id": 7, "description": "Voice"}),
    ("traffic_type.id", "5"),
    ("traffic_type.description", "data"),
    ("currency", {"id": 9, "code": "CHF"}),
    ("endpoint.balance", 3),
    ("imsi", {"id": 5, "imsi": "295050901064821"}),
    ("imsi", 295050901064821),
    ("operator.mnc", [{"id": 1, "mnc": "07"}]),
    ("operator.mnc", [{"id": 1, "mnc": "07"}, {"id": 2, "mnc": "08"}]),
    ("operator.country.iso_code", "de"),
    ("start_timestamp", None),
    ("start_timestamp", "soon"),
    ("rat_type", 6),
    ("quota_id", 12),
    ("tariff.ratezone", {}),
]


@pytest.mark.parametrize(("path", "value"), USAGE_CHANGES)
def test_odd_usage_is_lossless(path, value, usage, row):
    changed = replaced(usage, path, value)
    same(changed, row(1, changed))


def test_more_digits_than_a_float_holds(usage, row):
    line = json.dumps(usage).encode().replace(b"0.00188512", b"1234567890123456789.12345678905")
    columns = row(1, line)
    assert columns["cost"] == Decimal("1234567890123456789.1234567890")  # half even
    assert load(columns["extra"]) == {"cost": Decimal("1234567890123456789.12345678905")}


def test_a_raw_newline_in_a_text_is_kept(event, row):
    line = json.dumps(event).encode().replace(b"New location successfully", b"New location\n\tsuccessfully")
    assert row(0, line)["description"] == "New location\n\tsuccessfully received"


def test_a_raw_newline_in_detail_leaves_valid_json(event, row):
    line = json.dumps(event).encode().replace(b"Telekom", b"Tele\nkom")
    assert json.loads(row(0, line)["detail"])["name"] == "Tele\nkom"


def test_times_are_instants(event, row):
    forms = ("2026-10-27T15:17:23Z", "2026-10-27T15:17:23.000+0000", "2026-10-27 15:17:23", "2026-10-27T17:17:23+02:00")
    assert len({row(0, {**event, "timestamp": form})["event_time"] for form in forms}) == 1
    assert pa.types.is_timestamp(TIME)


def replaced(record: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(record)
    target = changed
    *parents, last = path.split(".")
    for name in parents:
        target = target[name]
    target[last] = value
    return changed
