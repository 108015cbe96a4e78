"""Attempts at one request: paced, by the circuit breaker's leave, and again while what fails may pass."""

from __future__ import annotations

import time
from collections.abc import Callable

import tenacity

from transforms.deliver.answer import Answer
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.push.breaker import CircuitBreaker
from transforms.deliver.push.options import Retry
from transforms.deliver.push.pace import Pace

_BASE, _LONGEST = 0.5, 30.0
"""Back-off with full jitter: a random time up to 0.5 s · 2^n, at most 30 s."""

_NO_TIME = Failure(
    FailureKind.TRANSIENT, "there was no time left to deliver", "deliver what is pending", retry_after=float("inf")
)


class Attempts:
    """The attempts of one lane.

    Args:
      retry: how often, and how long, one request is tried.
      breaker: the circuit breaker of the stream.
      pace: the pace of the lane.
      until: time of the clock after which nothing is tried any more; None: no such time.
      clock: monotonic time in seconds.
      sleep: waits so many seconds.
    """

    def __init__(
        self,
        retry: Retry,
        breaker: CircuitBreaker,
        pace: Pace,
        until: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._retry, self._breaker, self._pace = retry, breaker, pace
        self._until, self._clock, self._sleep = until, clock, sleep
        self._paced = 0.0  # seconds that were waited for the pace

    def one(self, send: Callable[[], Answer], records: int) -> Answer:
        """One attempt at a request of so many records, if the circuit breaker lets it through, when its turn has come.

        Waits for its turn only where that comes before the end of the time that there is.
        """
        turn = self._pace.seconds()
        if self._is_late(self._clock() + turn):
            return Answer(_NO_TIME)
        blocked = self._breaker.wait()
        if blocked:
            error = f"the circuit is open after many failed requests; next try in {blocked:.0f} s"
            remedy = "mend the destination, then deliver what is pending"
            return Answer(Failure(FailureKind.TRANSIENT, error, remedy, retry_after=blocked))
        if turn:
            self._sleep(turn)
            self._paced += turn
        self._pace.sent(records)
        answer = send()
        self._breaker.record(failed=is_transient(answer.failure))
        return answer

    def until_settled(self, attempt: Callable[[], Failure | None]) -> Failure | None:
        """Tries as often and as long as the lane may; see `until_settled`. Waits for the pace are not counted."""
        return until_settled(attempt, self._retry, self._until, self._clock, self._sleep, lambda: self._paced)

    def _is_late(self, moment: float) -> bool:
        return self._until is not None and moment > self._until


def until_settled(
    attempt: Callable[[], Failure | None],
    retry: Retry,
    until: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    paced: Callable[[], float] = lambda: 0.0,
) -> Failure | None:
    """Tries until it succeeds, fails in a way that does not pass, or a bound is reached; returns the last failure.

    Args:
      attempt: one attempt, and how it failed.
      retry: how often, and how long.
      until: time of the clock after which nothing is tried again; None: no such time.
      clock: monotonic time in seconds.
      sleep: waits so many seconds.
      paced: seconds that attempts have waited for their pace so far. They are no part of the time that is tried: with a
        slow rate and large batches the wait for one turn is longer than that.
    """
    latest = clock() - paced() + retry.seconds

    def stop(state: tenacity.RetryCallState) -> bool:
        again = clock() + state.upcoming_sleep
        late = again - paced() > latest or (until is not None and again > until)
        return state.attempt_number >= retry.attempts or late

    # Most requests succeed at once: tenacity, which costs a fifth of a small request, is for the others.
    first = attempt()
    if not is_transient(first):
        return first
    made = [first]
    return tenacity.Retrying(
        sleep=sleep,
        stop=stop,
        wait=_wait,
        retry=tenacity.retry_if_result(is_transient),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )(lambda: made.pop() if made else attempt())


def is_transient(failure: Failure | None) -> bool:
    """Whether a failure may pass by itself."""
    return failure is not None and failure.kind is FailureKind.TRANSIENT


def _wait(state: tenacity.RetryCallState) -> float:
    failure = state.outcome.result() if state.outcome else None
    jitter = tenacity.wait_random_exponential(multiplier=_BASE, max=_LONGEST)(state)
    asked = failure.retry_after if failure is not None else None
    return jitter if asked is None else asked
