"""Simulated records as columns: what happened, before it is written in any rendering. Times are microseconds, UTC."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR


@dataclass
class _Columns:
    """Equally long arrays, one per field."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def take(self, index: np.ndarray) -> Self:
        """The rows that ``index`` (positions or mask) selects, copied."""
        return type(self)(*(getattr(self, item.name)[index] for item in fields(self)))

    @classmethod
    def names(cls) -> list[str]:
        """Names of the columns."""
        return [item.name for item in fields(cls)]

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """All parts after each other."""
        return cls(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)))


@dataclass
class UsageColumns(_Columns):
    """Usage records. Volumes in 10^-6 of their unit, cost in 10^-10 of the organisation's currency, -1 where unpriced.

    ``device``, ``operator`` and ``session`` are positions in the run's fleet, `OPERATORS` and the day's session texts.
    """

    id: np.ndarray
    start: np.ndarray
    time: np.ndarray
    device: np.ndarray
    operator: np.ndarray
    session: np.ndarray
    sms: np.ndarray
    rx: np.ndarray
    tx: np.ndarray
    cost: np.ndarray


@dataclass
class EventColumns(_Columns):
    """Events. ``variant`` is an index into `simulator.catalogue.VARIANTS`; ``device`` is -1 for those of organisations.

    ``operator`` and ``session`` are -1 where there is none; ``rx`` and ``tx`` are the session's volumes (type 5);
    ``salt`` varies what a record invents: addresses, tunnel ids, users.
    """

    id: np.ndarray
    time: np.ndarray
    variant: np.ndarray
    device: np.ndarray
    organisation: np.ndarray
    operator: np.ndarray
    session: np.ndarray
    session_start: np.ndarray
    rat: np.ndarray
    rx: np.ndarray
    tx: np.ndarray
    severity: np.ndarray
    salt: np.ndarray


def time_texts(times: np.ndarray) -> list[str]:
    """``2026-10-01T08:00:00`` of each time, with ``.123`` where it has milliseconds."""
    texts: list[str] = np.datetime_as_string(times.astype("datetime64[us]"), unit="s").tolist()
    milliseconds = times % SECOND // 1000
    for place in np.flatnonzero(milliseconds).tolist():
        texts[place] += f".{milliseconds[place]:03d}"
    return texts
