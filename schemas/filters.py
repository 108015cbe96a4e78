"""A stream's filter: which rows of its content it takes.

Two-valued logic: the keys of a filter must all hold (AND); of a key's values one must (OR). A missing value matches
nothing, so that ``not`` of it matches. ``all_of``, ``any_of`` and ``not`` combine filters. A filter without keys takes
all rows.

emnify's own form is read too: a list of ``{"field": "event_type_id" | "alert", "value": ...}`` and ``{"or": [...]}``.
The items of the list must all hold, of an ``or`` group one (emnify's documents leave this open; an explicit ``or``
makes sense only if the list itself means AND).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from schemas.definition import Definition, did_you_mean, mistake, quoted
from schemas.filter_keys import KEYS, Value, closed_reader, tests_of

GROUPS = ("all_of", "any_of")
EMNIFY_FIELDS = {"event_type_id": "event_type", "alert": "alert"}
"""Fields of emnify's own filters and the keys that they are read as."""

_EMPTY = "an empty filter takes everything: give it a key, or remove it"


def _key(name: str) -> Any:
    """The field of a key: no value by default; its JSON Schema takes one value or a list."""
    key = KEYS[name]
    value = dict(key.json_schema)
    listed = {"type": "array", "items": value, "minItems": 1}

    def one_or_many(schema: dict[str, Any]) -> None:
        kept = {word: schema[word] for word in ("title", "description") if word in schema}
        schema.clear()
        schema.update(kept | (value if name == "min_severity" else {"anyOf": [value, listed]}))

    text = f"{key.about[0].upper()}{key.about[1:]}. For {', '.join(key.contents())}."
    return Field(default=(), description=text, json_schema_extra=one_or_many)


class Filter(Definition):
    """Conditions on the rows of a stream; see the module. Every key takes one value or a list, kept here as a tuple."""

    event_type: tuple[int, ...] = _key("event_type")
    category: tuple[str, ...] = _key("category")
    severity: tuple[str, ...] = _key("severity")
    min_severity: tuple[str, ...] = _key("min_severity")
    alert: tuple[bool, ...] = _key("alert")
    source: tuple[str, ...] = _key("source")
    outcome: tuple[str, ...] = _key("outcome")
    reason: tuple[str, ...] = _key("reason")
    domain: tuple[str, ...] = _key("domain")
    organisation: tuple[int | str, ...] = _key("organisation")
    endpoint: tuple[int | str, ...] = _key("endpoint")
    tag: tuple[str, ...] = _key("tag")
    operator: tuple[int | str, ...] = _key("operator")
    country: tuple[str, ...] = _key("country")
    rat: tuple[str, ...] = _key("rat")
    traffic_type: tuple[str, ...] = _key("traffic_type")
    currency: tuple[str, ...] = _key("currency")
    all_of: tuple[Filter, ...] = Field(
        default=(), description="Filters that must all hold.", json_schema_extra={"minItems": 1}
    )
    any_of: tuple[Filter, ...] = Field(
        default=(), description="Filters of which one must hold.", json_schema_extra={"minItems": 1}
    )
    not_: Filter | None = Field(default=None, alias="not", description="A filter that must not hold.")

    def given(self) -> Iterator[tuple[str, tuple[Value, ...]]]:
        """The keys that have values, in the order of `KEYS`, without the groups and ``not``."""
        for key in KEYS:
            if values := getattr(self, key):
                yield key, values

    @property
    def takes_all(self) -> bool:
        """Whether there is no condition at all."""
        return self == Filter()

    @model_validator(mode="before")
    @classmethod
    def _read_emnify_form(cls, given: Any) -> Any:
        if isinstance(given, list):
            conditions, mistakes = _conditions(given, ())
            if mistakes:
                raise ValidationError.from_exception_data("Filter", mistakes, hide_input=True)
            return conditions[0] if len(conditions) == 1 else {"all_of": conditions} if conditions else {}
        if isinstance(given, (Mapping, Filter)):
            return given
        raise PydanticCustomError("filter_form", "a filter is a mapping of keys to values, or a list in emnify's form")

    @field_validator(*KEYS, mode="before")
    @classmethod
    def _read_values(cls, given: Any, info: ValidationInfo) -> tuple[Value, ...]:
        name = str(info.field_name)
        read: Callable[[object], Value] = KEYS[name].read
        if name == "reason" and info.context and "reasons" in info.context:
            read = closed_reader(info.context["reasons"])  # the operator's own rows add reasons to the table
        values, mistakes = _read_all(read, given)
        if mistakes:
            raise ValidationError.from_exception_data("Filter", mistakes, hide_input=True)
        if name == "min_severity" and len(values) > 1:
            raise PydanticCustomError("single_value", "takes a single value; use severity to list several")
        return values

    @field_validator(*GROUPS, mode="before")
    @classmethod
    def _need_a_list(cls, given: Any) -> Any:
        if not isinstance(given, (list, tuple)) or not given:
            raise PydanticCustomError("filter_list", "is a list of filters, with at least one: [{...}, {...}]")
        return given

    @classmethod
    def mistakes_across(cls, given: Mapping[str, Any]) -> list[InitErrorDetails]:
        """Empty filters inside groups: they would take everything, which is never what was meant."""
        found = []
        for group in GROUPS:
            members = given.get(group)
            if isinstance(members, (list, tuple)):
                found += [mistake((group, at), _EMPTY) for at, member in enumerate(members) if member in ({}, [])]
        if "not" in given and given["not"] in ({}, [], None):
            found.append(mistake(("not",), _EMPTY))
        return found


