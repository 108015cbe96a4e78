"""Records as documented but for numbers as texts and further fields, at any level: two decodes instead of a walk
through raw members.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
from msgspec import Raw, Struct

from transforms.decode.structs import KINDS, MARKERS, JsonNull, fields

_REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_WHOLE = re.compile(r"-?[0-9]{1,19}")
_FRACTION = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
"""Texts that are numbers beyond doubt; all others are left to the reader that goes object by object."""


class _Odd(Exception):
    """Something else is odd than what is read here."""


@cache
def _opened(struct: type[Struct]) -> type[Struct]:
    """The struct, and those in it, with unknown fields passed over."""
    members: list[Any] = []
    for field in msgspec.structs.fields(struct):
        inner = fields(struct)[field.name]
        kind = field.type
        if isinstance(inner, type) and issubclass(inner, Struct):
            kind = _opened(inner) if field.required else _opened(inner) | None
        members.append((field.name, kind) if field.required else (field.name, kind, field.default))
    return msgspec.defstruct(struct.__name__, members, gc=False)


_LENIENT = tuple(msgspec.json.Decoder(_opened(kind), strict=False) for kind in KINDS)
_RECEIVED = msgspec.json.Decoder(float_hook=Decimal)


def take_number_texts(feed: int, line: bytes) -> tuple[Struct, dict[str, Any]] | None:
    """Reads a record of a feed whose only oddities are numbers as texts and further fields.

    Returns:
      the struct, decimals of texts exact, and what it cannot give back, nested as received; None if it is anything
      else.
    """
    try:
        struct = _LENIENT[feed].decode(line)
        received = _RECEIVED.decode(line)
        if MARKERS[1 - feed] in received:  # it may be of both kinds
            return None
        return struct, _compare(KINDS[feed], struct, received)
    except (*_REFUSALS, _Odd):
        return None


def _compare(kind: type[Struct], struct: Any, received: dict[str, Any]) -> dict[str, Any]:
    """What the struct cannot give back of what was received; sets decimals that came as texts.

    Raises:
      _Odd: a text stands for something else than a number: the lenient decoder also takes it for true, false and null.
    """
    residual: dict[str, Any] = {}
    kinds = fields(kind)
    for name, value in received.items():
        known = kinds.get(name)
        if known is None:
            residual[name] = value
        elif type(value) is dict and known is not Raw:
            inner = _compare(known, getattr(struct, name), value)
            if inner:
                residual[name] = inner
        elif type(value) is str and known is not str and known is not Raw:
            if known not in (int, float) or not (_WHOLE if known is int else _FRACTION).fullmatch(value):
                raise _Odd
            if known is float:
                setattr(struct, name, Decimal(value))
            residual[name] = value
        elif value is not None and known is JsonNull:
            raise _Odd
    return residual
