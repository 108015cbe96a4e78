"""The masks of all streams against a naive evaluation of each row, and what compiling shares."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.streams import Stream
from schemas.tables import STREAM_CONTENTS, TABLES
from tests.transforms.route.support import streams_of
from transforms.route import compile_filters, describe, explain_row
from transforms.route.predicates import Router

NAMES = [None, "Meter 1", "meter  1", " METER 1", "Straße", "STRASSE", "7", "08", ""]
IDS = [None, 1, 7, 8, 2**53]
VALUES: dict[str, list[Any]] = {
    "event_type_id": [None, 0, 1, 3, 5, 66],
    "category": [None, "other", "data_connection", "network_attachment"],
    "severity": [None, "INFO", "WARN", "CRITICAL"],
    "alert": [None, True, False],
    "source": [None, "network", "policy_control", "api"],
    "outcome": [None, "accepted", "rejected", "failed", "not_applicable"],
    "reason": [None, "quota_missing", "throttled", "other"],
    "reason_domain": [None, "device", "account"],
    "organisation_id": IDS,
    "organisation_name": NAMES,
    "endpoint_id": IDS,
    "endpoint_name": NAMES,
    "iccid": [None, "8988303000000123456", "89883030000001234569", "8988303000000123457"],
    "tags": [None, "", "demo", "Demo, arctic  sensor", "demolition", ",,"],
    "operator_id": IDS,
    "operator_name": NAMES,
    "country_iso": [None, "DE", "US", "NO"],
    "mcc": [None, "262", "310", "901"],
    "rat": [None, "4G", "NB-IoT", "2G"],
    "traffic_type": [None, "data", "sms"],
    "currency": [None, "EUR", "USD"],
}
GIVEN: dict[str, list[Any]] = {
    "event_type": [0, "1", 3, "Create PDP Context", "delete_pdp context", 66],
    "category": ["other", "data_connection", "Network Attachment"],
    "severity": ["INFO", "warn", "Warning", "CRITICAL"],
    "min_severity": ["INFO", "WARN", "CRITICAL"],
    "alert": [True, False],
    "source": ["network", "Policy Control"],
    "outcome": ["accepted", "rejected"],
    "reason": ["quota_missing", "other"],
    "domain": ["device", "account"],
    "organisation": [1, 7, "7", "meter 1", "strasse"],
    "endpoint": [1, 7, "7", "08", "meter 1", "8988303000000123456", 89883030000001234569],
    "tag": ["demo", "Arctic Sensor"],
    "operator": [8, "8", "STRASSE"],
    "country": ["DE", "us", "Norway", 310, "901"],
    "rat": ["4g", "NB-IoT"],
    "traffic_type": ["data", "SMS"],
    "currency": ["eur", "USD"],
}
COLUMNLESS = {
    "device_events_hourly": {"operator": [1, 7, 8], "endpoint": [89883030000001234569, "8988303000000123456"],
                             "country": [310, "901"]},
}  # fmt: skip
KEYS_OF = {
    "events": set(GIVEN) - {"traffic_type", "currency"},
    "usage": {"organisation", "endpoint", "tag", "operator", "country", "rat", "traffic_type", "currency"},
    "device_usage_hourly": {"organisation", "endpoint", "tag", "operator", "country", "traffic_type", "currency"},
    "device_events_hourly": set(GIVEN) - {"traffic_type", "currency", "alert", "source"},
}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _same(name: Any, other: Any) -> bool:
    return other is not None and " ".join(str(name).casefold().split()) == " ".join(other.casefold().split())


def _entity(kind: str, value: Any, row: dict[str, Any]) -> bool:
    text = str(value)
    if kind == "endpoint" and text.startswith("89") and len(text) in (19, 20):
        return row.get("iccid") is not None and row["iccid"][:19] == text[:19]
    identity = text.isdecimal() and str(int(text)) == text and row.get(f"{kind}_id") == int(text)
    return identity or (isinstance(value, str) and _same(value, row.get(f"{kind}_name")))


def _matches(key: str, value: Any, row: dict[str, Any]) -> bool:
    names = {"create pdp context": 3, "delete_pdp context": 5}
    countries = {"norway": "NO"}
    if key == "event_type":
        return bool(row["event_type_id"] == (names.get(str(value).lower()) or int(value)))
    if key in ("severity", "min_severity"):
        order = [None, "INFO", "WARN", "CRITICAL"]
        wanted = {"WARNING": "WARN"}.get(value.upper(), value.upper())
        if key == "severity":
            return bool(row["severity"] == wanted)
        return order.index(row["severity"]) >= order.index(wanted)
    if key in ("organisation", "endpoint", "operator"):
        return _entity(key, value, row)
    if key == "tag":
        return any(_same(value, tag) for tag in (row["tags"] or "").split(","))
    if key == "country":
        if str(value).isdecimal():
            return bool(row.get("mcc") == str(value))
        return bool(row["country_iso"] == countries.get(value.lower(), value.upper()))
    column = "reason_domain" if key == "domain" else key
    if isinstance(value, bool) or row[column] is None:
        return row[column] is value
    return bool(row[column].lower() == value.lower().replace(" ", "_"))


def naive(wanted: dict[str, Any], row: dict[str, Any]) -> bool:
    """The filter as people write it, evaluated for one row, written apart from the product's code."""
    for key, value in wanted.items():
        if key == "all_of":
            holds = all(naive(member, row) for member in value)
        elif key == "any_of":
            holds = any(naive(member, row) for member in value)
        elif key == "not":
            holds = not naive(value, row)
        else:
            holds = any(_matches(key, each, row) for each in _listed(value))
        if not holds:
            return False
    return True


