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


def attempt(send: Callable[[], Answer], records: int, breaker: CircuitBreaker, pace: Pace) -> Answer:
    """One attempt at a request of so many records, if the circuit breaker lets it through, when its turn has come."""
    blocked = breaker.wait()
    if blocked:
        error = f"the circuit is open after many failed requests; next try in {blocked:.0f} s"
        remedy = "mend the destination, then deliver what is pending"
        return Answer(Failure(FailureKind.TRANSIENT, error, remedy, retry_after=blocked))
    pace.wait(records)
    answer = send()
    breaker.record(failed=is_transient(answer.failure))
    return answer


def until_settled(
    attempt: Callable[[], Failure | None],
    retry: Retry,
    until: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Failure | None:
    """Tries until it succeeds, fails in a way that does not pass, or a bound is reached; returns the last failure.

    Args:
      attempt: one attempt, and how it failed.
      retry: how often, and how long.
      until: monotonic time after which nothing is tried any more; None: no such time.
      sleep: waits so many seconds.
    """
    left = float("inf") if until is None else max(0.0, until - time.monotonic())
    stop = tenacity.stop_after_attempt(retry.attempts) | tenacity.stop_before_delay(min(retry.seconds, left))
    return tenacity.Retrying(
        sleep=sleep,
        stop=stop,
        wait=_wait,
        retry=tenacity.retry_if_result(is_transient),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )(attempt)


def is_transient(failure: Failure | None) -> bool:
    """Whether a failure may pass by itself."""
    return failure is not None and failure.kind is FailureKind.TRANSIENT


def _wait(state: tenacity.RetryCallState) -> float:
    failure = state.outcome.result() if state.outcome else None
    jitter = tenacity.wait_random_exponential(multiplier=_BASE, max=_LONGEST)(state)
    asked = failure.retry_after if failure is not None else None
    return jitter if asked is None else asked
