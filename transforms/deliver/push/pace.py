"""Pace: no more records and requests a second than a stream allows."""

from __future__ import annotations

import time
from collections.abc import Callable

from transforms.deliver.push.options import Rate


class Pace:
    """Says when the next request may be sent. One per lane: a stream with a rate has one.

    Args:
      rate: most that is sent a second.
      clock: monotonic time in seconds.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic):
        self._rate, self._clock = rate, clock
        self._next = 0.0

    def seconds(self) -> float:
        """Seconds until the next request may be sent; 0: now."""
        return max(0.0, self._next - self._clock()) if self._rate.is_limited else 0.0

    def sent(self, records: int) -> None:
        """Tells that a request of so many records is sent now."""
        if not self._rate.is_limited:
            return
        takes = [1 / self._rate.requests_per_second] if self._rate.requests_per_second else []
        takes += [records / self._rate.records_per_second] if self._rate.records_per_second else []
        self._next = max(self._next, self._clock()) + max(takes)
