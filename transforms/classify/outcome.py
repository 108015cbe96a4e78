"""Outcome, reason and domain of events: the text decides, the severity only where the text does not.

A type id alone says nothing about success: a rejected attach or session has the id of an accepted one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.lookups import OUTCOMES, SEVERITIES
from schemas.reasons import DOMAINS, OTHER_REASON, SOURCE_DOMAINS, Reason, reason_names
from transforms.classify.columns import Integers, Mask, is_one_of, mask_of, select, text_array
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
_UNDECIDED = -1

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
    """One row of the table, ready to be applied to arrays."""

    def __init__(self, row: Reason, number: int, domain: int) -> None:
        self.types = row.types
        self.number = number
        self.domain = domain
        self.failed = row.failed
        self.status = row.breakout_status_other_than
        self.any_text = row.text is None
        self._text = row.text or ""

    def fits(self, texts: pa.Array, statuses: pa.Array) -> Mask:
        """Which of the given events (all of the row's types) it fits."""
        if self.any_text:
            return np.ones(len(texts), dtype=bool)
        fits = contains(texts, self._text)
        if self.status is not None:
            fits |= mask_of(pc.not_equal(statuses, self.status))
        return fits


@dataclass(frozen=True)
class CompiledReasons:
    """A table of reasons, ready to be applied."""

    rows: tuple[_Row, ...]
    vocabulary: pa.Array
    other: int
    types: tuple[int, ...]


@lru_cache(maxsize=8)
def compile_reasons(table: tuple[Reason, ...]) -> CompiledReasons:
    """Prepares a table; the vocabulary ends in `OTHER_REASON` and null."""
    names = reason_names(table)
    rows = tuple(_Row(row, names.index(row.reason), DOMAINS.index(row.domain)) for row in table)
    types = tuple({number for row in rows for number in row.types})
    return CompiledReasons(rows, text_array([*names, None]), names.index(OTHER_REASON), types)


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
    count = len(outcomes)
    unsuccessful = (outcomes == REJECTED) | (outcomes == FAILED)
    asked = np.flatnonzero((outcomes != ACCEPTED) & (unsuccessful | is_one_of(types, table.types)))
    texts, asked_statuses, asked_types = select(folded, asked), select(statuses, asked), types[asked]
    reason = np.full(len(asked), _UNDECIDED, np.int32)
    domain = np.full(len(asked), NO_DOMAIN, np.int32)
    for row in table.rows:
        candidates = np.flatnonzero((reason == _UNDECIDED) & is_one_of(asked_types, row.types))
        if not candidates.size:
            continue
        if row.any_text:
            found = candidates
        else:
            found = candidates[row.fits(select(texts, candidates), select(asked_statuses, candidates))]
        reason[found] = row.number
        domain[found] = row.domain
        if row.failed:
            places = asked[found]
            outcomes[places[outcomes[places] == NOT_APPLICABLE]] = FAILED
    left = (reason == _UNDECIDED) & unsuccessful[asked]
    reason[left] = table.other
    domain[left] = _DOMAIN_BY_SOURCE[sources[asked[left]]]
    return _spread(table.vocabulary, reason, asked, count), _spread(DOMAIN_VOCABULARY, domain, asked, count)


def _spread(vocabulary: pa.Array, codes: Integers, rows: Integers, count: int) -> pa.Array:
    null = len(vocabulary) - 1
    every: np.ndarray[Any, np.dtype[np.int32]] = np.full(count, null, np.int32)
    every[rows] = np.where(codes == _UNDECIDED, null, codes)
    return vocabulary.take(pa.array(every))
