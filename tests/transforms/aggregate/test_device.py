"""Partial sums per device and hour: exact, complete, independent of order and of how records fall into batches."""

import datetime
from collections import defaultdict
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.tables import COST, DEVICE_EVENTS_HOURLY, DEVICE_USAGE_HOURLY, EVENTS, USAGE, VOLUME
from transforms.aggregate import device_events, device_usage

START = datetime.datetime(2026, 5, 4, 3, 30, tzinfo=datetime.UTC)


def batch(schema, rows):
    constants = {"writer": "w", "pane": 2}
    return pa.RecordBatch.from_arrays(
        [pa.array([row.get(field.name, constants.get(field.name)) for row in rows], field.type) for field in schema],
        schema=schema,
    )


def few(*values):
    return st.sampled_from(values)


@st.composite
def usage_lists(draw):
    size = draw(st.integers(0, 30))
    rows = []
    for number in range(size):
        minutes = draw(st.integers(0, 90))
        end = draw(few(START + datetime.timedelta(minutes=minutes), None))
        time = end or START
        rows.append({
            "hour": time.replace(minute=0), "usage_id": number * 7919 % 101, "start_time": START, "end_time": end,
            "organisation_id": draw(few(1, 2)), "organisation_name": draw(few("A", "B")),
            "endpoint_id": draw(few(10, 11, None)), "endpoint_name": draw(few("x", "y", None)),
            "mcc": draw(few("262", None)), "traffic_type": draw(few("data", "sms")), "unit": draw(few("MB", "SMS")),
            "currency": draw(few("EUR", "USD", None)), "tags": draw(few("t", None)),
            "volume_rx": draw(st.none() | st.decimals(-10, 10**12, places=6)), "volume_tx": draw(few(Decimal("0.1"))),
            "volume_total": draw(st.decimals(0, 10**9, places=6)),
            "cost": draw(st.none() | st.decimals(0, 10**6, places=10)),
        })  # fmt: skip
    return rows


@st.composite
def event_lists(draw):
    rows = []
    for number in range(draw(st.integers(0, 30))):
        time = START + datetime.timedelta(minutes=draw(st.integers(0, 90)))
        rows.append({
            "hour": time.replace(minute=0), "event_id": number * 7919 % 101, "event_time": time,
            "organisation_id": draw(few(1, 2)), "endpoint_id": draw(few(10, None)),
            "event_type_id": draw(few(1, 3, None)),
            "operator_name": draw(few("O2", "Telekom", None)), "severity": draw(few("INFO", "WARN")),
            "reason": draw(few(None, "other")), "alert": draw(few(True, False, None)),
            "event_type": draw(few("a", "b")), "endpoint_name": draw(few("x", "y", None)),
        })  # fmt: skip
    return rows


def groups(table, rows):
    found = defaultdict(list)
    for row in rows:
        found[row["hour"], *(row.get(name) for name in table.key)].append(row)
    return found


def check_usage(result, rows):
    """Compares with sums made by plain Python."""
    found = result.to_pylist()
    expected = groups(DEVICE_USAGE_HOURLY, rows)
    assert {(row["hour"], *(row[name] for name in DEVICE_USAGE_HOURLY.key)) for row in found} == set(expected)
    assert len(found) == len(expected)
    for row in found:
        members = expected[row["hour"], *(row[name] for name in DEVICE_USAGE_HOURLY.key)]
        for name in ("volume_rx", "volume_tx", "volume_total"):
            assert row[name] == sum(member[name] or 0 for member in members)
        prices = [member["cost"] for member in members if member["cost"] is not None]
        assert row["cost"] == (sum(prices) if prices else None)
        assert (row["records"], row["unpriced_records"]) == (len(members), len(members) - len(prices))
        latest = max(members, key=lambda member: (member["end_time"] or member["start_time"], member["usage_id"]))
        assert all(row[name] == latest.get(name) for name in DEVICE_USAGE_HOURLY.labels)
        assert (row["writer"], row["pane"], row["schema_version"]) == ("w", 2, 1)


