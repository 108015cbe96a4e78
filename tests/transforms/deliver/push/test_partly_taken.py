"""A request that fails as a whole although some of its records were taken: those are not sent again."""

from __future__ import annotations

import pyarrow as pa

from schemas.streams import Stream
from tests.transforms.deliver.support import rows_of
from transforms.deliver.answer import Answer
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.push.batch import Batch
from transforms.deliver.push.breaker import CircuitBreaker
from transforms.deliver.push.options import Rate, Retry
from transforms.deliver.push.pace import Pace
from transforms.deliver.push.sender import REFUSED, TAKEN, Sender, Sent
from transforms.deliver.shapes import json_lines
from transforms.deliver.webhook import WebhookOptions

STREAM = Stream(name="s", content="usage", destination=WebhookOptions(url="http://127.0.0.1/"))


class Receiver:
    """Takes records in order, until one that it refuses, or until it fails; says which it took."""

    def __init__(self, refused: int | None = None, failures: int = 0, most: int = 2) -> None:
        self.taken: list[int] = []
        self._refused, self._failures, self._most = refused, failures, most

    def send(self, batch: Batch) -> Answer:
        ids = batch.rows.column("usage_id").to_pylist()
        if self._refused in ids:
            good = ids.index(self._refused)
            failure = Failure(FailureKind.TOO_LARGE, "one of them is too large", "")
        elif self._failures:
            self._failures -= 1
            good, failure = min(self._most, len(ids)), Failure(FailureKind.TRANSIENT, "gone", "")
        else:
            self.taken += ids
            return Answer()
        self.taken += ids[:good]
        return Answer(failure, taken=range(good))


def deliver(receiver: Receiver, count: int) -> Sent:
    rows: pa.RecordBatch = rows_of("usage", *({"usage_id": number} for number in range(count)))
    batch = Batch(STREAM, "usage", rows, json_lines("table", "usage", rows))
    sender = Sender(receiver.send, Retry(), CircuitBreaker(), Pace(Rate()), sleep=lambda seconds: None)
    return sender.deliver(batch)


def test_what_was_taken_before_a_failure_is_not_sent_again() -> None:
    receiver = Receiver(failures=3)
    sent = deliver(receiver, 10)
    assert receiver.taken == list(range(10))
    assert sent.failure is None and (sent.status == TAKEN).all()


def test_the_record_at_fault_is_found_among_those_that_are_left() -> None:
    receiver = Receiver(refused=5)
    sent = deliver(receiver, 10)
    assert receiver.taken == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert list(sent.refused) == [5] and sent.status[5] == REFUSED


def test_all_taken_after_all_is_no_failure_of_a_record() -> None:
    receiver = Receiver(failures=1, most=10)
    sent = deliver(receiver, 4)
    assert receiver.taken == [0, 1, 2, 3] and not sent.refused and (sent.status == TAKEN).all()
