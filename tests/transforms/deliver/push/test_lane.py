"""A lane: whatever a receiver answers, each record is delivered, dead or waiting, and what was taken was in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.deliver.push.scripted import (
    BUSY,
    DENIED,
    REFUSED,
    TOO_LARGE,
    WIDE,
    Clock,
    Receiver,
    deliver,
    ids_of,
    numbered_parts,
    sender_to,
    usage,
)  # fmt: skip
from tests.transforms.deliver.support import Stream, part_of
from transforms.deliver.answer import Answer
from transforms.deliver.destination import Outcome
from transforms.deliver.parts import Part
from transforms.deliver.push.batch import Limits
from transforms.deliver.push.lane import deliver_lane
from transforms.deliver.push.options import Retry
from transforms.deliver.selection import Selection

RETRY = Retry(attempts=3, seconds=20)

Scripted = Answer | Callable[[list[int]], Answer]

FAILURES = st.sampled_from([BUSY, BUSY, BUSY, DENIED, REFUSED, TOO_LARGE])
WHOLE: st.SearchStrategy[Scripted] = st.sampled_from(
    [Answer(), Answer(), *map(Answer, (BUSY, REFUSED, TOO_LARGE, DENIED))]
)


def _some(flags: list[Any]) -> Callable[[list[int]], Answer]:
    """An answer in which single records fail: of a longer request the flags come again and again."""

    def answer(ids: list[int]) -> Answer:
        fate = {place: flags[place % len(flags)] for place in range(len(ids))}
        return Answer(failures={place: failure for place, failure in fate.items() if failure is not None})

    return answer


SINGLE: st.SearchStrategy[Scripted] = st.lists(st.none() | FAILURES, min_size=1, max_size=8).map(_some)
SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=6)
LIMITS = st.builds(
    Limits, records=st.integers(1, 9), bytes=st.integers(1_000, 9_000), record_bytes=st.integers(1_050, 2_000),
    overhead=st.integers(0, 50),
)  # fmt: skip


def fates(parts: list[tuple[Part, pa.RecordBatch]], outcomes: list[tuple[Part, Outcome]]) -> dict[str, list[int]]:
    """Ids of the records by what became of them; each part came out once, in order, with its count."""
    assert [part for part, _ in outcomes] == [part for part, _ in parts]
    found: dict[str, list[int]] = {"delivered": [], "dead": [], "waiting": []}
    for (_, rows), (_, outcome) in zip(parts, outcomes, strict=True):
        rest = rows.slice(0, 0)
        if outcome.failure is not None:
            rest = rows if outcome.rest is None else outcome.rest
            assert rest.num_rows
        dead = [int(str(letter.record_id)) for letter in outcome.dead_letters]
        gone = {*dead, *ids_of(rest)}
        assert outcome.delivered + len(dead) + rest.num_rows == rows.num_rows and len(gone) == len(dead) + rest.num_rows
        found["delivered"] += [number for number in ids_of(rows) if number not in gone]
        found["dead"] += dead
        found["waiting"] += ids_of(rest)
    return found


def check_requests(receiver: Receiver, limits: Limits, retry: Retry) -> None:
    """Each keeps to the limits; the same one comes at most as often, and as long, as it may be tried."""
    first = 0
    for number, request in enumerate(receiver.requests):
        size = sum(request.sizes) + limits.overhead * len(request.sizes)
        assert len(request.ids) <= limits.records and (size <= limits.bytes or len(request.ids) == 1)
        assert max(request.sizes) <= limits.record_bytes
        if request.ids != receiver.requests[first].ids:
            first = number
        assert number - first < retry.attempts
        assert request.at - receiver.requests[first].at <= retry.seconds


@given(sizes=SIZES, limits=LIMITS, script=st.lists(WHOLE | SINGLE, max_size=25), longer=st.data(), ahead=st.booleans())
def test_each_record_is_exactly_one_of_delivered_dead_waiting(
    sizes: list[int], limits: Limits, script: list[Scripted], longer: st.DataObject, ahead: bool
) -> None:
    clock = Clock()
    parts, first = [], 1
    for pane, size in enumerate(sizes):
        more = longer.draw(st.lists(st.integers(0, 1_200), max_size=size))
        parts.append((part_of(pane=pane), usage(range(first, first + size), more)))
        first += size
    receiver = Receiver(clock, script)
    found = fates(parts, deliver(parts, sender_to(receiver, clock, RETRY), limits, ahead))
    assert sorted(receiver.taken) == found["delivered"]
    assert sorted(sum(found.values(), [])) == list(range(1, first))
    check_requests(receiver, limits, RETRY)
    for request in receiver.requests:
        assert request.ids == sorted(request.ids)


@given(sizes=SIZES, limits=LIMITS, script=st.lists(WHOLE, max_size=25), ahead=st.booleans())
def test_what_is_taken_is_in_order_of_the_rows(
    sizes: list[int], limits: Limits, script: list[Scripted], ahead: bool
) -> None:
    clock = Clock()
    parts = numbered_parts(sizes)
    receiver = Receiver(clock, script)
    found = fates(parts, deliver(parts, sender_to(receiver, clock, RETRY), limits, ahead))
    assert receiver.taken == sorted(receiver.taken) == found["delivered"]
    # What waits comes after all that was taken: nothing overtakes it.
    assert not found["waiting"] or max(found["delivered"], default=0) < min(found["waiting"])


@given(sizes=SIZES, records=st.integers(1, 9), bad=st.sets(st.integers(1, 60)))
def test_only_the_records_at_fault_are_dead(sizes: list[int], records: int, bad: set[int]) -> None:
    clock = Clock()
    parts = numbered_parts(sizes)
    receiver = Receiver(clock, decide=lambda ids: Answer(REFUSED if bad & set(ids) else None))
    found = fates(parts, deliver(parts, sender_to(receiver, clock), Limits(records, 10**7, 10**6)))
    everything = set(range(1, 1 + sum(sizes)))
    assert set(found["dead"]) == everything & bad and found["waiting"] == []
    assert receiver.taken == sorted(everything - bad)


@given(sizes=SIZES, records=st.integers(1, 30))
def test_batches_are_full_but_for_the_last(sizes: list[int], records: int) -> None:
    clock = Clock()
    receiver = Receiver(clock)
    deliver(numbered_parts(sizes), sender_to(receiver, clock), Limits(records, 10**7, 10**6))
    lengths = [len(request.ids) for request in receiver.requests]
    assert set(lengths[:-1]) <= {records} and sum(lengths) == sum(sizes)


@given(sizes=SIZES, script=st.lists(WHOLE | SINGLE, max_size=12))
def test_the_rest_can_be_delivered_later_and_each_record_arrives_once(sizes: list[int], script: list[Scripted]) -> None:
    clock = Clock()
    parts = numbered_parts(sizes)
    limits = Limits(4, 10**7, 10**6)
    first, second = Receiver(clock, script), Receiver(clock)
    outcomes = deliver(parts, sender_to(first, clock, RETRY), limits)
    rests = [
        (part, rows if outcome.rest is None else outcome.rest)
        for (part, rows), (_, outcome) in zip(parts, outcomes, strict=True)
        if outcome.failure is not None
    ]
    fates(rests, deliver(rests, sender_to(second, clock), limits))
    dead = [letter.record_id for _, outcome in outcomes for letter in outcome.dead_letters]
    assert sorted([*first.taken, *second.taken, *dead]) == list(range(1, 1 + sum(sizes)))


def test_parts_are_settled_as_soon_as_their_records_are() -> None:
    clock = Clock()
    settled: list[Part] = []
    seen: list[int] = []

    def read() -> Iterator[tuple[Part, Selection]]:
        for part, rows in numbered_parts([5, 5, 5, 5]):
            seen.append(len(settled))
            yield part, Selection(rows)

    for part, _ in deliver_lane(read(), Stream(), Limits(6, 10**7, 10**6), sender_to(Receiver(clock), clock)):
        settled.append(part)
    assert seen == [0, 0, 1, 2] and len(settled) == 4


def test_a_record_that_is_too_large_is_a_dead_letter_and_nothing_of_it_is_sent() -> None:
    clock = Clock()
    rows = usage([1, 2, 3], [0, 5_000, 0])
    receiver = Receiver(clock)
    ((_, outcome),) = deliver([(part_of(), rows)], sender_to(receiver, clock), Limits(10, 10**6, 3_000))
    (letter,) = outcome.dead_letters
    assert (letter.reason, letter.record_id, letter.kind, letter.stream) == ("too_large", 2, "delivery", "archive")
    assert receiver.taken == [1, 3] and outcome.delivered == 2


def test_a_dead_letter_says_why_without_secrets() -> None:
    clock = Clock()
    secret = dataclasses.replace(REFUSED, error="refused: token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlMTIz")
    receiver = Receiver(clock, [Answer(secret)])
    ((_, outcome),) = deliver([(part_of(), usage([7]))], sender_to(receiver, clock))
    (letter,) = outcome.dead_letters
    assert "eyJhbGci" not in letter.message and letter.message.startswith("refused")
    assert (letter.reason, letter.feed, letter.source_file) == ("delivery_rejected", 1, "usage.ndjson")


@pytest.mark.parametrize("ahead", [False, True])
def test_memory_is_bounded_whatever_the_length_of_the_lane(ahead: bool) -> None:
    clock = Clock()
    used: list[int] = []

    def decide(ids: list[int]) -> Answer:
        used.append(pa.total_allocated_bytes())
        return Answer()

    def parts() -> Iterator[tuple[Part, pa.RecordBatch]]:
        for pane in range(60):
            yield part_of(pane=pane), usage(range(pane * 2_000, (pane + 1) * 2_000))

    one = usage(range(2_000)).nbytes
    before = pa.total_allocated_bytes()
    deliver(parts(), sender_to(Receiver(clock, decide=decide), clock), Limits(500, 10**7, 10**6), ahead)
    assert len(used) == 240 and max(used) - before < 6 * one


@pytest.mark.parametrize("sizes", [[], [5_000], [2_048, 1], [2_047, 2]])
def test_chunks_and_limits_meet(sizes: list[int]) -> None:
    clock = Clock()
    receiver = Receiver(clock)
    parts = numbered_parts(sizes)
    found = fates(parts, deliver(parts, sender_to(receiver, clock), WIDE))
    assert receiver.taken == found["delivered"] == list(range(1, 1 + sum(sizes)))
