"""Filters in words: how one was read, and which clause decided for a row.

This evaluates one row in plain Python, apart from the masks of `transforms.route.predicates`; a property test holds the
two against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.filter_keys import KEYS, Test, Value, fold, split_tags, tests_of
from schemas.filters import Filter
from schemas.streams import Stream


@dataclass(frozen=True)
class Decision:
    """Whether a stream takes a row, and the clause that decided, in words."""

    taken: bool
    clause: str


def describe(wanted: Filter) -> str:
    """A filter in words: ``(severity is WARN or graver) or (outcome is rejected)``, say, or ``everything``."""
    clauses = _clauses(wanted)
    if len(clauses) == 1:
        return clauses[0]
    return " and ".join(f"({clause})" if " or (" in clause else clause for clause in clauses) or "everything"


def _clauses(wanted: Filter) -> list[str]:
    clauses = [f"{KEYS[key].phrase} is {_listed(key, values)}" for key, values in wanted.given()]
    clauses += [f"({describe(member)})" for member in wanted.all_of]
    if wanted.any_of:
        clauses.append(" or ".join(f"({describe(member)})" for member in wanted.any_of))
    if wanted.not_ is not None:
        clauses.append(f"not ({describe(wanted.not_)})")
    return clauses


def _listed(key: str, values: Iterable[Value]) -> str:
    words = [KEYS[key].words(value) for value in values]
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}"


def explain_row(stream: Stream, row: Mapping[str, Any] | pa.RecordBatch) -> Decision:
    """Why a stream takes a row or not.

    Args:
      stream: the stream.
      row: column → value of a row of its table, or a batch of one row.

    Returns:
      the decision with the clause that decided: if it is not taken, the first that does not hold; else all that hold.
    """
    values = row.to_pylist()[0] if isinstance(row, pa.RecordBatch) else row
    return _decide(stream.filter, values, stream.content)


def _decide(wanted: Filter, row: Mapping[str, Any], content: str) -> Decision:
    held = []
    for decision in _decisions(wanted, row, content):
        if not decision.taken:
            return decision
        held.append(decision.clause)
    return Decision(True, " and ".join(held) or "the stream takes everything")


def _decisions(wanted: Filter, row: Mapping[str, Any], content: str) -> Iterable[Decision]:
    """One decision per clause, in the order in which `describe` tells them."""
    for key, values in wanted.given():
        yield _decide_key(key, values, row, content)
    for member in wanted.all_of:
        yield _decide(member, row, content)
    if wanted.any_of:
        decisions = [_decide(member, row, content) for member in wanted.any_of]
        first = next((decision for decision in decisions if decision.taken), None)
        yield first or Decision(False, ", and ".join(decision.clause for decision in decisions))
    if wanted.not_ is not None:
        inner = _decide(wanted.not_, row, content)
        yield Decision(not inner.taken, f"excluded: {inner.clause}" if inner.taken else inner.clause)


def _decide_key(key: str, values: tuple[Value, ...], row: Mapping[str, Any], content: str) -> Decision:
    listed = _listed(key, values)
    found = [row[column] for column in KEYS[key].columns(content) if row.get(column) is not None]
    tests = [test for value in values for test in tests_of(key, value, content)]
    holds = any(_holds(test, row.get(test.column)) for test in tests)
    if not found:
        return Decision(False, f"{KEYS[key].phrase} is missing, so it is not {listed}")
    return Decision(holds, f"{KEYS[key].phrase} {_found_words(key, found)} is {'' if holds else 'not '}{listed}")


def _found_words(key: str, found: list[Any]) -> str:
    if key in ("event_type", "alert"):
        return KEYS[key].words(found[0])
    return "/".join(str(value) for value in found)


def _holds(test: Test, value: Any) -> bool:
    if value is None:
        return False
    if test.how == "named":
        return fold(value) == test.operand
    if test.how == "tagged":
        return test.operand in split_tags(value)
    if test.how == "iccid":
        return bool(value[:19] == test.operand)
    return bool(value == test.operand)
