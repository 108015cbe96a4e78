"""The simulator's catalogue, written by hand, against the pipeline's."""

from __future__ import annotations

import re

import pytest

from schemas.event_types import EVENT_TYPES
from schemas.reasons import REASON_TABLE
from simulator.catalogue import KNOWN_TYPES, UNKNOWN_TYPE, VARIANTS, Variant


def test_types_and_categories_agree() -> None:
    assert {number: (kind.name, kind.category) for number, kind in EVENT_TYPES.items()} == KNOWN_TYPES
    assert UNKNOWN_TYPE not in EVENT_TYPES


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{variant.type_id} {variant.text[:40]}")
def test_the_first_row_that_fits_gives_the_reason(variant: Variant) -> None:
    if variant.outcome == "accepted":
        assert variant.reason is None
        return
    text = " ".join(variant.text.lower().split())
    fitting = (
        (row.reason, row.domain)
        for row in REASON_TABLE
        if variant.type_id in row.types and (row.text is None or re.search(row.text, text))
    )
    other = ("other", ("connectivity", "account", "platform")[variant.source])
    nothing = other if variant.outcome in ("rejected", "failed") else (None, None)
    assert next(fitting, nothing) == (variant.reason, variant.domain)
