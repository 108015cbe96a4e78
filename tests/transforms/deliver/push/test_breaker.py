"""The circuit breaker: opens at 70 % failures of at least 10 requests in 5 minutes, tries one request after 30 s."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.deliver.push.scripted import Clock
from transforms.deliver.push.breaker import FEWEST_REQUESTS, MOST_FAILURES, PAUSE, WINDOW, CircuitBreaker


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock) -> CircuitBreaker:
    breaker = CircuitBreaker(clock)
    for _ in range(FEWEST_REQUESTS):
        breaker.record(failed=True)
    return breaker


@pytest.mark.parametrize(
    ("failures", "successes", "open_"), [(9, 0, False), (10, 0, True), (7, 3, True), (6, 4, False)]
)
def test_when_it_opens(clock: Clock, failures: int, successes: int, open_: bool) -> None:
    breaker = CircuitBreaker(clock)
    for _ in range(successes):
        breaker.record(failed=False)
    for _ in range(failures):
        breaker.record(failed=True)
    assert (breaker.wait() > 0) is open_


def test_old_requests_do_not_count(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    for _ in range(9):
        breaker.record(failed=True)
    clock.now += WINDOW + 1
    breaker.record(failed=True)
    assert breaker.wait() == 0


def test_one_tries_while_the_others_wait(clock: Clock) -> None:
    breaker = opened(clock)
    assert breaker.wait() == PAUSE
    clock.now += PAUSE
    assert breaker.wait() == 0 and breaker.wait() == PAUSE


@pytest.mark.parametrize("failed", [True, False])
def test_the_one_that_tried_decides(clock: Clock, failed: bool) -> None:
    breaker = opened(clock)
    clock.now += PAUSE
    assert breaker.wait() == 0
    breaker.record(failed)
    assert breaker.wait() == (PAUSE if failed else 0)
    if not failed:  # what was before is forgotten
        breaker.record(failed=True)
        assert breaker.wait() == 0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, PAUSE - 1)), max_size=60))
def test_it_is_open_only_after_enough_failures(requests: list[tuple[bool, float]]) -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock)
    since: list[tuple[float, bool]] = []
    for failed, pause in requests:
        clock.now += pause
        if breaker.wait():
            recent = [bad for at, bad in since if at >= since[-1][0] - WINDOW]
            assert len(recent) >= FEWEST_REQUESTS and sum(recent) >= MOST_FAILURES * len(recent)
            return
        breaker.record(failed)
        since.append((clock.now, failed))
