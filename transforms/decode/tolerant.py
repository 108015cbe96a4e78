"""The second tier: records that the strict decoder refuses but that are valid.

In steps: the record of the other kind; a record with further fields; object by object, with unknown fields within
objects, numbers as texts and the reverse and odd booleans; the flat forms (CSV rows, 1NCE 2.0). What is then still
wrong is a `Fault`. Values that a column holds in another JSON type than they were received in are kept in ``extra`` as
received.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from schemas.records import CSV, FLAT
from transforms.decode import paths
from transforms.decode.columns import Note
from transforms.decode.diagnose import check_depth, check_text, diagnose, repair_controls
from transforms.decode.faults import Fault
from transforms.decode.leaves import read_object
from transforms.decode.number_texts import take_number_texts
from transforms.decode.shared import is_documented
from transforms.decode.structs import KINDS, MARKERS, OPEN, STRICT, fields

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NULL = b"null"


@dataclass(slots=True)
class Taken:
    """A record that was taken: its kind, its struct, and what goes to ``extra``."""

    kind: int
    struct: Any
    note: Note | None = None


def take_json(feed: int, line: bytes) -> Taken:
    """Reads one line of JSON of a feed.

    Raises:
      Fault: it is no record.
    """
    other = 1 - feed
    try:
        struct = STRICT[other].decode(line)
        if is_documented(other, struct):
            return Taken(other, struct)
    except _REFUSALS:
        pass  # the usual case: it is of this feed's kind
    check_text(line)
    check_depth(line)
    extended = _take_extended(feed, line)
    if extended is not None:
        return extended
    read = take_number_texts(feed, line)
    if read is not None:
        return Taken(feed, read[0], Note(read[1]))
    line = line.removeprefix(_BYTE_ORDER_MARK)
    try:
        members = _MEMBERS.decode(line)
    except _REFUSALS as error:
        repaired = repair_controls(line)
        if repaired is None:
            raise diagnose(line, error) from None
        line = repaired
        try:
            members = _MEMBERS.decode(line)
        except _REFUSALS as again:
            raise diagnose(line, again) from None
    try:
        return _take_members(feed, members)
    except Fault as fault:
        if fault.record_id is None:
            fault.record_id = _identity(members)
        raise


def _take_extended(feed: int, line: bytes) -> Taken | None:
    """A record as documented but for further fields; None if it is something else."""
    try:
        struct = OPEN[feed].decode(line)
        members = _MEMBERS.decode(line)
    except _REFUSALS:
        return None
    known = fields(KINDS[feed])
    residual = {name: content for name, content in members.items() if name not in known}
    if MARKERS[1 - feed] in residual:  # it may be of both kinds
        return None
    return Taken(feed, struct, Note(residual))


def take_row(feed: int, row: bytes, header: Sequence[str]) -> Taken:
    """Reads one row of CSV; empty cells are null.

    Raises:
      Fault: it is no record.
    """
    check_text(row)
    try:
        cells = next(csv.reader([row.decode().rstrip("\r\n")], strict=True), [])
    except csv.Error as error:
        raise Fault("not_json", f"expected a CSV row: {error}", error=type(error).__name__) from None
    if len(cells) != len(header):
        reason = "truncated" if len(cells) < len(header) else "wrong_type"
        raise Fault(reason, f"expected {len(header)} cells as in the header, found {len(cells)}")
    members = {name: Raw(msgspec.json.encode(cell)) for name, cell in zip(header, cells, strict=True) if cell}
    kinds = [kind for kind in (0, 1) if paths.FLAT_MARKERS[kind] in header]
    kind = kinds[0] if len(kinds) == 1 else feed
    try:
        return _take_flat(kind, members, CSV)
    except Fault as fault:
        fault.record_id = _identity(members)
        raise


def _take_members(feed: int, members: dict[str, Raw]) -> Taken:
    nested = [kind for kind in (0, 1) if _present(members, MARKERS[kind])]
    flat = [kind for kind in (0, 1) if _present(members, paths.FLAT_MARKERS[kind])]
    kinds = set(nested or flat)
    if len(kinds) > 1:
        raise Fault("wrong_kind", "expected either event_type or traffic_type, found both", f"$.{MARKERS[feed]}")
    if not kinds:
        raise Fault("missing_field", f"expected {MARKERS[feed]}, found none", f"$.{MARKERS[feed]}")
    kind = kinds.pop()
    if not nested:
        return _take_flat(kind, members, FLAT)
    struct, residual = read_object(KINDS[kind], members, ())
    return Taken(kind, struct, Note(residual))


def _take_flat(kind: int, members: dict[str, Raw], rendering: int) -> Taken:
    nested: dict[str, Any] = {}
    residual: dict[str, Any] = {}
    detail: dict[str, Any] = {}
    for name, value in members.items():
        path = paths.FLAT[kind].get(name)
        if bytes(value) == _NULL:
            continue
        if path is not None:
            _place(nested, path, value)
        elif kind == 0 and name.startswith("detail_"):
            _place(detail, _detail_path(name), value)
        else:
            residual[name] = value
    if rendering == CSV and "detail" in nested:
        nested["detail"] = _detail_of_text(nested["detail"])
    if detail:
        nested.setdefault("detail", Raw(msgspec.json.encode(detail)))
    struct, odd = read_object(KINDS[kind], nested, ())
    if rendering == FLAT:
        residual.update(odd)
    return Taken(kind, struct, Note(residual, rendering))


def _detail_path(name: str) -> tuple[str, ...]:
    rest = name.removeprefix("detail_")
    for group in paths.FLAT_DETAIL_GROUPS:
        if rest.startswith(f"{group}_"):
            return (group, rest.removeprefix(f"{group}_"))
    return (rest,)


def _detail_of_text(content: Raw) -> Raw:
    """A CSV cell with a JSON object is that object; other texts stay texts."""
    text = msgspec.json.decode(content).encode()
    try:
        _MEMBERS.decode(text)
    except _REFUSALS:
        return content
    return Raw(text)


def _place(target: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        inner = target.setdefault(name, {})
        target = inner if isinstance(inner, dict) else target.setdefault(f"{name}_", {})
    target.setdefault(path[-1], value)


def _present(members: dict[str, Raw], name: str) -> bool:
    return name in members and bytes(members[name]) != _NULL


def _identity(members: dict[str, Raw]) -> int | None:
    """The id, where it is an integer of 64 bits."""
    try:
        number = int(msgspec.json.decode(members.get("id", Raw(_NULL)), type=int, strict=False))
    except _REFUSALS:
        return None
    return number if -(1 << 63) <= number < 1 << 63 else None
