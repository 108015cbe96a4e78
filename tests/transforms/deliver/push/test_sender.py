"""The sender: what happens to a batch follows from the kinds of its failures, within bounds of attempts and time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.deliver.push.scripted import (
    BUSY,
    DENIED,
    REFUSED,
    TOO_LARGE,
    Clock,
    Receiver,
    batch_of,
    sender_to,
    usage,
)  # fmt: skip
from transforms.deliver.answer import Answer
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.push.breaker import CircuitBreaker
from transforms.deliver.push.options import Rate, Retry
from transforms.deliver.push.pace import Pace
from transforms.deliver.push.sender import REFUSED as STATUS_REFUSED
from transforms.deliver.push.sender import TAKEN, WAITING, Sender


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_transient_failure_is_tried_again(clock: Clock) -> None:
    receiver = Receiver(clock, [Answer(BUSY), Answer(BUSY)])
    sent = sender_to(receiver, clock).deliver(batch_of(usage([1, 2, 3])))
    assert sent.failure is None and set(sent.status) == {TAKEN}
    assert [request.ids for request in receiver.requests] == [[1, 2, 3]] * 3
    # Full jitter: up to 0.5 s, then up to 1 s.
    assert len(clock.slept) == 2 and clock.slept[0] <= 0.5 and clock.slept[1] <= 1


@pytest.mark.parametrize("attempts", [1, 2, 8])
def test_attempts_are_bounded(clock: Clock, attempts: int) -> None:
    receiver = Receiver(clock, decide=lambda ids: Answer(BUSY))
    retry = Retry(attempts=attempts, seconds=3600)
    sent = sender_to(receiver, clock, retry).deliver(batch_of(usage([1, 2])))
    assert len(receiver.requests) == attempts
    assert sent.failure == BUSY and set(sent.status) == {WAITING}


@given(seconds=st.floats(0, 40), takes=st.floats(0.1, 30))
def test_time_is_bounded(seconds: float, takes: float) -> None:
    clock = Clock()
    receiver = Receiver(clock, decide=lambda ids: Answer(BUSY), takes=takes)
    began = clock.now
    sent = sender_to(receiver, clock, Retry(attempts=100, seconds=seconds)).deliver(batch_of(usage([1])))
    assert sent.failure == BUSY
    assert all(request.at <= began + seconds for request in receiver.requests)
    assert clock.now <= began + seconds + takes + 1e-6


def test_what_the_receiver_asks_to_wait_is_waited(clock: Clock) -> None:
    receiver = Receiver(clock, [Answer(dataclasses.replace(BUSY, retry_after=17.0))])
    sent = sender_to(receiver, clock).deliver(batch_of(usage([1])))
    assert sent.failure is None and clock.slept == [17.0]


def test_a_wait_that_does_not_fit_is_not_begun(clock: Clock) -> None:
    receiver = Receiver(clock, [Answer(dataclasses.replace(BUSY, retry_after=61.0))])
    sent = sender_to(receiver, clock, Retry(seconds=60)).deliver(batch_of(usage([1])))
    assert sent.failure is not None and clock.slept == [] and len(receiver.requests) == 1


def test_misconfigured_is_not_tried_again(clock: Clock) -> None:
    receiver = Receiver(clock, [Answer(DENIED)])
    sent = sender_to(receiver, clock).deliver(batch_of(usage([1, 2])))
    assert sent.failure == DENIED and len(receiver.requests) == 1 and set(sent.status) == {WAITING}


@given(bad=st.sets(st.integers(1, 40), max_size=40), kind=st.sampled_from([REFUSED, TOO_LARGE]))
def test_halving_finds_exactly_the_records_at_fault(bad: set[int], kind: Failure) -> None:
    clock = Clock()
    receiver = Receiver(clock, decide=lambda ids: Answer(kind if bad & set(ids) else None))
    sent = sender_to(receiver, clock).deliver(batch_of(usage(range(1, 41))))
    assert sent.failure is None
    assert {place + 1 for place in sent.refused} == bad and set(sent.refused.values()) <= {kind}
    assert receiver.taken == [number for number in range(1, 41) if number not in bad]
    # Each record at fault costs at most one way down the tree of halves, and its sibling on each level.
    assert len(receiver.requests) <= 1 + 2 * 6 * max(1, len(bad))


def test_single_failures_are_retried_alone(clock: Clock) -> None:
    script = [Answer(failures={1: BUSY, 3: REFUSED}), Answer(failures={0: BUSY})]
    receiver = Receiver(clock, script)
    sent = sender_to(receiver, clock).deliver(batch_of(usage([1, 2, 3, 4, 5])))
    assert [request.ids for request in receiver.requests] == [[1, 2, 3, 4, 5], [2], [2]]
    assert receiver.taken == [1, 3, 5, 2] and sent.failure is None
    assert sent.status.tolist() == [TAKEN, TAKEN, TAKEN, STATUS_REFUSED, TAKEN] and list(sent.refused) == [3]


def test_a_single_failure_to_mend_stops_and_the_others_were_taken(clock: Clock) -> None:
    receiver = Receiver(clock, [Answer(failures={0: BUSY, 1: DENIED})])
    sent = sender_to(receiver, clock).deliver(batch_of(usage([1, 2, 3])))
    assert sent.failure == DENIED and sent.status.tolist() == [WAITING, WAITING, TAKEN]


def test_a_receiver_that_refuses_everything_is_misconfigured(clock: Clock) -> None:
    receiver = Receiver(clock, decide=lambda ids: Answer(REFUSED))
    sent = sender_to(receiver, clock).deliver(batch_of(usage(range(150))))
    assert sent.failure is not None and sent.failure.kind is FailureKind.MISCONFIGURED
    assert "100 records were all refused" in sent.failure.error and REFUSED.error in sent.failure.error
    assert sent.refused == {} and set(sent.status) == {WAITING}


def test_refusals_are_counted_over_batches_until_one_is_taken(clock: Clock) -> None:
    good = {61}
    receiver = Receiver(clock, decide=lambda ids: Answer(None if set(ids) <= good else REFUSED))
    sender = sender_to(receiver, clock)
    first = sender.deliver(batch_of(usage(range(60))))
    assert first.failure is None and len(first.refused) == 60
    second = sender.deliver(batch_of(usage(range(60, 130))))  # one, the good one, 68 more
    assert second.failure is None and len(second.refused) == 69
    third = sender.deliver(batch_of(usage(range(130, 200))))
    assert third.failure is not None and set(third.status) == {WAITING}


def test_what_was_refused_before_one_was_taken_stays_refused(clock: Clock) -> None:
    receiver = Receiver(clock, decide=lambda ids: Answer(None if ids == [1] else REFUSED))
    sent = sender_to(receiver, clock).deliver(batch_of(usage(range(110))))
    assert sent.failure is not None
    assert sent.status.tolist() == [STATUS_REFUSED, TAKEN, *[WAITING] * 108] and list(sent.refused) == [0]


def test_many_single_refusals_in_a_request_of_which_some_is_taken_are_no_misconfiguration(clock: Clock) -> None:
    receiver = Receiver(clock, [Answer(failures=dict.fromkeys(range(120), REFUSED))])
    sent = sender_to(receiver, clock).deliver(batch_of(usage(range(121))))
    assert sent.failure is None and len(sent.refused) == 120 and sent.status[120] == TAKEN


def test_a_stream_that_fails_opens_the_circuit(clock: Clock) -> None:
    receiver = Receiver(clock, [Answer(BUSY)] * 10)
    breaker = CircuitBreaker(clock)

    def lane(retry: Retry) -> Sender:
        return Sender(receiver.send, retry, breaker, Pace(Rate(), clock), None, clock, clock.sleep)

    lane(Retry(attempts=10, seconds=3600)).deliver(batch_of(usage([1])))
    assert len(receiver.requests) == 10
    # Another lane of the stream: nothing is sent while it is open; one that has time waits for the end of the pause.
    sent = lane(Retry(attempts=1)).deliver(batch_of(usage([2])))
    assert sent.failure is not None and "circuit is open" in sent.failure.error and len(receiver.requests) == 10
    assert lane(Retry()).deliver(batch_of(usage([2]))).failure is None
    assert clock.slept[-1] == 30 and receiver.taken == [2]


def test_after_the_deadline_nothing_is_sent(clock: Clock) -> None:
    receiver = Receiver(clock)
    sender = sender_to(receiver, clock, until=clock.now + 5)
    assert sender.deliver(batch_of(usage([1]))).failure is None
    clock.now += 6
    sent = sender.deliver(batch_of(usage([2])))
    assert sent.failure is not None and sent.failure.error == "there was no time left to deliver"
    assert receiver.taken == [1] and clock.slept == []


def test_retries_end_at_the_deadline(clock: Clock) -> None:
    receiver = Receiver(clock, decide=lambda ids: Answer(BUSY), takes=0.5)
    until = clock.now + 5
    sent = sender_to(receiver, clock, Retry(attempts=100, seconds=600), until=until).deliver(batch_of(usage([1])))
    assert sent.failure == BUSY and clock.now <= until + 0.5


def test_a_pace_that_does_not_fit_the_deadline_is_not_waited_for(clock: Clock) -> None:
    receiver = Receiver(clock)
    sender = sender_to(receiver, clock, rate=Rate(requests_per_second=0.1), until=clock.now + 5)
    assert sender.deliver(batch_of(usage([1]))).failure is None
    assert sender.deliver(batch_of(usage([2]))).failure is not None
    assert clock.slept == [] and receiver.taken == [1]


def test_waits_for_the_pace_do_not_use_up_the_time_of_retries(clock: Clock) -> None:
    # 75 s for each batch of 3,000: longer than Retry.seconds.
    receiver = Receiver(clock, [Answer(), Answer(BUSY)])
    sender = sender_to(receiver, clock, rate=Rate(records_per_second=40))
    for start in (0, 3_000):
        sent = sender.deliver(batch_of(usage(range(start, start + 3_000))))
        assert sent.failure is None and set(sent.status) == {TAKEN}
    assert [len(request.ids) for request in receiver.requests] == [3_000] * 3
    assert receiver.taken == list(range(6_000))
    assert (np.diff([request.at for request in receiver.requests]) >= 74.9).all()


def test_retries_at_a_pace_end_by_their_own_time(clock: Clock) -> None:
    receiver = Receiver(clock, decide=lambda ids: Answer(dataclasses.replace(BUSY, retry_after=30.0)), takes=1)
    sender = sender_to(receiver, clock, Retry(attempts=100, seconds=60), Rate(requests_per_second=0.01))
    assert sender.deliver(batch_of(usage([1]))).failure is not None
    # Of 100 s from one request to the next 30 are the pause that was asked for, and a second is the request's own.
    assert len(receiver.requests) == 2


@given(
    rate=st.floats(0.5, 200),
    of=st.sampled_from(["records_per_second", "requests_per_second"]),
    sizes=st.lists(st.integers(1, 20), min_size=2, max_size=15),
)
def test_the_pace_holds(rate: float, of: str, sizes: list[int]) -> None:
    clock = Clock()
    receiver = Receiver(clock, takes=0)
    sender = sender_to(receiver, clock, rate=Rate.model_validate({of: rate}))
    for size in sizes:
        sender.deliver(batch_of(usage(range(size))))
    began = receiver.requests[0].at
    for number, request in enumerate(receiver.requests):
        before = receiver.requests[:number]
        amount = sum(len(each.ids) for each in before) if of == "records_per_second" else len(before)
        assert request.at - began >= amount / rate - 1e-6
    assert clock.now - began <= sum(sizes) / rate + 1  # and no slower than that
