"""What it costs to tell duplicates while a cell grows: a batch against a small and against a large set, in one run."""

from __future__ import annotations

import statistics
import time

import numpy as np

from benchmarks.goals import Finding
from benchmarks.rounds import Bench
from transforms.deduplicate.seen import SeenIds
from transforms.gather.cells import mix

SMALL, LARGE = 10_000, 10_000_000
BATCH, BATCHES = 500, 20
_FILLED = 20_000
_FIRST = 10_582_804_066
"""Ids of events begin about here (published samples of the emnify docs)."""


def as_a_cell_grows(bench: Bench) -> list[Finding]:
    """Time of a batch of new ids in a cell of ten million, over that in a cell of ten thousand; and bytes an id."""
    found = []
    for name, random in (("rising ids", False), ("ids at random", True)):
        times: dict[int, list[float]] = {SMALL: [], LARGE: []}
        ids = _ids(LARGE + 2 * bench.rounds * BATCHES * BATCH, random)
        seen, used = SeenIds(), 0
        for size in (SMALL, LARGE):
            while used < size:
                seen.add(np.sort(ids[used : (used := min(used + _FILLED, size))]))
            for number in range(bench.rounds):
                seconds = _seconds(seen, ids[used : (used := used + BATCHES * BATCH)])
                times[size].append(seconds / (BATCHES * BATCH) * 1e6)
                bench.say(f"round {number}: {name}, {size:,} in the cell: {times[size][-1]:.2f} µs an id")
        small, large = (statistics.median(times[size]) for size in (SMALL, LARGE))
        detail = f"{large:.2f} µs an id with {LARGE:,} ids in the cell, {small:.2f} with {SMALL:,}; batches of {BATCH}"
        found.append(Finding(f"telling duplicates, {name}", large / small, goal=3.0, detail=detail))
        found.append(Finding(f"memory of seen ids, {name}", seen.nbytes / len(seen), "B", 16.0, detail="an open id"))
    return found


def _ids(count: int, random: bool) -> np.ndarray:
    """Ids that are all different: rising, or anywhere among 64-bit numbers."""
    ids = np.arange(count)
    return mix(ids).view(np.int64) if random else _FIRST + ids


def _seconds(seen: SeenIds, ids: np.ndarray) -> float:
    """Time that adding new ids batch by batch takes, as a cell does it; of this thread, so that others do not count."""
    start = time.thread_time()
    for first in range(0, len(ids), BATCH):
        batch = ids[first : first + BATCH]
        seen.add(batch[~seen.contains(batch)])
    return time.thread_time() - start