def filters(content: str) -> st.SearchStrategy[dict[str, Any]]:
    def values(key: str) -> st.SearchStrategy[Any]:
        pool = [value for value in GIVEN[key] if value not in COLUMNLESS.get(content, {}).get(key, [])]
        single = st.sampled_from(pool)
        return single if key == "min_severity" else single | st.lists(single, min_size=1, max_size=4)

    keys = st.fixed_dictionaries({}, optional={key: values(key) for key in sorted(KEYS_OF[content])})
    few = keys.map(lambda chosen: dict(list(chosen.items())[:3])).filter(bool)
    return st.recursive(
        few,
        lambda inner: st.dictionaries(
            st.sampled_from(["all_of", "any_of", "not"]),
            st.lists(inner, min_size=1, max_size=3),
            min_size=1,
            max_size=2,
        ).map(lambda groups: {name: group[0] if name == "not" else group for name, group in groups.items()}),
        max_leaves=6,
    )


def rows(content: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    columns = [name for name in TABLES[content].schema.names if name in VALUES]
    return st.lists(st.fixed_dictionaries({name: st.sampled_from(VALUES[name]) for name in columns}), max_size=12)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    content = draw(st.sampled_from(STREAM_CONTENTS))
    return content, draw(st.lists(filters(content), min_size=1, max_size=4)), draw(rows(content))


def _batch(content: str, listed: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(listed, schema=TABLES[content].schema)


def _with_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows with text columns as dictionaries that also hold unused values and nulls."""
    spare = pa.array(["unused", None, "WARN"])
    columns = []
    for column in batch.columns:
        if pa.types.is_string(column.type):
            values = pa.concat_arrays([spare, column.drop_null()])
            places = iter(range(len(spare), len(values)))
            # A null may be a null index, or an index of a null value.
            codes = [next(places) if valid else (1 if at % 2 else None) for at, valid in
                     enumerate(column.is_valid().to_pylist())]  # fmt: skip
            column = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int16()), values)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


@settings(max_examples=120, deadline=None)
@given(case=cases())
def test_masks_equal_a_naive_evaluation_of_each_row(
    case: tuple[str, list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    content, wanted, listed = case
    streams = streams_of(*wanted, content=content)
    expected = {f"s{at}": [naive(each, row) for row in listed] for at, each in enumerate(wanted)}
    batch = _batch(content, listed)
    router = compile_filters(streams)
    for rows in (batch, _with_dictionaries(batch)):
        masks = router.masks(content, rows)
        assert {name: mask.tolist() for name, mask in masks.items()} == expected
    for stream in streams:
        assert [explain_row(stream, row).taken for row in listed] == expected[stream.name], describe(stream.filter)


def test_a_missing_value_matches_nothing_and_not_of_it_matches() -> None:
    streams = streams_of({"country": "DE"}, {"not": {"country": "DE"}}, {"not": {"not": {"country": "DE"}}})
    masks = compile_filters(streams).masks("events", _batch("events", [{"country_iso": "DE"}, {"country_iso": None}]))
    assert [mask.tolist() for mask in masks.values()] == [[True, False], [False, True], [True, False]]


def test_equal_parts_are_evaluated_once_however_they_are_written() -> None:
    streams = streams_of(
        {"severity": ["WARN", "CRITICAL"], "outcome": "rejected"},
        {"all_of": [{"outcome": ["rejected"]}, {"min_severity": "warn"}]},
        {"outcome": "rejected", "severity": ["critical", "Warning"]},
    )
    ((_, program),) = compile_filters(streams).programs
    assert len(program.steps) == 3
    assert len({step for _, step in program.results}) == 1


def test_masks_are_those_of_the_content_in_the_order_of_the_definitions() -> None:
    events, usage = streams_of({"severity": "WARN"}), streams_of({"currency": "EUR"}, {}, content="usage")
    router = compile_filters([*events, *usage])
    assert list(router.masks("usage", _batch("usage", [{"currency": "EUR"}]))) == ["s0", "s1"]
    assert router.masks("device_usage_hourly", _batch("device_usage_hourly", [])) == {}
    assert compile_filters([]).masks("events", _batch("events", [])) == {}


def test_an_empty_filter_takes_everything() -> None:
    masks = compile_filters(streams_of({})).masks("events", _batch("events", [{}, {}]))
    assert masks["s0"].tolist() == [True, True]


def test_router_and_streams_are_plain_data() -> None:
    streams = streams_of({"any_of": [{"min_severity": "WARN"}, {"outcome": "rejected"}]})
    router: Router = pickle.loads(pickle.dumps(compile_filters(streams)))
    copied: list[Stream] = pickle.loads(pickle.dumps(streams))
    assert router == compile_filters(copied)
    assert copied == streams


@pytest.mark.parametrize("distinct", [200, 254, 255, 256, 300, 70_000])
def test_columns_of_many_values_keep_their_codes_apart(distinct: int) -> None:
    names = [f"device {number}" for number in range(distinct)] + [None]
    batch = _batch("usage", [{"endpoint_name": name} for name in names])
    last, many = f"device {distinct - 1}", [f"Device {number}" for number in range(0, distinct, 7)]
    masks = compile_filters(streams_of({"endpoint": last}, {"endpoint": many}, content="usage")).masks("usage", batch)
    assert np.flatnonzero(masks["s0"]).tolist() == [distinct - 1]
    assert np.flatnonzero(masks["s1"]).tolist() == list(range(0, distinct, 7))


def test_fifty_streams_with_shared_parts_compile_to_few_steps() -> None:
    words = ["INFO", "WARN", "CRITICAL"]
    wanted = [{"min_severity": words[at % 3], "country": ["DE", "US"], "event_type": at % 10} for at in range(50)]
    streams = streams_of(*wanted)
    router = compile_filters(streams)
    ((_, program),) = router.programs
    assert len(program.steps) <= 3 + 1 + 10 + 50
    rows = [{"severity": "WARN", "country_iso": "US", "event_type_id": at} for at in range(12)]
    masks = router.masks("events", _batch("events", rows))
    for stream, each in zip(streams, wanted, strict=True):
        assert masks[stream.name].tolist() == [naive(each, row) for row in rows]


def test_an_iccid_matches_with_and_without_its_check_digit() -> None:
    held = ["8988303000000123456", "89883030000001234569", "8988303000000123457", None]
    batch = _batch("usage", [{"iccid": iccid} for iccid in held])
    streams = streams_of({"endpoint": held[0]}, {"endpoint": held[1]}, content="usage")
    for mask in compile_filters(streams).masks("usage", batch).values():
        assert mask.tolist() == [True, True, False, False]