def _read_all(read: Callable[[object], Value], given: Any) -> tuple[tuple[Value, ...], list[InitErrorDetails]]:
    """Reads one value or a list of them; all mistakes, each at its place in the list."""
    listed = list(given) if isinstance(given, (list, tuple)) else [given]
    if not listed or given is None:
        raise PydanticCustomError("no_value", "has no value, so nothing would match: give one, or leave the key out")
    values: list[Value] = []
    mistakes: list[InitErrorDetails] = []
    for at, each in enumerate(listed):
        try:
            values.append(read(each))
        except PydanticCustomError as error:
            mistakes.append(InitErrorDetails(type=error, loc=(at,), input=None))
    return tuple(dict.fromkeys(values)), mistakes


def _conditions(items: list[Any], at: tuple[str | int, ...]) -> tuple[list[dict[str, Any]], list[InitErrorDetails]]:
    """emnify's items as filters of ours, and the mistakes in them."""
    found: list[dict[str, Any]] = []
    mistakes: list[InitErrorDetails] = []
    for number, item in enumerate(items):
        here = (*at, number)
        if isinstance(item, Mapping) and set(item) == {"or"} and isinstance(item["or"], list) and item["or"]:
            inner, wrong = _conditions(item["or"], (*here, "or"))
            found.append({"any_of": inner})
            mistakes += wrong
        elif isinstance(item, Mapping) and set(item) == {"field", "value"}:
            key = EMNIFY_FIELDS.get(str(item["field"]))
            if key is None:
                text = f"{quoted(item['field'])} is none of {', '.join(EMNIFY_FIELDS)}"
                hint = did_you_mean(str(item["field"]), list(EMNIFY_FIELDS))
                mistakes.append(mistake((*here, "field"), f"{text}{hint}; other keys exist in the form of a mapping"))
                continue
            values: tuple[Value, ...] = ()
            try:
                values, wrong = _read_all(KEYS[key].read, item["value"])
            except PydanticCustomError as error:
                wrong = [InitErrorDetails(type=error, loc=(), input=None)]
            mistakes += [InitErrorDetails(type=e["type"], loc=(*here, "value", *e["loc"]), input=None) for e in wrong]
            found.append({key: values})
        else:
            mistakes.append(mistake(here, "is neither {field: ..., value: ...} nor {or: [...]} with at least one item"))
    return found, mistakes


def content_mistakes(content: str, given: Any, at: tuple[str | int, ...] = ()) -> list[InitErrorDetails]:
    """Keys and values of a filter, as written, that a content cannot have.

    Args:
      content: a table of `STREAM_CONTENTS`.
      given: the filter as written or a `Filter`; parts with other mistakes are passed over.
      at: location of the filter.
    """
    if isinstance(given, Filter):
        given = given.model_dump(by_alias=True, exclude_defaults=True)
    found: list[InitErrorDetails] = []
    if isinstance(given, (list, tuple)):
        for number, item in enumerate(given):
            if not isinstance(item, Mapping):
                continue
            key = EMNIFY_FIELDS.get(str(item.get("field")))
            if key is not None:
                found += _key_mistakes(content, key, item.get("value"), (*at, number, "field"), (*at, number, "value"))
            found += content_mistakes(content, item.get("or"), (*at, number, "or"))
    elif isinstance(given, Mapping):
        for key, value in given.items():
            here = (*at, key)
            if key in KEYS:
                found += _key_mistakes(content, key, value, here, here)
            elif key in GROUPS and isinstance(value, (list, tuple)):
                for number, member in enumerate(value):
                    found += content_mistakes(content, member, (*here, number))
            elif key in ("not", "not_"):
                found += content_mistakes(content, value, here)
    return found


def _key_mistakes(
    content: str, name: str, value: Any, key_at: tuple[str | int, ...], value_at: tuple[str | int, ...]
) -> list[InitErrorDetails]:
    key = KEYS[name]
    if not key.columns(content):
        message = f"{content} has no {key.phrase}: {name} is for {', '.join(key.contents())}"
        return [mistake(key_at, message, "content_key")]
    found = []
    for at, each in enumerate(value if isinstance(value, (list, tuple)) else [value]):
        try:
            read = key.read(each)
        except PydanticCustomError:
            continue  # reported where the value is read
        if not tests_of(name, read, content):
            columns = ", ".join(key.columns(content))
            text = f"{key.words(read)} cannot match: of {key.phrase}, {content} has only {columns}"
            found.append(mistake((*value_at, at), text, "content_value"))
    return found
