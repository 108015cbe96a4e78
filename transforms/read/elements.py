"""JSON arrays that are at hand, taken apart into the bytes of their elements."""

from __future__ import annotations

import msgspec

from transforms.read.raw import WHITESPACE
from transforms.read.structure import State, scan

_array_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_any_decoder = msgspec.json.Decoder(msgspec.Raw)


def array_elements(text: bytes) -> list[tuple[bytes, int]] | None:
    """The elements of a JSON array, each with its position in ``text``; None if ``text`` is none.

    An array is also taken apart where one of its elements is no valid JSON, if brackets and quotes balance and all
    elements are objects: the fault is then the element's.
    """
    try:
        elements = [bytes(element) for element in _array_decoder.decode(text)]
    except (msgspec.MsgspecError, RecursionError):
        return _balanced_objects(text)
    placed, position = [], text.index(b"[") + 1
    for element in elements:
        # Only white space and a comma lie before it, and no element begins with these.
        position = text.index(element, position)
        placed.append((element, position))
        position += len(element)
    return placed


def is_complete(text: bytes) -> bool:
    """Whether ``text``, which a cut may have shortened, is a whole JSON object or array."""
    try:
        _any_decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return text.strip(WHITESPACE)[-1:] in (b"}", b"]")


def _balanced_objects(text: bytes) -> list[tuple[bytes, int]] | None:
    state = State()
    marks = scan(text, 0, state)
    starts, ends = marks.opens.tolist(), (marks.closes + 1).tolist()
    borders = marks.borders.tolist()
    if state.depth or state.in_string or len(borders) != 2 or not starts:
        return None
    gaps = zip([borders[0] + 1, *ends], [*starts, borders[1]], strict=True)
    between = [text[start:end].strip(WHITESPACE) for start, end in gaps]
    outside = text[: borders[0]].strip(WHITESPACE) or text[borders[1] + 1 :].strip(WHITESPACE)
    separated = not between[0] and not between[-1] and all(gap == b"," for gap in between[1:-1])
    objects = all(
        text[start] == ord("{") and text[end - 1] == ord("}") for start, end in zip(starts, ends, strict=True)
    )
    if outside or not separated or not objects:
        return None
    return [(text[start:end], start) for start, end in zip(starts, ends, strict=True)]
