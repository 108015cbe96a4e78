from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.deduplicate import seen as module
from transforms.deduplicate.seen import SeenIds

INT64 = st.integers(-(2**63), 2**63 - 1)
IDS = st.one_of(st.integers(-50, 50), INT64, st.sampled_from([0, -1, 2**63 - 1, -(2**63)]))


def add_new(seen: SeenIds, ids: np.ndarray) -> np.ndarray:
    """Adds those of unique ids that are not there, as a cell does; returns which were."""
    known = seen.contains(ids)
    seen.add(ids[~known])
    return known


@given(st.lists(st.lists(IDS, unique=True, max_size=60), max_size=30), st.booleans())
@settings(max_examples=150)
def test_it_is_a_set(batches: list[list[int]], filtered: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SMALL", 8)
        if filtered:
            patch.setattr(module, "_UNFILTERED", 4)
            patch.setattr(module, "_REBUILT", 16)
        seen, expected = SeenIds(), set[int]()
        for batch in batches:
            known = add_new(seen, np.array(batch, np.int64))
            assert known.tolist() == [number in expected for number in batch]
            expected.update(batch)
            assert len(seen) == len(expected)
        everything = np.array(sorted(expected), np.int64)
        assert seen.contains(everything).all()
        runs = [len(run) for run in seen._runs]
        assert all(lower >= 2 * upper or upper < 8 for lower, upper in zip(runs, runs[1:], strict=False))


def test_an_empty_one_holds_nothing() -> None:
    seen = SeenIds()
    seen.add(np.empty(0, np.int64))
    assert len(seen) == 0 and seen.nbytes == 0
    assert seen.contains(np.arange(3)).tolist() == [False, False, False]
    assert seen.contains(np.empty(0, np.int64)).tolist() == []


@pytest.mark.parametrize("dense", [True, False])
def test_a_million_ids_take_less_than_ten_bytes_each(dense: bool) -> None:
    chance = np.random.default_rng(1)
    ids = 10_582_804_066 + np.arange(1_000_000) if dense else np.unique(chance.integers(0, 2**62, 1_000_000))
    chance.shuffle(ids)
    seen = SeenIds()
    for start in range(0, len(ids), 10_000):
        seen.add(ids[start : start + 10_000])
    assert len(seen) == len(ids) and len(seen._runs) <= 20
    assert sum(run.nbytes for run in seen._runs) == 8 * len(ids)
    assert seen.nbytes <= 9.6 * len(ids)
    known, unknown = ids[::997], -1 - ids[::997]
    assert seen.contains(known).all() and not seen.contains(unknown).any()
    # Most ids that are new are told by the filter alone.
    words, bits = seen._spread(unknown)
    assert np.mean(seen._words[words] & bits == bits) < 0.15


def cost(seen: SeenIds, batches: list[np.ndarray]) -> float:
    """Least seconds of this thread for a batch: of what a busy machine adds, there is least."""
    least = float("inf")
    for ids in batches:
        start = time.thread_time()
        add_new(seen, ids)
        least = min(least, time.thread_time() - start)
    return least


def test_a_large_set_costs_hardly_more_than_a_small_one() -> None:
    chance = np.random.default_rng(2)

    def of_size(size: int) -> SeenIds:
        seen = SeenIds()
        seen.add(np.unique(chance.integers(0, 2**62, size)))
        return seen

    batches = [chance.integers(0, 2**62, 500) for _ in range(60)]
    small, large = cost(of_size(10_000), batches), cost(of_size(2_000_000), batches)
    assert large < 4 * small  # all of it read again would cost two hundred times as much
