"""What a simulation is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date

RENDERINGS = ("current", "rest", "legacy", "csv")
"""The renderings that the simulator writes, fullest first; the index is the rendering's rank among duplicates."""

_RATES = ("duplicates", "conflicts", "malformed", "late", "shuffled", "odd", "empty", "misplaced", "rerendered",
"gzipped",
          "unpriced")  # fmt: skip


def _mostly_current() -> Mapping[str, float]:
    return {"current": 0.94, "rest": 0.02, "legacy": 0.02, "csv": 0.02}


@dataclass(frozen=True)
class SimulationOptions:
    """Size, seed and dirt of a simulation. Rates are shares of the unique records, between 0 and 1.

    Attributes:
      devices: devices of the fleet.
      days: days of the feed, from ``start``.
      seed: the same seed and options give the same bytes.
      duplicates: copies of records at other places of the feed.
      conflicts: second records with the id of another one but another time, device, severity or volume.
      malformed: lines that cannot become a record, of every fault class.
      late: records that arrive ten minutes to a day after their time (those of day 1 partly in day 2's files).
      shuffled: records that arrive in no order within their file's hours.
      odd: valid records with numbers as texts, unknown fields, other time forms, very large ids.
      empty: empty lines.
      misplaced: records of one kind in the files of the other feed.
      rerendered: share of the duplicates that come in another rendering.
      gzipped: share of the records in the current rendering that lie in gzip files.
      unpriced: usage records without a cost.
      over_long: lines of more than 16 MB, each of ``over_long_bytes``.
      over_long_bytes: length of such a line.
      renderings: weight of each rendering.
      start: first day, ``YYYY-MM-DD`` (UTC).

    Raises:
      ValueError: names every mistake at once.
    """

    devices: int = 100
    days: int = 1
    seed: int = 1
    duplicates: float = 0.02
    conflicts: float = 0.0
    malformed: float = 0.01
    late: float = 0.05
    shuffled: float = 0.0
    odd: float = 0.01
    empty: float = 0.0005
    misplaced: float = 0.0
    rerendered: float = 0.1
    gzipped: float = 0.05
    unpriced: float = 0.01
    over_long: int = 0
    over_long_bytes: int = 17_000_000
    renderings: Mapping[str, float] = field(default_factory=_mostly_current)
    start: str = "2026-10-01"

    def __post_init__(self) -> None:
        mistakes = [
            f"{name} is {getattr(self, name)}: expected a share between 0 and 1"
            for name in _RATES
            if not 0 <= getattr(self, name) <= 1
        ]
        if self.devices < 1:
            mistakes.append(f"devices is {self.devices}: at least 1 is needed")
        if not 1 <= self.days <= 366:
            mistakes.append(f"days is {self.days}: expected 1 to 366")
        if self.seed < 0:
            mistakes.append(f"seed is {self.seed}: expected 0 or more")
        if self.over_long < 0:
            mistakes.append(f"over_long is {self.over_long}: expected 0 or more lines")
        if unknown := sorted(set(self.renderings) - set(RENDERINGS)):
            mistakes.append(f"renderings has {', '.join(unknown)}: expected {', '.join(RENDERINGS)}")
        elif min(self.renderings.values(), default=0) < 0 or sum(self.renderings.values()) <= 0:
            mistakes.append("renderings needs weights of 0 or more, at least one above 0")
        try:
            date.fromisoformat(self.start)
        except ValueError:
            mistakes.append(f"start is {self.start!r}: expected a day as YYYY-MM-DD")
        if mistakes:
            raise ValueError("; ".join(mistakes))

    def weights(self) -> list[float]:
        """Shares of `RENDERINGS`, in their order; they add up to 1."""
        total = sum(self.renderings.values())
        return [self.renderings.get(name, 0) / total for name in RENDERINGS]

    def as_json(self) -> dict[str, object]:
        """The options as JSON values, for ``truth.json``."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**values, "renderings": dict(self.renderings)}
