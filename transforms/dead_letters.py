"""Dead letters: records that are at fault, as values.

A `DeadLetter` carries the record's bytes as received, where it came from and why it was refused. `dead_letter_batch`
makes rows of `schemas.tables.DEAD_LETTERS` of them. Secrets are replaced by ``***`` before anything is written
(`scrub`); the letter's id, size and digest are of the bytes as received, so that a second run over the same input
writes the same rows.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from schemas.records import FEEDS
from schemas.tables import DEAD_LETTERS, SCHEMA_VERSION

MALFORMED, CONFLICT, DELIVERY = "malformed", "conflict", "delivery"
KINDS = (MALFORMED, CONFLICT, DELIVERY)
"""What a dead letter is: a line that is no valid record, the loser of an id conflict, a refused delivery."""

REASONS = (
    "not_json",
    "truncated",
    "wrong_type",
    "missing_field",
    "time_range",
    "number_range",
    "invalid_utf8",
    "nul_bytes",
    "too_deep",
    "too_large",
    "wrong_kind",
    "gzip_cut",
    "id_conflict",
    "delivery_rejected",
)
"""The closed list of reasons."""

INLINE_PAYLOAD = 1 << 20
"""Longest payload (bytes) that is kept in the row; longer ones become a file named by their SHA-256."""

MASK = b"***"


@dataclass(slots=True)
class DeadLetter:
    """One record that is at fault.

    Attributes:
      kind: one of `KINDS`.
      feed: 0 events, 1 usage: kind of the record, or of its file where the record could not be read.
      reason: one of `REASONS`.
      message: what was expected and what was found. Holds no value of a field: values may be personal.
      payload: the bytes as received, or None where they are not at hand (too large, cut gzip).
      source_file: file, or message id, that it came from.
      byte_offset: where it begins in the file, after decompression.
      ingest_time: time of the input in microseconds, UTC.
      json_path: field at fault, such as ``$.endpoint.id``.
      error_type: name of the error class.
      record_id: id of the record where it could be read and fits 64 bits.
      stream: name of the stream that refused it (kind ``delivery``).
      payload_size, payload_sha256: of the bytes as received, where ``payload`` is None or already scrubbed.
    """

    kind: str
    feed: int
    reason: str
    message: str
    payload: bytes | None
    source_file: str
    byte_offset: int
    ingest_time: int
    json_path: str | None = None
    error_type: str | None = None
    record_id: int | None = None
    stream: str | None = None
    payload_size: int | None = None
    payload_sha256: str | None = None


# Each of these finds its literal first and reads on from there, never back: the time is linear in the length.
# JSON Web Tokens: base64url of '{"' begins with eyJ. One cut short is still a secret.
_JWT = re.compile(rb"eyJ[A-Za-z0-9_\-+/=]{6,}+(?:\.[A-Za-z0-9_\-+/=]*+){0,4}+")
_USER_INFO = re.compile(rb"(://)[^\s/\"'@:\\]*+:[^\s/\"'@\\]++@")
_BEARER = re.compile(rb"\b([bB](?i:earer|asic)\s++)[A-Za-z0-9_\-+/=.~]{8,}+")
# In lower case: what names of secret values end in.
_SECRET = re.compile(
    rb"(?:activation|api|write|access|private)_?key|token|passw(?:or)?d|secret|connection_?string|authorization"
)
_SECRET_HINTS = (b"key", b"token", b"passw", b"secret", b"connection", b"authorization")
# What follows the name. "token": "…" (also one that a truncated line leaves open), or a number in its place.
_MEMBER = re.compile(rb'("\s*+:\s*+)(?:"(?:[^"\\]++|\\.)*+(?:"|\\?$)|-?[0-9][0-9.eE+\-]*+)', re.S)
# The same inside a JSON text that is itself a JSON string: \"token\": \"…\".
_INNER_MEMBER = re.compile(rb'(\\"\s*+:\s*+)(?:\\".*?(\\"|(?<!\\)"|$)|-?[0-9][0-9.eE+\-]*+)', re.S)
# name=value in texts, connection strings and addresses; passwords also as name: value.
_ASSIGNED = re.compile(rb"(\s*+=\s*+)[^\s\"',;&\\*][^\s\"',;&\\]*+")
_PASSWORD = re.compile(rb"(\s*+[=:]\s*+)[^\s\"',;&\\*][^\s\"',;&\\]*+")


def scrub(payload: bytes) -> bytes:
    """Replaces secrets by ``***``: JWTs, and the values of activation keys, tokens, passwords and other credentials.

    Works by pattern, so that it also holds for lines that cannot be read. A JSON text stays one: only inside of
    strings, or whole strings and numbers, are replaced.
    """
    if b"eyJ" in payload:
        payload = _JWT.sub(MASK, payload)
    if b"://" in payload:
        payload = _USER_INFO.sub(rb"\1***@", payload)
    lower = payload.lower()
    if b"bearer" in lower or b"basic" in lower:
        payload = _BEARER.sub(rb"\1***", payload)
        lower = payload.lower()
    if any(hint in lower for hint in _SECRET_HINTS):
        payload = _mask_values(payload, lower)
    return payload


def _mask_values(payload: bytes, lower: bytes) -> bytes:
    """Masks the values that follow names of secrets; ``lower`` is the payload in lower case."""
    pieces: list[bytes] = []
    done = 0
    for name in _SECRET.finditer(lower):
        end = name.end()
        if end <= done:  # inside of a value that is masked
            continue
        follows = lower[end : end + 1]
        if follows == b'"':
            value, mask = _MEMBER.match(payload, end), b'"***"'
        elif follows == b"\\":
            value, mask = _INNER_MEMBER.match(payload, end), b'\\"***'
            mask += (value.group(2) if value.group(2) is not None else b'\\"') if value else b""
        else:
            value, mask = (_PASSWORD if name.group()[:5] == b"passw" else _ASSIGNED).match(payload, end), MASK
        if value:
            pieces += (payload[done:end], value.group(1), mask)
            done = value.end()
    return b"".join((*pieces, payload[done:]))


def dead_letter_batch(letters: Sequence[DeadLetter], writer: str, dead_dir: str) -> pa.RecordBatch:
    """Rows of `schemas.tables.DEAD_LETTERS` for ``letters``, in their order.

    Payloads longer than `INLINE_PAYLOAD` are written, scrubbed, to ``dead_dir/<sha256 of the bytes as received>`` and
    are null in the row. The same letter gives the same row and file in a second run.

    Raises:
      OSError: a long payload cannot be written to ``dead_dir``.
    """
    columns: dict[str, list[object]] = {name: [] for name in DEAD_LETTERS.schema.names}
    for letter in letters:
        for name, value in _row(letter, writer, dead_dir).items():
            columns[name].append(value)
    arrays = [pa.array(columns[field.name], field.type) for field in DEAD_LETTERS.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=DEAD_LETTERS.schema)


def _row(letter: DeadLetter, writer: str, dead_dir: str) -> dict[str, object]:
    payload = letter.payload
    size, sha256 = letter.payload_size, letter.payload_sha256
    if payload is not None:
        size = len(payload) if size is None else size
        sha256 = hashlib.sha256(payload).hexdigest() if sha256 is None else sha256
        payload = scrub(payload)
        if len(payload) > INLINE_PAYLOAD:
            _store(payload, dead_dir, sha256)
            payload = None
    return {
        "id": _identity(letter, sha256),
        "kind": letter.kind,
        "feed": FEEDS[letter.feed],
        "stream": letter.stream,
        "record_id": letter.record_id,
        "reason": letter.reason,
        "json_path": letter.json_path,
        "message": letter.message,
        "error_type": letter.error_type,
        "payload": payload,
        "payload_size": size,
        "payload_sha256": sha256,
        "source_file": letter.source_file,
        "byte_offset": letter.byte_offset,
        "ingest_time": letter.ingest_time,
        "writer": writer,
        "schema_version": SCHEMA_VERSION,
    }


def _identity(letter: DeadLetter, sha256: str | None) -> str:
    """Digest of where the letter came from and what it is, as 32 hex characters."""
    parts = (FEEDS[letter.feed], letter.source_file, str(letter.byte_offset), letter.stream or "", sha256 or "")
    return hashlib.sha256("\0".join((letter.kind, *parts)).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _store(payload: bytes, dead_dir: str, sha256: str) -> None:
    """Writes one long payload; a local file appears whole or not at all."""
    from apache_beam.io.filesystems import FileSystems  # slow to import, and seldom needed

    path = FileSystems.join(dead_dir, sha256)
    if "://" in dead_dir:
        with FileSystems.create(path) as handle:
            handle.write(payload)
        return
    os.makedirs(dead_dir, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=dead_dir)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(payload)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
