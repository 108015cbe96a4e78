"""Reads a record field by field, tolerating other JSON types than documented where the value is the same."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from msgspec import Raw, Struct

from transforms.decode.faults import Fault, json_path
from transforms.decode.structs import (
    Country,
    Currency,
    Endpoint,
    Imsi,
    JsonNull,
    Labelled,
    Named,
    Operator,
    Severity,
    Sim,
    Source,
    Tariff,
    User,
    Volume,
    fields,
    required,
)

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_ITEMS = msgspec.json.Decoder(list[Raw])
_TEXT = msgspec.json.Decoder(str)
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|[+-]?\.[0-9]+(?:[eE][+-]?[0-9]+)?", re.ASCII)
_SHORT = 20  # characters: fewer than any integer beyond 64 bits has, with its quotes
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
_LARGEST_EXPONENT = 400
"""Numbers beyond 10^400 are out of every column's range; their digits must not be spelled out."""

_ALONE: dict[type[Struct], str] = {
    Labelled: "description",
    Severity: "description",
    Source: "description",
    Imsi: "imsi",
    Currency: "code",
}
"""Objects that some renderings replace by their text."""

Path = tuple[str, ...]


_STRUCTS = (Labelled, Severity, Source, Named, User, Endpoint, Sim, Imsi, Volume, Currency, Country, Operator, Tariff)

# Values of the documented type are decoded at once; only others are looked at.
_DOCUMENTED: dict[type[Any], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (int, str, bool, float, *_STRUCTS)
}


class _ExactVolume(Struct, gc=False):
    rx: Decimal | None = None
    tx: Decimal | None = None
    total: Decimal | None = None


# Floats would not keep all digits: what was found to be numbers is decoded once more. (Alone it would also take texts.)
_EXACT: dict[type[Any], msgspec.json.Decoder[Any]] = {
    float: msgspec.json.Decoder(Decimal),
    Volume: msgspec.json.Decoder(_ExactVolume),
}


def read_object(struct: type[Struct], members: dict[str, Any], path: Path) -> tuple[Struct, dict[str, Any]]:
    """Reads an object's members (raw JSON by name, or such a dictionary again).

    Returns:
      The struct, and what its fields cannot give back: unknown fields and values of other JSON types, as received.

    Raises:
      Fault: a required field is missing, or a value cannot be taken.
    """
    values: dict[str, Any] = {}
    residual: dict[str, Any] = {}
    kinds = fields(struct)
    for name, content in members.items():
        kind = kinds.get(name)
        if kind is None:
            residual[name] = content
        elif kind is Raw:
            values[name] = content
        elif isinstance(content, dict):
            values[name], odd = read_object(kind, content, (*path, name))
            if odd:
                residual[name] = odd
        else:
            text = bytes(content)
            if text != b"null":
                values[name], odd = _value(kind, text, (*path, name))
                if odd:
                    residual[name] = odd
    for name in required(struct):
        if name not in values:
            where = (*path, name)
            raise Fault("missing_field", f"expected {'.'.join(where)}, found none or null", json_path(*where))
    return struct(**values), residual


def _value(kind: type[Any], text: bytes, path: Path) -> tuple[Any, Any]:
    """The value, and what to keep as received (None: nothing): at once if it is as documented."""
    numeric_text = text[:1] == b'"' and kind in (int, float)
    if numeric_text and kind is int and text[1:-1].isdigit() and len(text) < _SHORT:
        return int(text[1:-1]), Raw(text)
    if not numeric_text and (decoder := _DOCUMENTED.get(kind)) is not None:
        try:
            value = decoder.decode(text)
        except msgspec.DecodeError:
            pass  # not as documented
        else:
            exact = _EXACT.get(kind)
            return (value if exact is None else exact.decode(text)), None
    return _read(kind, text, path)


def _read(kind: type[Any], text: bytes, path: Path) -> tuple[Any, Any]:
    """The value, and what to keep as received (None: nothing)."""
    if kind is JsonNull:
        return None, Raw(text)
    if issubclass(kind, Struct):
        return _read_struct(kind, text, path)
    found = _found(text)
    if kind is str:
        return _text_of(text, found, path), Raw(text)
    content = _TEXT.decode(text).strip() if found == "a string" else text.decode()
    odd = Raw(text) if found == "a string" else None
    if kind is bool:
        value = _BOOLEANS.get(content.lower())
        if value is None:
            raise _wrong("true or false", found, path)
        # The legacy rendering's 0 and 1 stay numbers: the column's builder knows them.
        return (int(value) if found == "a number" else value), odd
    if found not in ("a string", "a number") or not _NUMBER.fullmatch(content):
        raise _wrong("a number", found if found != "a string" else "another text", path)
    number = _number(content, path)
    if kind is float:
        return number, odd
    if number != number.to_integral_value():
        raise _wrong("an integer", "a fraction", path)
    return int(number), odd


def _number(text: str, path: Path) -> Decimal:
    message = f"expected a number below 10^{_LARGEST_EXPONENT}, found a larger one"
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent beyond what decimals have
        raise Fault("number_range", message, json_path(*path)) from None
    if number and number.adjusted() > _LARGEST_EXPONENT:
        raise Fault("number_range", message, json_path(*path))
    return number


def _read_struct(kind: type[Struct], text: bytes, path: Path) -> tuple[Any, Any]:
    found = _found(text)
    if found == "an object":
        struct, residual = read_object(kind, _MEMBERS.decode(text), path)
        return struct, residual or None
    if found == "an array" and not _ITEMS.decode(text):
        return None, Raw(text)  # how some languages spell an object without fields
    numeric = found == "a number" or (found == "a string" and _TEXT.decode(text).strip().isdecimal())
    if numeric and kind is not Imsi and "id" in fields(kind):
        name = "id"
    elif found in ("a string", "a number") and kind in _ALONE:
        name = _ALONE[kind]
    else:
        raise _wrong("an object", found, path)
    struct, _ = read_object(kind, {name: Raw(text)}, path)
    return struct, Raw(text)


def _text_of(text: bytes, found: str, path: Path) -> str | None:
    """The text that stands for another JSON value: ``[{"mnc": "01"}]`` or ``{"imsi": "…"}`` for the text within."""
    if found not in ("an array", "an object"):
        return text.decode()
    if path[-1] == "tags":
        return text.decode()
    items = _ITEMS.decode(text) if found == "an array" else [Raw(text)]
    texts: list[str] = []
    for item in items:
        inner = bytes(item)
        if _found(inner) == "an object":
            inner = bytes(_MEMBERS.decode(inner).get(path[-1], b"null"))
        if _found(inner) != "a string":
            raise _wrong("a string", found, path)
        texts.append(_TEXT.decode(inner))
    return texts[0] if len(texts) == 1 else None


def _found(text: bytes) -> str:
    names = {b"{": "an object", b"[": "an array", b'"': "a string", b"t": "true or false", b"f": "true or false"}
    return names.get(text[:1], "null" if text == b"null" else "a number")


def _wrong(expected: str, found: str, path: Path) -> Fault:
    return Fault("wrong_type", f"expected {expected}, found {found}", json_path(*path))
