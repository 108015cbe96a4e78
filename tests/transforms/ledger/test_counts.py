"""Ledger entries: they travel as bytes, and add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.ledger.counts import (
    COUNT_SUMS,
    Count,
    FileEntry,
    InputEntry,
    StreamError,
    add_counts,
    decode,
    encode,
)

counts = st.builds(
    Count,
    stage=st.sampled_from(["feed", "cell", "stream"]), feed=st.sampled_from(["events", "usage"]),
    stream=st.sampled_from([None, "a", "b"]), hour=st.sampled_from([None, 0, 3_600_000_000]),
    pane=st.sampled_from([None, 0, 1]), received=st.integers(0, 9), pending=st.integers(-9, 9), final=st.booleans(),
)  # fmt: skip


@pytest.mark.parametrize(
    "entry",
    [
        Count(stage="cell", feed="usage", hour=7, pane=1, received=3, delivered=2, duplicates=1, final=True),
        FileEntry("events", None, "warehouse/events/part-w-0.parquet", 0, 10, "xxh3_128:00"),
        InputEntry("events", "a.json", 1, 0, 5, 6, bytes=9),
        StreamError("a", "cannot write", "mount it"),
    ],
)
def test_an_entry_survives_the_shuffle(entry) -> None:
    assert decode(encode(entry)) == entry


def test_an_unknown_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="version 9"):
        decode(b"\x09")


@given(st.lists(counts), st.randoms())
def test_sums_lose_nothing_and_do_not_depend_on_order(entries: list[Count], random) -> None:
    shuffled = list(entries)
    random.shuffle(shuffled)
    summed = add_counts(entries)
    assert summed == add_counts(shuffled)
    for name in COUNT_SUMS:
        assert sum(getattr(count, name) for count in summed) == sum(getattr(count, name) for count in entries)
    keys = [(count.stage, count.feed, count.stream, count.hour, count.pane, count.unit) for count in summed]
    assert len(keys) == len(set(keys))
