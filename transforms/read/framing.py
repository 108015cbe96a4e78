"""How a file is divided into records, found once per file from its first 64 KiB.

``lines``: one record a line. ``documents``: JSON that is not (arrays, pretty-printed, objects on end). ``csv``: a
header row, then rows. One bad line does not change the framing of a file: what counts is whether any line that begins
at column 0 is a complete JSON object.
"""

from __future__ import annotations

import csv
import re

import msgspec

from transforms.read.raw import BYTE_ORDER_MARK, WHITESPACE

LINES, DOCUMENTS, CSV = "lines", "documents", "csv"
HEAD_BYTES = 64 << 10
"""Bytes of a file, after decompression, that its framing is found from."""

_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_any_decoder = msgspec.json.Decoder(msgspec.Raw)


def find_framing(head: bytes) -> tuple[str, tuple[str, ...] | None]:
    """The framing of a file, and the column names of a CSV file.

    Args:
      head: the first `HEAD_BYTES` of the file, after decompression; all of it if it is shorter.
    """
    text = head.removeprefix(BYTE_ORDER_MARK).lstrip(WHITESPACE)
    if not text.startswith((b"{", b"[")):
        header = csv_header(text)
        return (LINES, None) if header is None else (CSV, header)
    return (DOCUMENTS if _is_document(text, len(head) < HEAD_BYTES) else LINES), None


def csv_header(text: bytes) -> tuple[str, ...] | None:
    """The column names in the first row of ``text``; None if that is no header row of a feed (it names an ``id``)."""
    first_line = text.partition(b"\n")[0].decode("utf-8", "replace").strip()
    try:
        names = tuple(name.strip() for name in next(csv.reader([first_line], skipinitialspace=True), []))
    except csv.Error:
        return None
    is_header = len(names) > 1 and "id" in map(str.lower, names) and all(map(_COLUMN.fullmatch, names))
    return names if is_header else None


def _is_document(text: bytes, whole: bool) -> bool:
    first_line, line_feed, _ = text.partition(b"\n")
    valid = _valid_prefix(text)
    if text.startswith(b"["):
        if valid is not None:
            # A complete array on the first line, with more behind it: webhook batches, one a line.
            return not (_is_json(first_line) and line_feed and valid < len(text.rstrip(WHITESPACE)))
        objects, followed = _object_lines(text, whole)
        return objects == 0 or followed >= objects
    if _object_lines(text, whole)[0] or not line_feed:
        # Without a line feed: one object, or the first of many lines, which is long. Objects on end are a document.
        return not line_feed and valid is not None and valid < len(text.rstrip(WHITESPACE))
    return valid is not None or first_line.strip(WHITESPACE) == b"{"


def _object_lines(text: bytes, whole: bool) -> tuple[int, int]:
    """Lines that begin at column 0 with ``{`` and are a complete object; such lines followed by a comma."""
    lines = text.split(b"\n")
    if not whole:
        lines.pop()
    objects = followed = 0
    for line in lines:
        if line.startswith(b"{"):
            line = line.rstrip(WHITESPACE)
            objects += line.endswith(b"}") and _is_json(line)
            followed += line.endswith(b"},") and _is_json(line[:-1])
    return objects, followed


def _is_json(text: bytes) -> bool:
    try:
        _any_decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _valid_prefix(text: bytes) -> int | None:
    """How much of ``text`` its first JSON value takes: all if it goes on behind ``text``; None if it is malformed."""
    try:
        _any_decoder.decode(text)
    except msgspec.DecodeError as error:
        trailing = _TRAILING.search(str(error))
        if trailing is not None:
            return int(trailing[1]) - 1
        return len(text) if "truncated" in str(error) else None
    except RecursionError:
        return len(text)
    return len(text)
