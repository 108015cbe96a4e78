"""Filters as people write them, in every accepted form, and the mistakes in them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.filter_keys import KEYS, fold, split_tags
from schemas.filters import Filter, content_mistakes
from schemas.tables import STREAM_CONTENTS


def read(given: Any, **context: Any) -> dict[str, Any]:
    return Filter.model_validate(given, context=context or None).model_dump(by_alias=True, exclude_defaults=True)


def mistakes(given: Any) -> list[tuple[tuple[int | str, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        Filter.model_validate(given)
    return [(each["loc"], each["msg"]) for each in caught.value.errors()]


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("event_type", "create pdp  context", (3,)),
        ("event_type", ["3", 3, "Create_PDP_Context"], (3,)),
        ("event_type", ["Threshold reached", 99], (18, 99)),
        ("category", "Network attachment", ("network_attachment",)),
        ("severity", ["Warning", "critical"], ("WARN", "CRITICAL")),
        ("min_severity", "warn", ("WARN",)),
        ("alert", ["true", 0], (True, False)),
        ("source", "Policy Control", ("policy_control",)),
        ("outcome", "not applicable", ("not_applicable",)),
        ("domain", "Device", ("device",)),
        ("endpoint", [12, "12", "0012", " Meter "], (12, "12", "0012", "Meter")),
        ("endpoint", 89883030000001234569, ("89883030000001234569",)),
        ("country", ["de", "Germany", "262", 310, "NO"], ("DE", "262", "310", "NO")),
        ("rat", ["nb-iot", "e_utran"], ("NB-IoT", "4G")),
        ("traffic_type", "SMS", ("sms",)),
        ("currency", "eur", ("EUR",)),
    ],
)
def test_values_are_read_in_any_spelling_one_or_many(key: str, given: Any, expected: tuple[Any, ...]) -> None:
    assert read({key: given}) == {key: expected}


def test_every_key_of_the_table_is_a_field_and_has_a_content() -> None:
    groups = {"all_of", "any_of", "not_"}
    assert set(Filter.model_fields) - groups == set(KEYS)
    assert all(key.contents() for key in KEYS.values())


@pytest.mark.parametrize(
    ("given", "where", "what"),
    [
        ({"min_severity": "WARNIGN"}, ("min_severity", 0),
         "'WARNIGN' is none of INFO, WARN, CRITICAL (did you mean WARN?)"),
        ({"min_severity": ["INFO", "WARN"]}, ("min_severity",), "takes a single value"),
        ({"event_type": [1, "create pdp contxt"]}, ("event_type", 1), "did you mean Create PDP Context?"),
        ({"event_type": True}, ("event_type", 0), "not the id or name of an event type"),
        ({"country": "Germny"}, ("country", 0), "did you mean Germany?"),
        ({"country": "ZZ"}, ("country", 0), "neither an ISO 3166 code"),
        ({"endpoint": 2**63}, ("endpoint", 0), "out of the range of ids"),
        ({"endpoint": 1.5}, ("endpoint", 0), "write names in quotes"),
        ({"tag": "a, b"}, ("tag", 0), "list each tag apart"),
        ({"tag": " "}, ("tag", 0), "an empty text"),
        ({"alert": "yes"}, ("alert", 0), "'yes' is none of true, false"),
        ({"rat": 4}, ("rat", 0), "4 is none of 3G"),
        ({"currency": "Euro"}, ("currency", 0), "ISO 4217"),
        ({"reason": "quota_mising"}, ("reason", 0), "did you mean quota_missing?"),
        ({"severity": []}, ("severity",), "has no value"),
        ({"severity": None}, ("severity",), "has no value"),
        ({"severities": "WARN"}, ("severities",), "did you mean severity?"),
        ({"any_of": {"severity": "WARN"}}, ("any_of",), "is a list of filters"),
        ({"any_of": []}, ("any_of",), "is a list of filters"),
        ({"any_of": [{"alert": True}, {}]}, ("any_of", 1), "an empty filter takes everything"),
        ({"not": {}}, ("not",), "an empty filter takes everything"),
        ("alert", (), "a filter is a mapping"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_place_and_what_was_meant(given: Any, where: tuple[Any, ...], what: str) -> None:
    found = mistakes(given)
    assert [place for place, _ in found] == [where]
    assert what in found[0][1]


def test_all_mistakes_of_a_filter_are_found_at_once() -> None:
    found = mistakes({"severity": ["x", "WARN", "y"], "any_of": [{"outcome": "z"}, {}], "nott": {}, "country": "QQ"})
    assert len(found) == 6
    assert {place for place, _ in found} == {
        ("severity", 0), ("severity", 2), ("any_of", 0, "outcome", 0), ("any_of", 1), ("nott",), ("country", 0)
    }  # fmt: skip


def test_emnifys_own_form() -> None:
    assert read([]) == {}
    assert read([{"field": "event_type_id", "value": [1, "2", 3]}]) == {"event_type": (1, 2, 3)}
    documented = [{"field": "event_type_id", "value": [1, 2, 3]}, {"or": [{"field": "alert", "value": True}]}]
    assert read(documented) == {"all_of": ({"event_type": (1, 2, 3)}, {"any_of": ({"alert": (True,)},)})}


@pytest.mark.parametrize(
    ("given", "where", "what"),
    [
        ([{"field": "event_typ_id", "value": 1}], (0, "field"), "did you mean event_type_id?"),
        ([{"or": [{"field": "alert", "value": "x"}]}], (0, "or", 0, "value", 0), "none of true, false"),
        ([{"field": "alert"}], (0,), "is neither {field"),
        ([{"or": []}], (0,), "is neither {field"),
        ([{"field": "alert", "value": []}], (0, "value"), "has no value"),
    ],
)
def test_mistakes_in_emnifys_form(given: Any, where: tuple[Any, ...], what: str) -> None:
    ((place, message),) = mistakes(given)
    assert place == where
    assert what in message


def test_an_operators_own_reasons_are_accepted_where_they_are_given() -> None:
    assert read({"reason": "own_reason"}, reasons=("own_reason", "other")) == {"reason": ("own_reason",)}
    assert mistakes({"reason": "own_reason"})


@pytest.mark.parametrize(
    ("content", "given", "where", "what"),
    [
        ("usage", {"min_severity": "WARN"}, ("min_severity",), "usage has no severity: min_severity is for events"),
        ("events", {"not": {"any_of": [{"currency": "EUR"}]}}, ("not", "any_of", 0, "currency"), "no currency"),
        ("usage", [{"or": [{"field": "alert", "value": 1}]}], (0, "or", 0, "field"), "usage has no alert"),
        ("device_events_hourly", {"country": ["DE", 262]}, ("country", 1), "MCC 262 (Germany) cannot match"),
        ("device_events_hourly", {"operator": 12}, ("operator", 0), "has only operator_name"),
        ("device_events_hourly", {"endpoint": "8988303000000123456"}, ("endpoint", 0), "ICCID"),
    ],
)
def test_what_a_content_cannot_have(content: str, given: Any, where: tuple[Any, ...], what: str) -> None:
    for each in (given, Filter.model_validate(given)) if isinstance(given, dict) else (given,):
        (found,) = content_mistakes(content, each)
        assert found["loc"] == where
        assert what in found["type"].message()  # type: ignore[union-attr]


def test_every_key_is_accepted_on_the_contents_that_it_names() -> None:
    samples = {"event_type": 3, "category": "other", "severity": "INFO", "min_severity": "INFO", "alert": True,
               "source": "api", "outcome": "failed", "reason": "other", "domain": "device", "country": "DE",
               "rat": "4G", "traffic_type": "data", "currency": "EUR"}  # fmt: skip
    for key in KEYS.values():
        for content in STREAM_CONTENTS:
            found = content_mistakes(content, {key.name: samples.get(key.name, "some name")})
            assert (not found) == (content in key.contents()), (key.name, content)


def test_names_compare_regardless_of_case_and_white_space() -> None:
    assert fold("  Straße\t Nord ") == fold("STRASSE NORD") == "strasse nord"
    assert split_tags(" Demo,,arctic  sensor ,") == ["demo", "arctic sensor"]


def test_a_filter_written_out_reads_back_as_itself() -> None:
    wanted = Filter.model_validate({"any_of": [{"endpoint": [1, "x"]}, {"not": {"country": 262, "alert": False}}]})
    assert Filter.model_validate(wanted.model_dump(by_alias=True, exclude_defaults=True)) == wanted
    assert not wanted.takes_all
    assert Filter().takes_all
