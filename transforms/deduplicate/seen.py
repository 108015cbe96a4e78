"""The ids that a cell has seen, for a job that takes records as they come: adding is cheap, and so is asking.

Both stay so while a cell grows: an id that is new touches one word of a filter, not all the ids.
"""

from __future__ import annotations

import numpy as np

from transforms.gather.cells import mix

_SMALL = 1024
"""Ids of a run that is merged with whatever lies below it."""

_UNFILTERED = 1 << 15
"""Ids that a processor's cache holds: with so few a filter gains nothing."""

_IDS_PER_WORD = 10
"""Ids from which on the filter is doubled: then one in eleven new ones is looked for in vain."""

_REBUILT = 1 << 18
"""Ids that are put into a new filter at a time: what that needs beside it is small."""


class SeenIds:
    """A set of 64-bit ids as sorted runs of falling length, 8 bytes an id, each merged a few times only; and a filter.

    A run is at least twice as long as the one above it, so n ids lie in about log2(n) runs. The filter (Bloom's, with
    two bits of one word for each id, 0.8 to 1.6 bytes an id) spares most new ids the search of all runs, which would
    miss the processor's cache again and again.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []
        self._words = np.empty(0, np.uint64)

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    @property
    def nbytes(self) -> int:
        """Bytes of memory, those of a merge apart."""
        return sum(run.nbytes for run in self._runs) + self._words.nbytes

    def contains(self, ids: np.ndarray) -> np.ndarray:
        """Which of the ids are in the set: a mask."""
        found = np.zeros(len(ids), bool)
        places = np.arange(len(ids))
        if len(self._words):
            words, bits = self._spread(ids)
            places = np.flatnonzero(self._words[words] & bits == bits)
        # In order, so that one search ends near where the next begins.
        places = places[np.argsort(ids[places])]
        asked = ids[places]
        known = np.zeros(len(asked), bool)
        for run in self._runs:
            where = np.searchsorted(run, asked).clip(max=len(run) - 1)
            known |= run[where] == asked
        found[places] = known
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
        count = len(self)
        if count > max(_UNFILTERED, _IDS_PER_WORD * len(self._words)):
            self._words = np.zeros(2 * count // _IDS_PER_WORD, np.uint64)
            for run in self._runs:
                for start in range(0, len(run), _REBUILT):
                    self._mark(run[start : start + _REBUILT])
        elif len(self._words):
            self._mark(ids)

    def _mark(self, ids: np.ndarray) -> None:
        words, bits = self._spread(ids)
        np.bitwise_or.at(self._words, words, bits)

    def _spread(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The word of the filter, and the two bits in it, of each id."""
        mixed = mix(ids)
        low, six, one = np.uint64(63), np.uint64(6), np.uint64(1)
        words = (mixed >> np.uint64(32)) * np.uint64(len(self._words)) >> np.uint64(32)
        return words.astype(np.int64), one << (mixed & low) | one << (mixed >> six & low)
