"""The ids that a cell has seen, for a job that takes records as they come: adding is cheap, and so is asking."""

from __future__ import annotations

import numpy as np

_SMALL = 1024
"""Ids of a run that is merged with whatever lies below it."""


class SeenIds:
    """A set of 64-bit ids as sorted runs of falling length: 8 bytes an id, each merged a few times only.

    A run is at least twice as long as the one above it, so n ids lie in about log2(n) runs.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def contains(self, ids: np.ndarray) -> np.ndarray:
        """Which of the ids are in the set: a mask."""
        found = np.zeros(len(ids), bool)
        for run in self._runs:
            where = np.searchsorted(run, ids).clip(max=len(run) - 1)
            found |= run[where] == ids
        return found

    def add(self, ids: np.ndarray) -> None:
        """Adds ids that are not in the set, each once."""
        if not len(ids):
            return
        run = np.sort(ids)
        while self._runs and len(self._runs[-1]) < max(2 * len(run), _SMALL):
            run = np.concatenate((self._runs.pop(), run))
            run.sort(kind="stable")  # timsort takes two sorted halves for what they are
        self._runs.append(run)
