"""What records look like: emnify's nested rendering gives a decoded record back, tables keep every column exactly."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.deliver.support import HOUR, rows_of
from transforms.classify import event_rows, usage_rows
from transforms.dead_letters import DeadLetter
from transforms.decode import decode_one
from transforms.deliver.shapes import emnify, json_lines

SAMPLES = sorted((Path(__file__).parents[2] / "data" / "samples").glob("*/*.json"))


def values(text: str) -> Any:
    """JSON values: numbers exact, times as instants, null equal to absent."""
    return _values(json.loads(text, parse_float=Decimal, parse_int=Decimal))


def _values(value: Any) -> Any:
    if isinstance(value, dict):
        members = {name: _values(member) for name, member in value.items()}
        return {name: member for name, member in members.items() if member is not None and member != {}}
    if isinstance(value, list):
        return [_values(member) for member in value]
    if isinstance(value, str) and len(value) > 18:
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return value
    return value


def rendered(feed: int, record: str) -> str:
    """A raw record, decoded, classified, and rendered as emnify does."""
    found = decode_one(feed, record.encode())
    assert not isinstance(found, DeadLetter), found.message
    kind, batch = found
    rows = (event_rows, usage_rows)[kind](batch, "w", 0)
    return str(json_lines("emnify", ("events", "usage")[kind], rows)[0])


def current(record: dict[str, Any]) -> dict[str, Any]:
    """A sample in the current stream's words: the documents' samples are the REST interface's."""
    if "event_severity" in record:
        record["event_severity"]["description"] = record["event_severity"]["description"].upper()
        source = record["event_source"]
        source["description"] = source.pop("name", None) or source["description"]
    return record


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_published_record_comes_back(path: Path) -> None:
    found = json.loads(path.read_text())
    for record in found if isinstance(found, list) else [found]:
        text = json.dumps(current(record))
        assert values(rendered(int(path.parent.name == "usage"), text)) == values(text)


EVENT = json.loads(emnify.json_lines("events", rows_of("events", {}))[0])
USAGE = json.loads(emnify.json_lines("usage", rows_of("usage", {}))[0])


@pytest.mark.parametrize(
    "change",
    [
        {"event_severity": {"id": 7, "description": "FATAL"}},
        {"event_severity": None},
        {"event_severity": {"id": 1, "description": "Warning"}},
        {"event_source": {"id": 9, "description": "Elsewhere"}},
        {"event_type": {"id": 999, "description": "New Type"}},
        {"event_type": {"id": 6}, "user": {"username": "bob"}, "description": "login failed"},
        {"event_type": {"id": 6}, "user": None, "description": "Authentication failed for user 'bob@example.org'"},
        {"user": {"id": 5, "username": "a@example.org", "name": "A"}},
        {"detail": "not {json"},
        {"detail": {"quota": {"volume": "-0.0012"}}},
        {"detail": [1, 2.50, {"a": "b"}]},
        {"endpoint": None, "sim": None, "imsi": None},
        {"endpoint": {"id": 5, "unknown": {"a": [1, None]}}},
        {"a_new_field": {"b": 12345678901234567890.12345}},
        {"description": 'quote " backslash \\ line\nfeed \u2028 </script> é😀\x7f\x01'},
        {"timestamp": "2021-11-15T20:00:00.123456Z"},
    ],
    ids=str,
)
def test_an_odd_event_comes_back(change: dict[str, Any]) -> None:
    text = json.dumps(EVENT | change)
    assert values(rendered(0, text)) == values(text)


@pytest.mark.parametrize(
    "change",
    [
        {"traffic_type": {"id": 7, "description": "Voice"}},
        {"traffic_type": {"id": 6, "description": "SMS"}, "volume": {"total": 1, "rx": 1, "tx": 0}},
        {"volume": None, "cost": None, "currency": None},
        {"volume": {"total": -1.5, "rx": None}},
        {"quota_id": 17, "rat_type": 6},
        {"operator": {"id": 5, "name": "T", "mnc": ["01", "07"], "country": {"mcc": "262"}}},
        {"endpoint": {"id": 5, "balance": 3.25}},
        {"end_timestamp": None},
    ],
    ids=str,
)
def test_an_odd_usage_record_comes_back(change: dict[str, Any]) -> None:
    text = json.dumps(USAGE | change)
    assert values(rendered(1, text)) == values(text)


