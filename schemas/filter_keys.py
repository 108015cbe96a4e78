"""The keys of a stream's filter: which values each takes, and which columns of a table each value is compared with.

This table is the one source for the filter model (`schemas.filters`), the check of a filter against its content, the
predicates and their explanation (`transforms.route`), the JSON Schema and ``docs/streams.md``.

How names compare: regardless of case, of white space at the ends, and of how much white space lies between words
(`fold`). Words of closed lists and names of event types also take spaces, hyphens and underscores as the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic_core import PydanticCustomError

from schemas.definition import did_you_mean, none_of, quoted
from schemas.event_types import CATEGORIES, EVENT_TYPE_IDS, EVENT_TYPES
from schemas.lookups import (
    COUNTRY_ISO,
    COUNTRY_NAMES,
    OUTCOMES,
    RAT_WORDS,
    RATS,
    SEVERITIES,
    SEVERITY_WORDS,
    SOURCES,
    TRAFFIC_TYPES,
)
from schemas.reasons import DOMAINS, REASONS
from schemas.tables import STREAM_CONTENTS, TABLES

Value = int | str | bool
"""A value of a key after reading: an id, a word or name, or a truth value."""

MAX_ID = 2**63 - 1


class Test(NamedTuple):
    """One comparison of one column: what a predicate is made of. Hashable, so that equal tests run once per batch.

    Attributes:
      column: column of the table.
      how: ``is`` equal; ``named`` equal after `fold`; ``tagged`` one of the comma-separated tags is, after `fold`;
        ``iccid`` equal in the first 19 digits (without the check digit).
      operand: what the column is compared with, folded where the comparison folds.
    """

    column: str
    how: Literal["is", "named", "tagged", "iccid"]
    operand: Value


@dataclass(frozen=True)
class FilterKey:
    """One key of a filter.

    Attributes:
      name: the key as people write it.
      about: what its values are; for the JSON Schema and the docs.
      phrase: the key in a sentence.
      read: one value as written → the value, or a `PydanticCustomError`.
      tests: a value → the tests of which one must hold (on a table that has their column).
      json_schema: JSON Schema of one value.
      words: a value in words.
    """

    name: str
    about: str
    phrase: str
    read: Callable[[object], Value]
    tests: Callable[[Any], tuple[Test, ...]]
    json_schema: Mapping[str, Any]
    words: Callable[[Any], str] = str

    def contents(self) -> tuple[str, ...]:
        """Contents (tables) that can be filtered by the key."""
        return tuple(content for content in STREAM_CONTENTS if self.columns(content))

    def columns(self, content: str) -> tuple[str, ...]:
        """Columns of the content that the key is compared with; empty where the content cannot have it."""
        known = TABLES[content].schema.names
        return tuple(column for column in COLUMNS[self.name] if column in known)


def fold(text: str) -> str:
    """A name as it is compared: lower case, white space at the ends removed and between words reduced to one blank."""
    return " ".join(text.casefold().split())


def split_tags(text: str) -> list[str]:
    """The tags of a device, folded: the text that the platform sends is a comma-separated list."""
    return [tag for tag in map(fold, text.split(",")) if tag]


def _slug(text: str) -> str:
    return re.sub(r"[\s_-]+", "_", text.strip().casefold())


def _text(given: object, expected: str) -> str:
    """A value that must be text or a whole number, as text."""
    if isinstance(given, bool) or not isinstance(given, (str, int)):
        raise PydanticCustomError("not_text", f"{quoted(given)} is not {expected}; write names in quotes")
    text = str(given).strip()
    if not text:
        raise PydanticCustomError("empty_text", f"an empty text is not {expected}")
    return text


def closed_reader(
    listed: Iterable[str], spellings: Mapping[str, str] = MappingProxyType({})
) -> Callable[[object], Value]:
    """Reads words of a closed list in any spelling; the error lists the words."""
    words = tuple(listed)
    by_slug = {_slug(spelling): word for spelling, word in spellings.items()} | {_slug(word): word for word in words}

    def read(given: object) -> Value:
        word = None if isinstance(given, bool) else by_slug.get(_slug(str(given)))
        if word is None:
            raise none_of(given, words, spellings)
        return word

    return read


def _closed(
    name: str,
    about: str,
    phrase: str,
    column: str,
    listed: Iterable[str],
    spellings: Mapping[str, str] = MappingProxyType({}),
) -> FilterKey:
    words = tuple(listed)
    return FilterKey(
        name=name,
        about=about,
        phrase=phrase,
        read=closed_reader(words, spellings),
        tests=lambda word: (Test(column, "is", word),),
        json_schema={"type": "string", "enum": list(words)},
    )


def _read_event_type(given: object) -> Value:
    text = _text(given, "the id or name of an event type")
    if re.fullmatch(r"[0-9]{1,9}", text):  # ids that the catalogue does not know are allowed: new types appear
        return int(text)
    by_slug = {_slug(name): kind for name, kind in EVENT_TYPE_IDS.items()}
    if (kind := by_slug.get(_slug(text))) is None:
        names = [each.name for each in EVENT_TYPES.values()]
        hint = did_you_mean(text, names) or "; `data-streamer types` lists them"
        raise PydanticCustomError("none_of", f"{quoted(given)} is neither the id nor the name of an event type{hint}")
    return kind


def _event_type_words(kind: int) -> str:
    return f"{kind} ({EVENT_TYPES[kind].name})" if kind in EVENT_TYPES else f"{kind} (not in the catalogue)"


def _read_alert(given: object) -> Value:
    known: dict[object, bool] = {"true": True, "false": False, "1": True, "0": False}
    truth = given if isinstance(given, bool) else known.get(str(given).strip().casefold())
    if truth is None:
        raise none_of(given, ("true", "false"))
    return truth


def _read_entity(given: object) -> Value:
    """An id as a number; a text stays one, also of digits: it may be a name, a serial number say."""
    text = _text(given, "an id or a name")
    if not isinstance(given, int) or _is_iccid(text):
        return text
    if not 0 <= given <= MAX_ID:
        raise PydanticCustomError("id_range", f"{given} is out of the range of ids (0 to {MAX_ID})")
    return given


def _is_iccid(text: str) -> bool:
    return re.fullmatch(r"89[0-9]{17,18}", text) is not None


def _is_id(text: str) -> bool:
    # A leading zero makes a name: ids are written without.
    return re.fullmatch(r"0|[1-9][0-9]{0,18}", text) is not None and int(text) <= MAX_ID


def _entity_tests(
    id_column: str, name_column: str, iccid_column: str | None = None
) -> Callable[[Any], tuple[Test, ...]]:
    def tests(value: int | str) -> tuple[Test, ...]:
        text = str(value)
        if iccid_column is not None and _is_iccid(text):
            return (Test(iccid_column, "iccid", text[:19]),)
        found = []
        if _is_id(text):
            found.append(Test(id_column, "is", int(text)))
        if isinstance(value, str):
            found.append(Test(name_column, "named", fold(value)))
        return tuple(found)

    return tests


def _entity(name: str, about: str, phrase: str, columns: tuple[str, ...]) -> FilterKey:
    has_iccid = len(columns) == 3

    def words(value: int | str) -> str:
        if has_iccid and _is_iccid(str(value)):
            return f"ICCID {value}"
        if isinstance(value, int):
            return f"id {value}"
        return f"id or name {value}" if _is_id(value) else quoted(value)

    return FilterKey(
        name=name,
        about=about,
        phrase=phrase,
        read=_read_entity,
        tests=_entity_tests(*columns),
        json_schema={"type": ["integer", "string"], "minimum": 0, "minLength": 1},
        words=words,
    )


def _read_country(given: object) -> Value:
    text = _text(given, "a country: its ISO code, MCC or name")
    if re.fullmatch(r"[0-9]{3}", text):
        return text
    if text.upper() in COUNTRY_NAMES:
        return text.upper()
    by_name = {_slug(name): iso for iso, name in COUNTRY_NAMES.items()}
    if (iso := by_name.get(_slug(text))) is None:
        hint = did_you_mean(text, COUNTRY_NAMES.values()) if len(text) > 2 else ""
        raise PydanticCustomError(
            "none_of",
            f"{quoted(given)} is neither an ISO 3166 code of two letters, nor an MCC, nor a country's name{hint}",
        )
    return iso


def _country_words(value: str) -> str:
    if not value.isdecimal():
        return f"{value} ({COUNTRY_NAMES[value]})"
    iso = COUNTRY_ISO.get(value)
    return f"MCC {value} ({COUNTRY_NAMES[iso]})" if iso else f"MCC {value}"


def _read_tag(given: object) -> Value:
    tag = _text(given, "a tag")
    if "," in tag:
        raise PydanticCustomError("tag", f"{quoted(given)} holds a comma, which separates tags: list each tag apart")
    return tag


def _read_currency(given: object) -> Value:
    code = _text(given, "an ISO 4217 currency code").upper()
    if not re.fullmatch(r"[A-Z]{3}", code):
        raise PydanticCustomError("none_of", f"{quoted(given)} is not an ISO 4217 currency code such as EUR")
    return code


_SEVERITIES = tuple(SEVERITIES.values())


def _minimum_tests(least: str) -> tuple[Test, ...]:
    return tuple(Test("severity", "is", word) for word in _SEVERITIES[_SEVERITIES.index(least) :])


MIN_SEVERITY = FilterKey(
    name="min_severity",
    about="the least severity: this one or a graver one; takes a single value",
    phrase="severity",
    read=closed_reader(_SEVERITIES, SEVERITY_WORDS),
    tests=_minimum_tests,
    json_schema={"type": "string", "enum": list(_SEVERITIES)},
    words=lambda word: f"{word} or graver" if word != _SEVERITIES[-1] else word,
)

COLUMNS: dict[str, tuple[str, ...]] = {
    "event_type": ("event_type_id",),
    "category": ("category",),
    "severity": ("severity",),
    "min_severity": ("severity",),
    "alert": ("alert",),
    "source": ("source",),
    "outcome": ("outcome",),
    "reason": ("reason",),
    "domain": ("reason_domain",),
    "organisation": ("organisation_id", "organisation_name"),
    "endpoint": ("endpoint_id", "endpoint_name", "iccid"),
    "tag": ("tags",),
    "operator": ("operator_id", "operator_name"),
    "country": ("country_iso", "mcc"),
    "rat": ("rat",),
    "traffic_type": ("traffic_type",),
    "currency": ("currency",),
}
"""Columns that each key is compared with."""

_KEYS = (
    FilterKey(
        name="event_type",
        about="types of the event: id, or name (former names too); ids that the catalogue does not know are allowed",
        phrase="event type",
        read=_read_event_type,
        tests=lambda kind: (Test("event_type_id", "is", kind),),
        json_schema={"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "minLength": 1}]},
        words=_event_type_words,
    ),
    _closed("category", "categories of the event", "category", "category", CATEGORIES),
    _closed("severity", "severities", "severity", "severity", _SEVERITIES, SEVERITY_WORDS),
    MIN_SEVERITY,
    FilterKey(
        name="alert",
        about="whether the event is a candidate to be alerted to a user: true or false",
        phrase="alert",
        read=_read_alert,
        tests=lambda truth: (Test("alert", "is", truth),),
        json_schema={"type": "boolean"},
        words=lambda truth: "true" if truth else "false",
    ),
    _closed("source", "sources of the event", "source", "source", SOURCES.values()),
    _closed("outcome", "outcomes of an attempt", "outcome", "outcome", OUTCOMES),
    _closed("reason", "reasons (docs/reasons.md)", "reason", "reason", REASONS),
    _closed("domain", "domains of the reason", "domain of the reason", "reason_domain", DOMAINS),
    _entity("organisation", "organisations: id or name", "organisation", COLUMNS["organisation"]),
    _entity("endpoint", "devices: endpoint id, name, or ICCID of 19 or 20 digits", "endpoint", COLUMNS["endpoint"]),
    FilterKey(
        name="tag",
        about="tags of the device; it has the tag if the tag is one of its comma-separated tags",
        phrase="tag",
        read=_read_tag,
        tests=lambda tag: (Test("tags", "tagged", fold(tag)),),
        json_schema={"type": "string", "minLength": 1},
        words=quoted,
    ),
    _entity("operator", "visited operators: id or name", "operator", COLUMNS["operator"]),
    FilterKey(
        name="country",
        about="visited countries: ISO 3166 code of two letters, name (both match by ISO code), or MCC (only this one)",
        phrase="country",
        read=_read_country,
        tests=lambda value: (Test("mcc" if value.isdecimal() else "country_iso", "is", value),),
        json_schema={"type": ["string", "integer"], "minLength": 2, "minimum": 1, "maximum": 999},
        words=_country_words,
    ),
    _closed("rat", "radio access technologies", "RAT", "rat", RATS.values(), RAT_WORDS),
    _closed("traffic_type", "traffic types", "traffic type", "traffic_type", TRAFFIC_TYPES.values()),
    FilterKey(
        name="currency",
        about="currencies: ISO 4217 code",
        phrase="currency",
        read=_read_currency,
        tests=lambda code: (Test("currency", "is", code),),
        json_schema={"type": "string", "pattern": "^[A-Za-z]{3}$"},
    ),
)

KEYS: dict[str, FilterKey] = {key.name: key for key in _KEYS}
"""All keys by name, in the order of the docs."""


def tests_of(key: str, value: Value, content: str) -> tuple[Test, ...]:
    """The tests of which one must hold for a value of a key, on the columns that the content has.

    Empty where the content has no column for such a value (an MCC on ``device_events_hourly``).
    """
    known = TABLES[content].schema.names
    return tuple(test for test in KEYS[key].tests(value) if test.column in known)
