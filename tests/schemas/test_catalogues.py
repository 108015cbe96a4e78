"""The catalogues of event types and reasons, the look-ups, and the documents derived from them."""

from pathlib import Path

import pytest

from schemas.catalogues import DOCUMENTS, write_documents
from schemas.event_types import CATEGORIES, EVENT_TYPE_IDS, EVENT_TYPES, UNKNOWN_CATEGORY
from schemas.lookups import (
    COUNTRY_ISO,
    COUNTRY_NAMES,
    DEVICE_STATES,
    OUTCOMES,
    RAT_WORDS,
    RATS,
    SEVERITIES,
    SEVERITY_WORDS,
    SOURCES,
    TRAFFIC_TYPES,
    UNITS,
)
from schemas.reasons import DOMAINS, REASON_TABLE, REASONS, SOURCE_DOMAINS, ReasonsError, load_reasons

DOCS = Path(__file__).parents[2] / "docs"


def test_types_use_known_words():
    assert set(EVENT_TYPES) == {*range(66), 67, 68, 69}
    for kind in EVENT_TYPES.values():
        assert kind.category in CATEGORIES
        assert kind.severity in SEVERITIES.values()
        assert set(kind.sources) <= set(SOURCES.values())
        assert kind.device_state in (None, *DEVICE_STATES)
        assert kind.quota in (None, *TRAFFIC_TYPES.values())
        assert kind.outcome in (*OUTCOMES, "attempt")
    assert len(CATEGORIES) == 11
    assert list(CATEGORIES)[-1] == UNKNOWN_CATEGORY
    assert {kind.category for kind in EVENT_TYPES.values()} == set(CATEGORIES)


def test_severities_of_types_without_a_published_record():
    assert {EVENT_TYPES[number].severity for number in (35, 49, 61, 63, 64)} == {"WARN"}
    assert {EVENT_TYPES[number].severity for number in (4, 28, 29, 44, 47, 62, 68, 69)} == {"INFO"}


def test_types_are_found_by_all_their_names():
    assert EVENT_TYPE_IDS["create pdp context"] == 3
    assert EVENT_TYPE_IDS["threshold reached"] == EVENT_TYPE_IDS["quota threshold reached"] == 18


def test_every_word_leads_to_a_known_one():
    assert set(SEVERITY_WORDS.values()) == set(SEVERITIES.values())
    assert set(RAT_WORDS.values()) <= set(RATS.values())
    assert set(UNITS) == set(TRAFFIC_TYPES.values())
    assert set(SOURCE_DOMAINS) == set(SOURCES.values())
    assert set(SOURCE_DOMAINS.values()) <= set(DOMAINS)


@pytest.mark.parametrize(
    ("mcc", "iso"),
    [("262", "DE"), ("232", "AT"), ("310", "US"), ("316", "US"), ("234", "GB"), ("222", "IT"), ("901", None),
     ("001", None), ("999", None), ("460", "CN"), ("440", "JP"), ("724", "BR"), ("655", "ZA"), ("505", "AU")],
)  # fmt: skip
def test_countries(mcc, iso):
    assert COUNTRY_ISO[mcc] == iso


def test_country_codes_have_their_form():
    assert all(len(mcc) == 3 and mcc.isdigit() for mcc in COUNTRY_ISO)
    assert all(iso is None or (len(iso) == 2 and iso.isupper()) for iso in COUNTRY_ISO.values())
    assert len(COUNTRY_ISO) > 230
    assert (COUNTRY_NAMES["DE"], COUNTRY_NAMES["US"]) == ("Germany", "United States")


def test_documents_are_current(tmp_path):
    write_documents(tmp_path)
    for name in DOCUMENTS:
        assert (DOCS / name).read_text(encoding="utf-8") == (tmp_path / name).read_text(encoding="utf-8"), (
            f"docs/{name} is out of date: run python -m schemas.catalogues"
        )


def test_reasons_are_named_once_in_order():
    assert len(set(REASONS)) == len(REASONS)
    assert REASONS[-1] == "other"
    assert all(set(row.types) <= set(EVENT_TYPES) for row in REASON_TABLE)


def test_own_reasons_come_first(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("- {types: [3], text: 'of the weather', reason: weather, domain: device}\n")
    table = load_reasons(str(own))
    assert (table[0].reason, table[1:]) == ("weather", REASON_TABLE)
    assert load_reasons(None) == REASON_TABLE


def test_an_empty_file_adds_nothing(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("")
    assert load_reasons(str(own)) == REASON_TABLE


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        ("- {types: [3], reason: x, domain: nowhere}", ["row 1 (x): domain 'nowhere' is none of device"]),
        ("- {types: [], reason: X y, domain: device}", ["row 1 (X y): types is empty", "row 1: reason 'X y' must be"]),
        ("- {types: [3], text: '(', reason: x, domain: device}", ["row 1 (x): text is no regular expression"]),
        ("- {types: [3], text: 'Weather', reason: x, domain: device}", ["row 1 (x): text must be lower case"]),
        ("- {types: [3], reasn: x, domain: device}", ["expected a list of rows"]),
        ("types: [3", ["expected a list of rows"]),
    ],
)
def test_mistakes_are_all_reported(tmp_path, content, messages):
    own = tmp_path / "own.yaml"
    own.write_text(content)
    with pytest.raises(ReasonsError) as error:
        load_reasons(str(own))
    assert str(own) in str(error.value)
    for message in messages:
        assert message in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ReasonsError, match="gone.yaml: cannot be read"):
        load_reasons(str(tmp_path / "gone.yaml"))