@pytest.mark.parametrize("cost", ["0.12345678901", "12345678901234567890.1234567890", "1e-3", "0", "99999999999999"])
def test_numbers_come_back_exactly(cost: str) -> None:
    text = json.dumps(USAGE | {"cost": None}).replace('"cost": null', f'"cost": {cost}')
    assert values(rendered(1, text)) == values(text)


def test_the_rendering_is_emnifys_own() -> None:
    assert emnify.json_lines("events", rows_of("events", {}))[0] == (
        '{"id":10582804066,"timestamp":"2021-11-15T20:00:01Z",'
        '"event_type":{"id":3,"description":"Create PDP Context"},'
        '"event_severity":{"id":0,"description":"INFO"},"event_source":{"id":0,"description":"Network"},'
        '"alert":false,"description":"New PDP Context successfully activated.",'
        '"organisation":{"id":1234,"name":"Example Org"},"user":null,'
        '"endpoint":{"id":10360462,"name":"Demo Endpoint","ip_address":"10.10.10.10","tags":null,'
        '"imei":"1234567890123456"},'
        '"sim":{"id":2434589,"iccid":"8988303000123456789","msisdn":null,"production_date":null},'
        '"imsi":{"id":6466508,"imsi":"123456789123456","import_date":null},"detail":{"id":2,"name":"Telekom"}}'
    )


def test_objects_are_null_row_by_row() -> None:
    nothing = {"endpoint_id": None, "endpoint_name": None, "device_ip": None, "imei_raw": None}
    with_device, without = json_lines("emnify", "events", rows_of("events", {}, nothing))
    assert json.loads(with_device)["endpoint"]["id"] == 10360462
    assert json.loads(without)["endpoint"] is None


def test_extra_is_merged_over_the_record() -> None:
    extra = '{"endpoint":{"balance":1.50},"alert":1,"cost":1e2}'
    plain, merged = json_lines("emnify", "events", rows_of("events", {}, {"extra": extra}))
    record = json.loads(merged, parse_float=str)
    assert record["endpoint"] == {**json.loads(plain)["endpoint"], "balance": "1.50"}
    assert (record["alert"], record["cost"]) == (1, "1e2")


def test_table_has_every_column_and_exact_decimals() -> None:
    first, second = json_lines("table", "usage", rows_of("usage", {}, {"cost": Decimal("1.5"), "usage_id": 2}))
    assert json.loads(first)["cost"] == "0.0018851200"
    assert json.loads(second)["cost"] == "1.5000000000"
    assert set(json.loads(first)) == set(rows_of("usage", {}).schema.names)
    assert json.loads(first)["end_time"] == "2021-11-15T20:00:15.260Z"
    assert json.loads(first)["quota_id"] is None


@pytest.mark.parametrize("content", ["usage", "events", "device_usage_hourly"])
def test_a_row_reads_the_same_alone_and_among_others(content: str) -> None:
    other = {"hour": HOUR + 3_600_000_000, "organisation_name": "Other", "pane": 1, "ingest_time": HOUR + 1}
    other |= {"usage": {"cost": Decimal(3)}, "events": {"detail": None}}.get(content, {"cost": None})
    (alone,) = json_lines("table", content, rows_of(content, {}))
    among, _ = json_lines("table", content, rows_of(content, {}, other))
    assert json.loads(alone) == json.loads(among)


def test_no_rows_give_no_texts() -> None:
    for shape in ("table", "emnify", "csv"):
        assert json_lines(shape, "usage", rows_of("usage")).to_list() == []


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, st.none() | TEXT), min_size=1, max_size=4))
def test_any_text_survives(texts: list[tuple[str, str | None]]) -> None:
    rows = rows_of("events", *({"description": one, "endpoint_name": two} for one, two in texts))
    for shape, name in (("table", "endpoint_name"), ("emnify", None)):
        lines = json_lines(shape, "events", rows)
        assert not any("\n" in line for line in lines)
        records = [json.loads(line) for line in lines]
        assert [record["description"] for record in records] == [one for one, _ in texts]
        found = [record[name] if name else record["endpoint"]["name"] for record in records]
        assert found == [two for _, two in texts]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.decimals(-(10**17), 10**17, places=10), min_size=1, max_size=4))
def test_any_decimal_survives(costs: list[Decimal]) -> None:
    rows = rows_of("usage", *({"cost": cost, "volume_rx": cost.quantize(Decimal("0.000001"))} for cost in costs))
    for shape in ("table", "emnify"):
        records = [json.loads(line, parse_float=Decimal) for line in json_lines(shape, "usage", rows)]
        assert [Decimal(record["cost"]) for record in records] == costs
