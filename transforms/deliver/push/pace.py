"""Pace: no more records and requests a second than a stream allows."""

from __future__ import annotations

import time
from collections.abc import Callable

from transforms.deliver.push.options import Rate


class Pace:
    """Waits before each request until its rate allows it. One per lane: a stream with a rate has one."""

    def __init__(
        self, rate: Rate, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ):
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._next = 0.0

    def wait(self, records: int) -> None:
        """Returns when a request of so many records may be sent."""
        if not self._rate.is_limited:
            return
        now = self._clock()
        if self._next > now:
            self._sleep(self._next - now)
        takes = [1 / self._rate.requests_per_second] if self._rate.requests_per_second else []
        takes += [records / self._rate.records_per_second] if self._rate.records_per_second else []
        self._next = max(self._next, now) + max(takes)
