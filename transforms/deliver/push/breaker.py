"""Circuit breaker: a destination that fails most requests gets a pause instead of more of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW, MOST_FAILURES, FEWEST_REQUESTS, PAUSE = 300.0, 0.7, 10, 30.0
"""Seconds that are looked back on; share of failures that opens the circuit; requests before it can; seconds that it
stays open before one request may try again."""


class CircuitBreaker:
    """Closed while requests succeed; opens at 70 % failures of at least 10 requests in 5 minutes; after 30 s one
    request may try: its success closes it, its failure opens it again. Used by all lanes of a stream in a worker.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._requests: deque[tuple[float, bool]] = deque()
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
                self._requests.clear()
                return
            self._requests.append((now, failed))
            while self._requests[0][0] < now - WINDOW:
                self._requests.popleft()
            failures = sum(bad for _, bad in self._requests)
            if len(self._requests) >= FEWEST_REQUESTS and failures >= MOST_FAILURES * len(self._requests):
                self._open_until = now + PAUSE
                self._requests.clear()