@given(usage_lists(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_usage(rows, random):
    result = device_usage(batch(USAGE.schema, rows))
    assert result.schema.equals(DEVICE_USAGE_HOURLY.schema, check_metadata=True)
    check_usage(result, rows)
    shuffled = random.sample(rows, len(rows))
    assert device_usage(batch(USAGE.schema, shuffled)).equals(result)


@given(event_lists(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_events(rows, random):
    result = device_events(batch(EVENTS.schema, rows))
    assert result.schema.equals(DEVICE_EVENTS_HOURLY.schema, check_metadata=True)
    expected = groups(DEVICE_EVENTS_HOURLY, rows)
    assert result.num_rows == len(expected)
    for row in result.to_pylist():
        members = expected[row["hour"], *(row[name] for name in DEVICE_EVENTS_HOURLY.key)]
        times = [member["event_time"] for member in members]
        assert (row["events"], row["alerts"]) == (len(members), sum(bool(member["alert"]) for member in members))
        assert (row["first_time"], row["last_time"]) == (min(times), max(times))
        latest = max(members, key=lambda member: (member["event_time"], member["event_id"]))
        assert all(row[name] == latest.get(name) for name in DEVICE_EVENTS_HOURLY.labels)
    shuffled = random.sample(rows, len(rows))
    assert device_events(batch(EVENTS.schema, shuffled)).equals(result)


def combine(table, parts, extremes):
    """Adds partial sums up as a reader of the table does."""
    totals = {}
    for row in (row for part in parts for row in part.to_pylist()):
        key = (row["hour"], *(row[name] for name in table.key))
        total = totals.setdefault(key, dict.fromkeys((*table.sums, *extremes)))
        for name in table.sums:
            if row[name] is not None:
                total[name] = (total[name] or 0) + row[name]
        for name, choose in extremes.items():
            total[name] = row[name] if total[name] is None else choose(total[name], row[name])
    return totals


@given(st.data())
@settings(deadline=None, max_examples=50)
@pytest.mark.parametrize(
    ("lists", "source", "table", "aggregate", "extremes"),
    [
        (usage_lists(), USAGE, DEVICE_USAGE_HOURLY, device_usage, {}),
        (event_lists(), EVENTS, DEVICE_EVENTS_HOURLY, device_events, {"first_time": min, "last_time": max}),
    ],
    ids=["usage", "events"],
)
def test_sums_do_not_depend_on_how_records_fall_into_batches(lists, source, table, aggregate, extremes, data):
    rows = data.draw(lists)
    places = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    parts = [[row for row, place in zip(rows, places, strict=True) if place == part] for part in range(4)]
    split = [aggregate(batch(source.schema, part)) for part in parts]
    whole = [aggregate(batch(source.schema, rows))]
    assert combine(table, split, extremes) == combine(table, whole, extremes)


def test_rows_are_sorted_by_their_key():
    rows = [
        {"hour": START.replace(minute=0), "usage_id": n, "start_time": START, "end_time": START,
         "organisation_id": n % 3, "endpoint_id": n % 2 or None, "volume_rx": Decimal(1), "cost": None}
        for n in range(12)
    ]  # fmt: skip
    found = device_usage(batch(USAGE.schema, rows)).to_pylist()
    keys = [(row["organisation_id"], row["endpoint_id"] or 0) for row in found]
    assert keys == sorted(keys)


def test_sums_are_exact_beyond_a_double():
    big, small = Decimal("12345678901234567890.123456"), Decimal("0.000001")
    rows = [
        {"hour": START, "usage_id": n, "start_time": START, "end_time": START, "volume_rx": value, "cost": value}
        for n, value in enumerate((big, small, big))
    ]
    found = device_usage(batch(USAGE.schema, rows)).to_pylist()[0]
    assert (found["volume_rx"], found["cost"]) == (big + big + small, big + big + small)
    assert (DEVICE_USAGE_HOURLY.schema.field("volume_rx").type, DEVICE_USAGE_HOURLY.schema.field("cost").type) == (
        VOLUME, COST,
    )  # fmt: skip
