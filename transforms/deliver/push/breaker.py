"""Circuit breaker: a destination that fails most requests gets a pause instead of more of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW, MOST_FAILURES, FEWEST_REQUESTS, PAUSE = 300.0, 0.7, 10, 30.0
"""Seconds that are looked back on; share of failures that opens the circuit; requests before it can; seconds that it
stays open before one request may try again."""

_TOGETHER = 0.1
"""Seconds within which requests that ended alike are one entry: thousands a second are remembered cheaply."""


@dataclass(slots=True)
class _Requests:
    """Requests that ended alike at about the same time."""

    since: float
    failed: bool
    count: int = 1


class CircuitBreaker:
    """Closed while requests succeed; opens at 70 % failures of at least 10 requests in 5 minutes; after 30 s one
    request may try: its success closes it, its failure opens it again. Used by all lanes of a stream in a worker.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._recent: deque[_Requests] = deque()
        self._count = self._failures = 0
        self._open_until: float | None = None

    def wait(self) -> float:
        """Seconds until a request may be made; 0: now. Where the pause is over, the caller is the one that tries."""
        with self._lock:
            if self._open_until is None:
                return 0.0
            now = self._clock()
            if now < self._open_until:
                return self._open_until - now
            self._open_until = now + PAUSE  # the others go on waiting until this request has ended
            return 0.0

    def record(self, failed: bool) -> None:
        """Tells how a request ended."""
        with self._lock:
            now = self._clock()
            if self._open_until is not None:
                self._open_until = now + PAUSE if failed else None
                self._forget()
                return
            self._add(now, failed)
            if self._count >= FEWEST_REQUESTS and self._failures >= MOST_FAILURES * self._count:
                self._open_until = now + PAUSE
                self._forget()

    def _add(self, now: float, failed: bool) -> None:
        last = self._recent[-1] if self._recent else None
        if last is not None and last.failed == failed and now - last.since < _TOGETHER:
            last.count += 1
        else:
            self._recent.append(_Requests(now, failed))
        self._count += 1
        self._failures += failed
        while self._recent[0].since < now - WINDOW:
            old = self._recent.popleft()
            self._count -= old.count
            self._failures -= old.count * old.failed

    def _forget(self) -> None:
        self._recent.clear()
        self._count = self._failures = 0
