"""The renderings of one record agree on the fields that they carry, whatever the types of their values."""

from __future__ import annotations

import functools
import json
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import CSV, CURRENT, FEEDS, FLAT, LEGACY, REST
from simulator import SimulationOptions, simulate
from simulator.renderings import HEADERS, odd, render
from transforms.decode import decode_one

ORIGIN = {"rendering", "content_hash", "byte_length", "extra", "kind"}
# Texts that differ between renderings by design; the ids beside them agree.
WORDS = {"severity_received"}


def carried(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if name not in ORIGIN | WORDS}


def records(event: dict[str, Any], usage: dict[str, Any]) -> list[tuple[int, bytes]]:
    whole = {**usage, "end_timestamp": "2024-02-15T14:56:15Z"}  # the other renderings have whole seconds
    return [(0, msgspec.json.encode(event)), (1, msgspec.json.encode(whole))]


@pytest.mark.parametrize("rendering", [CURRENT, REST, LEGACY, CSV])
def test_renderings_agree(rendering, event, usage, row):
    for feed, line in records(event, usage):
        current = row(feed, line)
        assert current["rendering"] == CURRENT
        if rendering == CURRENT:
            continue
        other = row(feed, render(line, feed, rendering), HEADERS[feed] if rendering == CSV else None)
        assert other["rendering"] == rendering
        assert carried(other).items() <= carried(current).items() | {("detail", other.get("detail"))}
        assert "extra" not in other


@functools.cache
def simulated() -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Lines of both feeds of a simulated day, as the simulator renders them currently."""
    options = SimulationOptions(
        devices=20, days=1, seed=9, malformed=0.0, odd=0.0, empty=0.0, renderings={"current": 1.0}, gzipped=0.0
    )
    with tempfile.TemporaryDirectory() as directory:
        simulate(options, Path(directory))
        events, usage = (
            tuple(line for path in sorted((Path(directory) / name).rglob("*.ndjson"))
                  for line in path.read_bytes().splitlines() if line)
            for name in FEEDS
        )  # fmt: skip
    return events, usage


@given(st.integers(0, 1), st.sampled_from([REST, LEGACY, CSV]), st.integers(0, 1 << 30))
def test_renderings_of_any_record_agree(feed: int, rendering: int, place: int) -> None:
    lines = simulated()[feed]
    line = lines[place % len(lines)]
    kind, current = decode_one(feed, line)
    other_kind, other = decode_one(
        feed, render(line, feed, rendering), HEADERS[feed] if rendering == CSV else None
    )  # fmt: skip
    assert kind == other_kind == feed
    whole, same = ({name: value for name, value in batch.to_pylist()[0].items() if value is not None}
                   for batch in (current, other))  # fmt: skip
    for columns in (whole, same):
        for name, value in columns.items():
            if isinstance(value, datetime):  # the other renderings have whole seconds
                columns[name] = value.replace(microsecond=0)
    # What the detail carries is in columns of its own; its text is that of the rendering.
    for name in carried(same).keys() - {"detail", "source_file", "byte_offset", "ingest_time"}:
        assert same[name] == whole[name], name


@pytest.mark.parametrize("salt", range(0, 210, 11))
def test_odd_types_agree(salt, event, usage, row):
    for feed, line in records(event, usage):
        record = json.loads(odd(line, salt))
        expected = {**json.loads(line), "id": int(record["id"])}
        assert carried(row(feed, record)) == carried(row(feed, expected))


def as_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: item if name == "detail" else as_texts(item) for name, item in value.items()}
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def test_numbers_as_texts(event, usage, row):
    for feed, record in enumerate((event, usage)):
        assert carried(row(feed, as_texts(record))) == carried(row(feed, record))


def test_texts_as_numbers(event, row):
    endpoint = {**event["endpoint"], "imei": 123456789012347}
    assert row(0, {**event, "endpoint": endpoint})["imei_raw"] == "123456789012347"


def test_flat_usage(usage, row):
    flat = {
        "id": 5,
        "ingestion_timestamp": "2026-10-27T15:18:23Z",
        "start_timestamp": "2026-10-27T15:00:00Z",
        "end_timestamp": "2026-10-27T15:17:23Z",
        "endpoint_id": 7,
        "endpoint_imei": "123456789012347",
        "operator_id": 4,
        "operator_country_id": 74,
        "operator_mnc": "07",
        "organisation_id": 1,
        "tariff_id": 2,
        "tariff_ratezone_id": 3,
        "traffic_type_id": 5,
        "volume_rx": 0.1,
        "volume_tx": "0.2",
        "volume_total": 0.3,
        "cost": 0.00188512,
        "ipcan_session_id": "722aeb56",
        "quota_id": 11,
        "rat_type": 6,
    }
    columns = row(0, flat)
    assert columns["kind"] == 1
    assert columns["rendering"] == FLAT
    assert (columns["ratezone_id"], columns["session_id"], columns["mnc"]) == (3, "722aeb56", "07")
    assert (str(columns["volume_total"]), str(columns["volume_tx"])) == ("0.300000", "0.200000")
    assert json.loads(columns["extra"]) == {
        "ingestion_timestamp": "2026-10-27T15:18:23Z",
        "volume": {"tx": "0.2"},
    }


def test_flat_event(row):
    columns = row(
        0,
        {
            "id": 5,
            "timestamp": "2026-10-27T15:17:23Z",
            "event_type_id": 3,
            "event_severity_id": 0,
            "detail_id": 2,
            "detail_country_id": 74,
            "detail_pdp_context_rat_type": 6,
            "detail_volume_rx": 0.5,
        },
    )
    assert columns["rendering"] == FLAT
    assert json.loads(columns["detail"]) == {
        "id": 2,
        "country": {"id": 74},
        "pdp_context": {"rat_type": 6},
        "volume": {"rx": 0.5},
    }
    assert "extra" not in columns


def test_csv_rows_with_quoted_newlines_and_unknown_columns(letter, row):
    header = ("id", "timestamp", "event_type_id", "description", "color")
    columns = row(0, b'"5","2026-10-27 15:17:23","1","a ""b""\nc","red"\r\n', header)
    assert columns["description"] == 'a "b"\nc'
    assert json.loads(columns["extra"]) == {"color": "red"}
    assert letter(0, b'"5","2026-10-27 15:17:23"', header).reason == "truncated"
    assert letter(0, b'"5","2026-10-27 15:17:23","1","a","b","c"', header).reason == "wrong_type"
    assert letter(0, b'"5"x,"2026-10-27 15:17:23","1","a","b"', header).reason == "not_json"
