"""Duplicates within a cell: the verdict equals a naive one, whatever the order and the slices."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import EVENT_RECORD, EVENTS_FEED
from transforms.deduplicate.across import LOSER
from transforms.deduplicate.within import NO_IDS, NO_LOSERS, judge, panes

_HOUR_START = 1_790_000_000_000_000


def record(event_id: int, **fields: object) -> dict[str, object]:
    """One row of EVENT_RECORD."""
    base = {
        "event_id": event_id, "event_time": _HOUR_START, "rendering": 0, "content_hash": event_id, "source_file": "f",
        "byte_offset": 0, "byte_length": 1, "ingest_time": 0,
    }  # fmt: skip
    return base | fields


def batch(rows: list[dict[str, object]]) -> pa.RecordBatch:
    """Rows as a record batch."""
    return pa.RecordBatch.from_pylist(rows, schema=EVENT_RECORD)


copies = st.builds(
    lambda i, r, h, e, s, n: record(
        i, rendering=r, content_hash=h, endpoint_id=e, severity_id=s, event_time=_HOUR_START + n
    ),
    st.integers(0, 5), st.integers(0, 2), st.integers(0, 3), st.sampled_from([None, 1, 2]), st.sampled_from([None, 0]),
    st.sampled_from([0, 400_000, 1_000_000]),
)  # fmt: skip


def naive(rows: list[dict]) -> tuple[list[bool], list[bool]]:
    """Keep and conflict of each row, one row at a time."""
    best: dict[int, int] = {}
    for position, row in enumerate(rows):
        order = (row["rendering"], row["content_hash"], position)
        held = best.get(row["event_id"])
        if held is None or order < (rows[held]["rendering"], rows[held]["content_hash"], held):
            best[row["event_id"]] = position
    keep = [best[row["event_id"]] == position for position, row in enumerate(rows)]
    conflict = []
    for position, row in enumerate(rows):
        winner = rows[best[row["event_id"]]]
        differs = row["event_time"] // 1_000_000 != winner["event_time"] // 1_000_000
        for name in ("endpoint_id", "severity_id"):
            left, right = row.get(name), winner.get(name)
            differs |= left is not None and right is not None and left != right
        conflict.append(differs and not keep[position])
    return keep, conflict


@given(st.lists(copies, max_size=12), st.integers(1, 5))
def test_verdict_equals_a_naive_one(rows: list[dict], size: int) -> None:
    slices = [batch(rows[start : start + size]) for start in range(0, len(rows), size)]
    verdict = judge(slices, EVENTS_FEED, NO_IDS, NO_LOSERS)
    keep, conflict = naive(rows)
    assert verdict.keep.tolist() == keep
    assert verdict.conflict.tolist() == conflict
    assert verdict.duplicates == len(rows) - sum(keep) - sum(conflict)


@given(st.lists(copies, max_size=12), st.randoms())
def test_what_stays_does_not_depend_on_order(rows: list[dict], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    def kept(given_rows: list[dict]) -> set:
        verdict = judge([batch(given_rows)], EVENTS_FEED, NO_IDS, NO_LOSERS)
        return {
            (row["event_id"], row["rendering"], row["content_hash"])
            for row, keep in zip(given_rows, verdict.keep, strict=True)
            if keep
        }

    assert kept(rows) == kept(shuffled)


@given(st.lists(copies, max_size=12))
def test_dropping_duplicates_twice_drops_none(rows: list[dict]) -> None:
    verdict = judge([batch(rows)], EVENTS_FEED, NO_IDS, NO_LOSERS)
    once = list(panes([batch(rows)], verdict.keep))
    again = judge(once, EVENTS_FEED, NO_IDS, NO_LOSERS)
    assert again.keep.all()


def test_an_id_that_was_committed_or_lost_keeps_no_record() -> None:
    lost = np.array([(7, 1), (8, 0)], LOSER)
    rows = [record(6), record(7), record(8), record(9), record(9)]
    verdict = judge([batch(rows)], EVENTS_FEED, np.array([6]), lost)
    assert verdict.keep.tolist() == [False, False, False, True, False]
    assert verdict.conflict.tolist() == [False, True, False, False, False]
    assert verdict.duplicates == 3


def test_a_seen_id_is_a_duplicate_even_where_it_lost_elsewhere() -> None:
    verdict = judge([batch([record(7)])], EVENTS_FEED, np.array([7]), np.array([(7, 1)], LOSER))
    assert verdict.duplicates == 1
    assert not verdict.conflict.any()


def test_panes_have_a_fixed_size(monkeypatch) -> None:
    monkeypatch.setattr("transforms.deduplicate.within.PANE_ROWS", 4)
    slices = [batch([record(i) for i in range(3)]), batch([record(i) for i in range(3, 11)])]
    keep = np.array([True, False] + [True] * 9)
    cut = [pane.column("event_id").to_pylist() for pane in panes(slices, keep)]
    assert cut == [[0, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


@given(st.lists(st.lists(st.booleans(), max_size=9), max_size=6), st.integers(1, 7))
def test_panes_are_the_kept_rows_in_order(kept: list[list[bool]], size: int) -> None:
    wanted = [number for number, stays in enumerate(itertools.chain(*kept)) if stays]
    numbers = itertools.count()
    slices = [batch([record(next(numbers)) for _ in part]) for part in kept]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transforms.deduplicate.within.PANE_ROWS", size)
        cut = list(panes(slices, np.array([stays for part in kept for stays in part], bool)))
    assert [number for pane in cut for number in pane.column("event_id").to_pylist()] == wanted
    assert all(pane.num_rows == size for pane in cut[:-1]) and all(pane.schema == EVENT_RECORD for pane in cut)


def test_nothing_of_a_pane_is_held_once_it_is_handed_on(monkeypatch) -> None:
    monkeypatch.setattr("transforms.deduplicate.within.PANE_ROWS", 1_000)
    rows = [record(number, description="text" * 50) for number in range(1_500)]
    slices = [batch(rows[start : start + 500]) for start in range(0, 1_500, 500)]
    before = pa.total_allocated_bytes()
    cut = panes(slices, np.arange(1_500) % 4 > 0)
    pane = next(cut)
    assert pa.total_allocated_bytes() > before + 100_000
    del pane
    assert pa.total_allocated_bytes() == before
    assert next(cut).num_rows


def test_an_empty_cell() -> None:
    verdict = judge([], EVENTS_FEED, NO_IDS, NO_LOSERS)
    assert verdict.duplicates == 0
    assert list(panes([], verdict.keep)) == []
