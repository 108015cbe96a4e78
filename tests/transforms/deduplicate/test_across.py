"""Ids in several cells: losers, whatever the order and the pieces."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transforms.deduplicate import across
from transforms.deduplicate.across import PACKED, losers, shard

_FLAGS = 3


def rows_of(rows: list[tuple[int, int, int]]) -> np.ndarray:
    """(id, cell, quality without flags) as packed rows that carry end and device."""
    return np.array([(i, c, q << 2 | _FLAGS) for i, c, q in rows], PACKED)


packed = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3), st.integers(0, 3)), max_size=20)


@given(packed, st.integers(1, 7))
def test_losers_are_the_cells_that_do_not_hold_the_best_copy(rows: list[tuple[int, int, int]], size: int) -> None:
    winner = {i: min((q, c) for j, c, q in rows if j == i)[1] for i, _, _ in rows}
    expected = {(c, i) for i, c, _ in rows if c != winner[i]}
    pieces = [rows_of(rows[start : start + size]) for start in range(0, len(rows), size)]
    found = {(cell, int(row["id"])) for cell, lost in losers(pieces) for row in lost}
    assert found == expected


@given(packed, st.integers(1, 7), st.integers(1, 5))
def test_a_shard_may_be_gone_through_several_times(rows: list[tuple[int, int, int]], size: int, at_once: int) -> None:
    pieces = [piece for _, piece in shard(rows_of(rows))]

    def found() -> list[tuple[int, tuple[int, int]]]:
        return sorted((cell, row) for cell, lost in losers(pieces) for row in lost.tolist())

    expected = found()
    with mock.patch.object(across, "AT_ONCE", at_once):
        assert found() == expected


@given(packed)
def test_shards_lose_nothing_and_keep_an_id_together(rows: list[tuple[int, int, int]]) -> None:
    pieces = shard(rows_of(rows))
    assert sorted(row.tolist() for _, piece in pieces for row in piece) == sorted(r.tolist() for r in rows_of(rows))
    homes: dict[int, set[int]] = {}
    for number, piece in pieces:
        for row in piece:
            homes.setdefault(int(row["id"]), set()).add(number)
    assert all(len(numbers) == 1 for numbers in homes.values())


def test_another_hour_is_a_conflict_unless_one_has_no_end() -> None:
    rows = np.array([(1, 10, 4 | 3), (1, 11, 8 | 3), (2, 10, 4 | 3), (2, 11, 8 | 1)], PACKED)
    ((cell, lost),) = losers([rows])
    assert cell == 11
    assert lost.tolist() == [(1, 1), (2, 0)]
