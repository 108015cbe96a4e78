"""Lines that cannot become a record, each with the reason that a dead letter must state."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from simulator.renderings import EVENTS

_JUNK = (
    b"this is not a record",
    b"<event><id>5</id></event>",
    b"{'id': 5, 'timestamp': 'now'}",
    b"id=5;volume=1",
    b"{]}",
)


def _with_id(line: bytes, value: str) -> bytes:
    """The line with another id; the id comes first in every line."""
    return b'{"id":' + value.encode() + line[line.index(b",") :]


def _with_time(line: bytes, feed: int, value: object) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(line), _time_field(feed): value})


def _time_field(feed: int) -> str:
    return "timestamp" if feed == EVENTS else "end_timestamp"


def _truncated(line: bytes, feed: int, salt: int) -> bytes:
    # The cut lies in the inner part, between two characters.
    end = len(line) // 5 + salt % (len(line) * 3 // 5)
    while line[end] & 0xC0 == 0x80:
        end -= 1
    return line[:end]


def _not_json(line: bytes, feed: int, salt: int) -> bytes:
    return _JUNK[salt % len(_JUNK)]


def _wrong_type(line: bytes, feed: int, salt: int) -> bytes:
    choice = salt % 5
    if choice == 4:
        return (b"42", b'"a text"', b"true")[salt // 5 % 3]
    if choice == 3:
        return _with_time(line, feed, [2026, 10, 1])
    return _with_id(line, ('"not a number"', '{"value":5}', "[5]")[choice])


def _missing_field(line: bytes, feed: int, salt: int) -> bytes:
    record = msgspec.json.decode(line)
    if salt % 3 == 0:
        del record["id"]
    elif salt % 3 == 1:
        record["id"] = None
    else:
        record.pop(_time_field(feed))
        record.pop("start_timestamp", None)
    return msgspec.json.encode(record)


def _time_range(line: bytes, feed: int, salt: int) -> bytes:
    times = ("1970-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "2999-01-01T00:00:00Z")
    return _with_time(line, feed, times[salt % len(times)])


def _number_range(line: bytes, feed: int, salt: int) -> bytes:
    return _with_id(line, str((2**63, 10**30, -(2**63) - 1)[salt % 3]))


def _not_a_number(line: bytes, feed: int, salt: int) -> bytes:
    return _with_id(line, ("NaN", "Infinity")[salt % 2])


def _invalid_utf8(line: bytes, feed: int, salt: int) -> bytes:
    return line.replace(b'"name":"', b'"name":"\xff\xfe', 1)


def _nul_bytes(line: bytes, feed: int, salt: int) -> bytes:
    return b"\x00" * 40 if salt % 2 else line.replace(b'"name":"', b'"name":"\x00', 1)


def _too_deep(line: bytes, feed: int, salt: int) -> bytes:
    return line[:-1] + b',"nested":' + b"[" * 10_000 + b"]" * 10_000 + b"}"


_FAULTS: tuple[tuple[str, int, Callable[[bytes, int, int], bytes]], ...] = (
    ("truncated", 30, _truncated),
    ("not_json", 15, _not_json),
    ("wrong_type", 15, _wrong_type),
    ("missing_field", 12, _missing_field),
    ("time_range", 8, _time_range),
    ("number_range", 8, _number_range),
    ("number_range", 4, _not_a_number),
    ("invalid_utf8", 4, _invalid_utf8),
    ("nul_bytes", 3, _nul_bytes),
    ("too_deep", 1, _too_deep),
)
_WHEEL = tuple(place for place, (_, weight, _) in enumerate(_FAULTS) for _ in range(weight))

FAULT_CLASSES = len(_FAULTS)


def malformed(line: bytes, feed: int, salt: int, place: int | None = None) -> tuple[bytes, str]:
    """A faulty line made of a valid one, and the reason of its dead letter.

    ``salt`` chooses the fault by its weight, unless ``place`` (below `FAULT_CLASSES`) names it.
    """
    reason, _, make = _FAULTS[_WHEEL[salt % len(_WHEEL)] if place is None else place]
    return make(line, feed, salt // len(_WHEEL)), reason


def over_long(line: bytes, size: int) -> tuple[bytes, str]:
    """A valid record of ``size`` bytes: longer than any line may be."""
    start = line[:-1] + b',"padding":"'
    return start + b"x" * (size - len(start) - 2) + b'"}', "too_large"
