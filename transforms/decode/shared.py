"""Objects that many records share (organisation, operator, tariff, types), decoded once each.

The strict decoder leaves them as JSON. Per field, every different text is decoded once a block; a record then only
holds its number among them, and the columns are taken from few values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw, Struct

from transforms.decode.structs import KINDS, SHARED, required

_REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_REFUSED = -1
_ABSENT = (b"", b"null")


class SharedField:
    """One field's different objects."""

    def __init__(self, struct: type[Struct], needed: bool):
        self.objects: list[Struct | None] = []
        self._numbers: dict[bytes, int] = {}
        self._decoder = msgspec.json.Decoder(struct)
        self._needed = needed

    def numbers(self, contents: Sequence[Raw]) -> np.ndarray:
        """Numbers of JSON texts in ``objects``; below 0 where one is not as documented."""
        texts = list(map(bytes, contents))
        for text in set(texts) - self._numbers.keys():
            self._numbers[text] = self._number(text)
        return np.fromiter(map(self._numbers.__getitem__, texts), np.int32, len(texts))

    def accepts(self, content: Raw) -> bool:
        """Whether a JSON text is as documented; keeps nothing."""
        try:
            self._decoded(bytes(content))
        except _REFUSALS:
            return False
        return True

    def _number(self, text: bytes) -> int:
        try:
            self.objects.append(self._decoded(text))
        except _REFUSALS:
            return _REFUSED
        return len(self.objects) - 1

    def _decoded(self, text: bytes) -> Struct | None:
        if text not in _ABSENT:
            return self._decoder.decode(text)
        if self._needed:
            raise msgspec.ValidationError("missing")
        return None


class Shared:
    """The shared objects of a kind's records in a block."""

    def __init__(self, kind: int):
        self.fields = {
            name: SharedField(struct, name in required(KINDS[kind])) for name, struct in SHARED[kind].items()
        }

    def numbers(self, structs: Sequence[Any]) -> np.ndarray:
        """A row per field, a column per struct: numbers of its objects; below 0 where one is not as documented."""
        rows = [field.numbers(_contents(structs, name)) for name, field in self.fields.items()]
        return np.array(rows, np.int32).reshape(len(self.fields), len(structs))


def is_documented(kind: int, struct: Struct) -> bool:
    """Whether the shared objects of a strictly decoded record, which are still JSON, are as documented too."""
    return all(field.accepts(getattr(struct, name)) for name, field in _checks(kind).items())


@cache
def _checks(kind: int) -> dict[str, SharedField]:
    return Shared(kind).fields


def _contents(structs: Sequence[Any], name: str) -> list[Raw]:
    contents = list(map(attrgetter(name), structs))
    if set(map(type, contents)) != {Raw}:  # the tolerant decoder makes structs
        return [item if type(item) is Raw else Raw(msgspec.json.encode(item)) for item in contents]
    return contents
