"""Masks what stands inside of texts and JSON records: members by name, identifiers by pattern, known values literally.

Works on one text at a time; what a record holds is decoded once. Numbers keep their exact value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from schemas.masks import ADDRESSES
from transforms.route.members import columns_of
from transforms.route.pseudonyms import Hidden, network_of

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")

_MAIL = r"(?P<mail>[^\s\"'<>()\[\]{},;:=@\\]+@[^\s\"'<>()\[\]{},;:=@\\]*[^\s\"'<>()\[\]{},;:=@\\.!?])"
_V6 = r"(?P<v6>(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}(?![0-9A-Fa-f.])|(?:\d{1,3}\.){3}\d{1,3})?)"
_V4 = r"(?P<v4>(?<!\d)(?<!\d\.)(?:\d{1,3}\.){3}\d{1,3}(?!\d)(?!\.\d))"
# International numbers, long numbers anywhere, and shorter ones that are no part of a word or a UUID.
_DIGITS = r"(?P<digits>(?<!\d)(?:\+\d{7,}|\d{14,})(?!\d)|(?<![0-9A-Za-z-])\d{10,13}(?![0-9A-Za-z-]))"
_PATTERNS: dict[str, tuple[str, ...]] = {
    _MAIL: ("user_username", "user_name"),
    _V6: ADDRESSES,
    _V4: ADDRESSES,
    _DIGITS: ("msisdn", "imsi", "sim_imsi", "imei", "imei_raw", "iccid", "iccid_19"),
}
"""Pattern → the columns of which one must be masked for it to be looked for."""

_SUBSCRIBERS = ("imsi", "sim_imsi", "imei_raw", "imei", "msisdn")
_BY_LENGTH = (
    (18, ("iccid", "iccid_19", "imei_raw", "imei")),
    (16, ("imei_raw", "imei", "imsi", "sim_imsi")),
    (14, _SUBSCRIBERS),
    (0, ("msisdn",)),
)
"""Fewest digits → what such a number may be (ITU-T E.118, E.164 and E.212, 3GPP TS 23.003)."""

_MEMBERS = 10_000
"""Most names of members that are remembered: names out of records have no end."""

_SHORT = 48
"""Characters up to which texts are remembered: names of countries, operators, regions come again and again."""

_LONG = 10**13
"""JSON numbers from here on are looked at as identifiers."""

_UNDECODABLE = (msgspec.DecodeError, RecursionError, ValueError)
"""Also nested too deep, or with a number of thousands of digits."""


@dataclass(frozen=True)
class Spelled:
    """A value that must not stay in a text, and what comes in its place."""

    value: str
    shown: str

    def pattern(self) -> re.Pattern[str]:
        """Finds it: numbers and short texts only where they stand alone."""
        return _literal(self.value)


@lru_cache(maxsize=4096)
def _literal(value: str) -> re.Pattern[str]:
    literal = re.escape(value)
    if value.isdigit():
        literal = rf"(?<!\d){literal}(?!\d)"
    elif len(value) < 6:
        literal = rf"(?<!\w){literal}(?!\w)"
    return re.compile(literal, re.IGNORECASE)


JSON_COLUMNS = ("detail", "extra")
"""Columns whose texts are JSON."""

Change = Callable[[str], str]


class Redaction:
    """How a mask changes texts.

    Args:
      hidden: what becomes of the values of each masked column.
    """

    def __init__(self, hidden: Mapping[str, Hidden]) -> None:
        self._hidden = hidden
        looked_for = [pattern for pattern, columns in _PATTERNS.items() if any(name in hidden for name in columns)]
        self._pattern = re.compile("|".join(looked_for)) if looked_for else None
        self._members: dict[tuple[str, str], tuple[str, Hidden | None]] = {}
        self._remembered = lru_cache(maxsize=1 << 16)(self._masked)

    def text(self, text: str) -> str:
        """A text with what the patterns find masked."""
        return self._remembered(text) if len(text) <= _SHORT else self._masked(text)

    def _masked(self, text: str) -> str:
        return self._pattern.sub(self._found, text) if self._pattern is not None else text

    def record(self, text: str, column: str) -> str | None:
        """A JSON text with its members masked by name and its texts by pattern; None where it cannot be decoded."""
        return self._changed(text, column, self.text, by_name=True)

    def without(self, text: str, values: Sequence[Spelled], column: str) -> str | None:
        """A column's text without the given values."""
        ordered = sorted(values, key=lambda each: -len(each.value))

        def change(text: str) -> str:
            for each in ordered:
                text = each.pattern().sub(lambda _, shown=each.shown: shown, text)  # type: ignore[misc]
            return text

        return self._changed(text, column, change, by_name=False) if column in JSON_COLUMNS else change(text)

    def _changed(self, text: str, column: str, change: Change, by_name: bool) -> str | None:
        try:
            record = _DECODER.decode(text)
            if column == "extra" and isinstance(record, dict) and "id" in record:
                # The record's own id, as received: a delivery id.
                own = record.pop("id")
                return _encoded({"id": own, **self._walk(record, "", None, change, by_name)})
            return _encoded(self._walk(record, "", None, change, by_name))
        except _UNDECODABLE:
            return None

    def _walk(self, value: Any, name: str, inherited: Hidden | None, change: Change, by_name: bool) -> Any:
        """A decoded value, masked; ``name`` is the member that holds it, ``inherited`` what hides all that it holds."""
        kind = type(value)
        if kind is dict:
            changed = {}
            for member, below in value.items():
                spelled, hidden = self._member(name, member) if by_name else (change(member), None)
                if below is not None:
                    below = self._walk(below, member, hidden or inherited, change, by_name)
                changed[spelled] = below
            return changed
        if kind is list:
            return [self._walk(each, name, inherited, change, by_name) for each in value]
        if value is None or kind is bool or value == "":
            return value
        if inherited is not None:
            return inherited.member(value)
        if kind is str:
            return self._inner(value, change, by_name) if value[0] in "{[" else change(value)
        if kind is int and (not by_name or abs(value) >= _LONG):
            changed_text = change(str(value))
            return value if changed_text == str(value) else changed_text
        return value

    def _inner(self, text: str, change: Change, by_name: bool) -> str:
        """A text that may itself be JSON."""
        try:
            return _encoded(self._walk(_DECODER.decode(text), "", None, change, by_name))
        except _UNDECODABLE:
            return change(text)

    def _member(self, parent: str, name: str) -> tuple[str, Hidden | None]:
        """A member's name, itself masked by pattern, and what hides its values."""
        known = self._members.get((parent, name))
        if known is None:
            if len(self._members) > _MEMBERS:
                self._members.clear()
            hidden = next((self._hidden[each] for each in columns_of(parent, name) if each in self._hidden), None)
            known = self._members[parent, name] = (self._masked(name), hidden)
        return known

    def _found(self, match: re.Match[str]) -> str:
        text = match.group()
        if match.lastgroup == "mail":
            return self._shown(text, ("user_username", "user_name"))
        if match.lastgroup == "digits":
            digits = len(text.lstrip("+"))
            digits = 0 if text[0] == "+" and digits < 16 else digits  # an international number, whatever its length
            return self._shown(text, next(columns for least, columns in _BY_LENGTH if digits >= least))
        return self._shown(text, ADDRESSES) if match.lastgroup == "v4" else self._shown_v6(text)

    def _shown_v6(self, text: str) -> str:
        """An IPv6 address between colons that may belong to the sentence; times of day are none."""
        if "::" not in text and text.count(":") < 6:
            return text
        for before, address, after in (("", text, ""), (":", text[1:], ""), ("", text[:-1], ":")):
            if before + address + after == text and network_of(address) is not None:
                return before + self._shown(address, ADDRESSES) + after
        return text

    def _shown(self, text: str, columns: tuple[str, ...]) -> str:
        hidden = next((self._hidden[name] for name in columns if name in self._hidden), None)
        return text if hidden is None else hidden.shown(text)


def _encoded(value: Any) -> str:
    return _ENCODER.encode(value).decode()
