"""Outcome, reason and domain of events: the text decides, the severity only where the text does not.

A type id alone says nothing about success: a rejected attach or session has the id of an accepted one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.lookups import OUTCOMES, SEVERITIES
from schemas.reasons import DOMAINS, OTHER_REASON, SOURCE_DOMAINS, Reason, reason_names
from transforms.classify.columns import Integers, Mask, mask_of, select, text_array, words
from transforms.classify.severity import SOURCE_VOCABULARY
from transforms.classify.text import contains

ACCEPTED, REJECTED, FAILED, NOT_APPLICABLE = range(len(OUTCOMES))
OUTCOME_VOCABULARY = text_array(OUTCOMES)
DOMAIN_VOCABULARY = text_array([*DOMAINS, None])
NO_DOMAIN = len(DOMAINS)

_REFUSED = "rejected"
_REFUSED_ATTEMPT = "rejected|denied|refused|not allowed|fail"
_ACCEPTED_ATTEMPT = "successful|new location|now attached"
_WARN = list(SEVERITIES.values()).index("WARN")

_DOMAIN_BY_SOURCE = np.array(
    [DOMAINS.index(SOURCE_DOMAINS[name]) if name else NO_DOMAIN for name in SOURCE_VOCABULARY.to_pylist()], np.int32
)


def outcome_codes(folded: pa.Array, attempts: Mask, usual: Integers, severities: Integers) -> Integers:
    """Outcomes before the table of reasons is asked.

    Args:
      folded: descriptions in lower case with white space collapsed.
      attempts: rows whose type is an attempt (1 to 4).
      usual: outcome code of each row's type, for rows that are no attempts.
      severities: severity codes.
    """
    codes = usual.astype(np.int32)
    tried = np.flatnonzero(attempts)
    texts = select(folded, tried)
    refused = contains(texts, _REFUSED_ATTEMPT)
    accepted = contains(texts, _ACCEPTED_ATTEMPT)
    by_severity = np.where(severities[tried] >= _WARN, REJECTED, ACCEPTED)
    codes[tried] = np.where(refused, REJECTED, np.where(accepted, ACCEPTED, by_severity))
    others = np.flatnonzero(~attempts)
    codes[others[contains(select(folded, others), _REFUSED, literal=True)]] = REJECTED
    return codes


class _Row:
    """One row of the table, with its reason and domain as codes."""

    def __init__(self, row: Reason, number: int, domain: int) -> None:
        self.number = number
        self.domain = domain
        self.failed = row.failed
        self._text = row.text
        self._status = row.breakout_status_other_than

    def fits(self, folded: pa.Array, statuses: pa.Array, events: Integers) -> Mask:
        """Which of the given events (positions, rising; all of a type of the row) it fits."""
        if self._text is None:
            return np.ones(len(events), dtype=bool)
        fits = contains(select(folded, events), self._text)
        if self._status is not None:
            fits |= mask_of(pc.not_equal(select(statuses, events), self._status))
        return fits


@dataclass(frozen=True)
class CompiledReasons:
    """A table of reasons, ready to be applied.

    Attributes:
      rows: for each event type id that the table knows, its rows in order.
      vocabulary: reasons by code; the last entry is null.
      other: code of `OTHER_REASON`.
    """

    rows: dict[int, list[_Row]]
    vocabulary: pa.Array
    other: int


@lru_cache(maxsize=8)
def compile_reasons(table: tuple[Reason, ...]) -> CompiledReasons:
    """Prepares a table."""
    names = reason_names(table)
    rows: dict[int, list[_Row]] = {}
    for entry in table:
        row = _Row(entry, names.index(entry.reason), DOMAINS.index(entry.domain))
        for number in entry.types:
            rows.setdefault(number, []).append(row)
    return CompiledReasons(rows, text_array([*names, None]), names.index(OTHER_REASON))


def reasons(
    table: CompiledReasons,
    outcomes: Integers,
    types: Integers,
    folded: pa.Array,
    sources: Integers,
    statuses: pa.Array,
) -> tuple[pa.Array, pa.Array]:
    """Reason and domain of each event; sets the outcome `FAILED` in `outcomes` where a row of the table says so.

    Args:
      table: the compiled table.
      outcomes: outcome codes, changed in place.
      types: event type ids, `NO_ID` for none.
      folded: descriptions in lower case with white space collapsed.
      sources: source codes.
      statuses: breakout statuses.
    """
    no_reason = len(table.vocabulary) - 1
    reason = np.full(len(outcomes), no_reason, np.int32)
    domain = np.full(len(outcomes), NO_DOMAIN, np.int32)
    asked = np.flatnonzero(outcomes != ACCEPTED)
    asked_types = types[asked]
    for kind in np.unique(asked_types).tolist():
        left = asked[asked_types == kind]
        for row in table.rows.get(kind, ()):
            fits = row.fits(folded, statuses, left)
            found, left = left[fits], left[~fits]
            reason[found] = row.number
            domain[found] = row.domain
            if row.failed:
                outcomes[found[outcomes[found] == NOT_APPLICABLE]] = FAILED
            if not left.size:
                break
    unexplained = (reason == no_reason) & ((outcomes == REJECTED) | (outcomes == FAILED))
    reason[unexplained] = table.other
    domain[unexplained] = _DOMAIN_BY_SOURCE[sources[unexplained]]
    return words(reason, table.vocabulary), words(domain, DOMAIN_VOCABULARY)
