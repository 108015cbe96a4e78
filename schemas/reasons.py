"""The table of reasons: `reasons.yaml`, one line per row, and rows that an operator adds in a file of the same form.

The platform exposes no numeric causes; why an attempt was rejected stands in free text. The table normalises these
texts. Texts that no row fits get the reason `OTHER_REASON`, with the domain by the event's source (`SOURCE_DOMAINS`).
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import msgspec

DOMAINS: tuple[str, ...] = ("device", "connectivity", "account", "application", "platform")
"""Answers to "is it the device, the connectivity or us?"."""

OTHER_REASON = "other"
"""Reason of rejected and failed events whose text no row of the table fits."""

SOURCE_DOMAINS: dict[str, str] = {"network": "connectivity", "policy_control": "account", "api": "platform"}
"""Domain of `OTHER_REASON` by the event's source."""


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the table; see the head of `reasons.yaml` for its fields."""

    types: tuple[int, ...]
    reason: str
    domain: str
    text: str | None = None
    failed: bool = False
    breakout_status_other_than: str | None = None
    seen: bool = True
    note: str = ""


class ReasonsError(ValueError):
    """A file of reasons that cannot be used; the message lists every mistake with its row."""


def _mistakes(rows: list[Reason]) -> list[str]:
    mistakes = []
    for number, row in enumerate(rows, 1):
        if row.domain not in DOMAINS:
            mistakes.append(f"row {number} ({row.reason}): domain {row.domain!r} is none of {', '.join(DOMAINS)}")
        if not row.types:
            mistakes.append(f"row {number} ({row.reason}): types is empty; name at least one event type id")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", row.reason):
            mistakes.append(f"row {number}: reason {row.reason!r} must be lower case words joined by _")
        if row.text is not None:
            try:
                re.compile(row.text)
            except re.error as error:
                mistakes.append(f"row {number} ({row.reason}): text is no regular expression: {error}")
            if re.search(r"(?<![\\?])[A-Z]", row.text):
                mistakes.append(f"row {number} ({row.reason}): text must be lower case, as the texts that it meets")
    return mistakes


def _parse(name: str, content: bytes) -> tuple[Reason, ...]:
    """Rows of a file. Raises `ReasonsError` with all mistakes."""
    try:
        rows = msgspec.yaml.decode(content, type=list[Reason]) if content.strip() else []
    except msgspec.MsgspecError as error:
        raise ReasonsError(f"{name}: {error}; expected a list of rows as in schemas/reasons.yaml") from error
    if mistakes := _mistakes(rows):
        raise ReasonsError("\n".join(f"{name}: {mistake}" for mistake in mistakes))
    return tuple(rows)


REASON_TABLE: tuple[Reason, ...] = _parse(
    "schemas/reasons.yaml", resources.files("schemas").joinpath("reasons.yaml").read_bytes()
)
"""The built-in rows, in the order in which they are tried."""


def load_reasons(path: str | None = None, content: bytes | None = None) -> tuple[Reason, ...]:
    """The table to classify with: the operator's rows of `path` first, so that they win, then the built-in ones.

    Args:
      path: the operator's file; None: the built-in rows only.
      content: what stands in the file, where the caller has read it (an object store); else it is read here.

    Raises:
      ReasonsError: the file cannot be read or holds a mistake; the message lists all of them.
    """
    if path is None:
        return REASON_TABLE
    try:
        content = Path(path).read_bytes() if content is None else content
    except OSError as error:
        raise ReasonsError(f"{path}: cannot be read ({error.strerror}); give a YAML file of reasons") from error
    return _parse(path, content) + REASON_TABLE


def reason_names(table: tuple[Reason, ...] = REASON_TABLE) -> tuple[str, ...]:
    """All reasons that events can get with a table, `OTHER_REASON` last."""
    return (*dict.fromkeys(row.reason for row in table), OTHER_REASON)


REASONS: tuple[str, ...] = reason_names()
"""All reasons of the built-in table, `OTHER_REASON` last."""


def reasons_document() -> str:
    """The text of ``docs/reasons.md``, derived from the table."""
    lines = [
        "# Reasons",
        "",
        "Derived from `schemas/reasons.yaml`; edit that file, then run `python -m schemas.catalogues`. Rows of your",
        "own go into a file of the same form (`--reasons=FILE`); they are tried first.",
        "",
        "Rows are tried in this order, the first that fits wins. Texts are regular expressions on the description in",
        "lower case with white space collapsed. Accepted events have no reason. Rejected or failed ones that no row",
        "fits have `other`, with the domain by source: network → connectivity, policy_control → account, api →",
        "platform.",
        "*Unseen* texts are named in documents, not in a published record.",
        "",
        "| types | text | reason | domain | note |",
        "|---|---|---|---|---|",
    ]
    for row in REASON_TABLE:
        text = "any" if row.text is None else f"`{row.text.replace('|', chr(92) + '|')}`"
        if row.breakout_status_other_than is not None:
            text += f", or a breakout status other than {row.breakout_status_other_than}"
        notes = [row.note] if row.note else []
        notes += ["Outcome `failed`."] if row.failed else []
        notes += ["Unseen."] if not row.seen else []
        cells = (" ".join(map(str, row.types)), text, f"`{row.reason}`", row.domain, " ".join(notes))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
