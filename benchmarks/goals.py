"""The goals, and how a figure is told: met, or by how much missed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One figure of a benchmark.

    Attributes:
      what: what was measured.
      figure: the figure.
      unit: what follows it, such as ``×``, ``s`` or ``MB``.
      goal: at most this; None where the figure is only reported.
      stretch: what would be better still.
      detail: the times that the figure is made of.
      least: the goal is the least, not the most.
    """

    what: str
    figure: float
    unit: str = "×"
    goal: float | None = None
    stretch: float | None = None
    detail: str = ""
    least: bool = False

    @property
    def met(self) -> bool:
        """Whether the goal is met; a figure without a goal always is."""
        return self.goal is None or (self.figure >= self.goal if self.least else self.figure <= self.goal)

    @property
    def value(self) -> str:
        """The figure with its unit."""
        return f"{self.figure:,.0f} {self.unit}" if self.figure >= 100 else f"{self.figure:,.2f} {self.unit}"

    @property
    def aim(self) -> str:
        """The goal in words."""
        if self.goal is None:
            return "reported"
        return f"{'≥' if self.least else '≤'} {self.goal:,g} {self.unit}" + (
            f" (stretch {self.stretch:,g})" if self.stretch is not None else ""
        )

    @property
    def verdict(self) -> str:
        """Whether the goal is met, or by how much it is missed."""
        if self.goal is None:
            return "–"
        if not self.met:
            return f"missed by {abs(self.figure / self.goal - 1):.0%}"
        return "met, stretch too" if self.stretch is not None and self.figure <= self.stretch else "met"
