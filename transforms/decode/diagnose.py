"""Why a line is no JSON object: the reason, the message and, where it can be told, the record's id.

Called for lines that the decoders refused; speed does not matter here. Messages name types and positions, never values.
"""

from __future__ import annotations

import json
import re

import msgspec
import numpy as np

from transforms.decode.faults import Fault

MAX_DEPTH = 400
"""Nesting that is still worth telling apart from `too_deep`; the decoders give up somewhat later."""

_OPENING, _CLOSING = (np.frombuffer(marks, np.uint8) for marks in (b"[{", b"]}"))
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|$)', re.DOTALL)
_ID = re.compile(rb'^\s*\{\s*"id"\s*:\s*"?(-?[0-9]{1,18})\b')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_CONTROL = re.compile(rb"[\x01-\x1f]")
_CUT_NUMBER = re.compile(r"\.|[eE][+-]?")
_CUT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,4})?|u[0-9a-fA-F]{0,4}")


def repair_controls(line: bytes) -> bytes | None:
    """The line with raw control characters inside of its strings escaped; None where there are none.

    emnify's descriptions are known to hold raw newlines, which JSON does not allow.
    """

    def escape(text: re.Match[bytes]) -> bytes:
        return _CONTROL.sub(lambda found: b"\\u%04x" % found.group()[0], text.group())

    if not _CONTROL.search(line):
        return None
    repaired = _STRING.sub(escape, line)
    return None if repaired == line else repaired


def check_text(line: bytes) -> None:
    """Raises a `Fault` for NUL bytes and for bytes that are no UTF-8."""
    position = line.find(b"\0")
    if position >= 0:
        raise Fault("nul_bytes", f"expected text, found a NUL byte at byte {position}", record_id=record_id(line))
    try:
        line.decode()
    except UnicodeDecodeError as error:
        message = f"expected UTF-8, found another byte sequence at byte {error.start}"
        raise Fault("invalid_utf8", message, error=type(error).__name__, record_id=record_id(line)) from None


def check_depth(line: bytes) -> None:
    """Raises a `Fault` for nesting that later readers of the text could not follow."""
    if _depth(line) > MAX_DEPTH:
        raise _too_deep(None, line)


def diagnose(line: bytes, error: Exception | None = None) -> Fault:
    """Why ``line`` is not a JSON object that can be read; ``error`` is what the decoder raised."""
    name = type(error).__name__ if error else None
    found = record_id(line)
    if isinstance(error, RecursionError) or _depth(line) > MAX_DEPTH:
        return _too_deep(name, line)
    constants: list[str] = []
    try:
        value = json.loads(line, strict=False, parse_constant=constants.append, parse_int=len)
    except json.JSONDecodeError as refused:
        return _not_json(line, refused, name, found)
    except RecursionError:
        return _too_deep(name, line)
    if constants:
        return Fault("number_range", "expected a finite number, found NaN or Infinity", None, name, found)
    if not isinstance(value, dict):
        return Fault("wrong_type", f"expected an object, found {_kind(value)}", "$", name, found)
    if _SURROGATE.search(line):
        return Fault("invalid_utf8", "expected Unicode text, found half of a surrogate pair", None, name, found)
    detail = str(error) if isinstance(error, msgspec.DecodeError) else "unreadable"
    return Fault("not_json", f"expected a JSON object: {detail}", None, name, found)


def record_id(line: bytes) -> int | None:
    """The id of a line that cannot be read, where it stands first."""
    match = _ID.match(line)
    return int(match.group(1)) if match else None


def _too_deep(name: str | None, line: bytes) -> Fault:
    message = f"expected nesting up to {MAX_DEPTH} levels, found more"
    return Fault("too_deep", message, None, name, record_id(line))


def _not_json(line: bytes, refused: json.JSONDecodeError, name: str | None, found: int | None) -> Fault:
    text = line.decode("utf-8", "replace").rstrip()
    cut = refused.pos >= len(text) or refused.msg.startswith("Unterminated string")
    if text.lstrip()[:1] in ("{", "[") and (cut or _is_cut(text[: refused.pos], text[refused.pos :])):
        return Fault(
            "truncated", "expected a whole JSON object, found the end of the line within it", None, name, found
        )
    return Fault(
        "not_json", f"expected a JSON object: {refused.msg.lower()} at character {refused.pos}", None, name, found
    )


def _is_cut(head: str, rest: str) -> bool:
    """Whether ``rest``, which cannot be read, is the begin of a literal, number or escape that the line's end cut."""
    if _CUT_NUMBER.fullmatch(rest):
        return head[-1:].isdigit()
    return any(word.startswith(rest) for word in ("true", "false", "null", "-")) or bool(_CUT_ESCAPE.fullmatch(rest))


def _depth(line: bytes) -> int:
    """Deepest nesting of arrays and objects, outside of strings."""
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return 0
    marks = np.frombuffer(_STRING.sub(b"", line), np.uint8)
    steps = np.isin(marks, _OPENING).astype(np.int64) - np.isin(marks, _CLOSING)
    return int(np.cumsum(steps).max(initial=0))


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
