"""Send one batch until each of its records is taken, refused, or has to wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from transforms.deliver.answer import Answer
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.push import attempts
from transforms.deliver.push.attempts import is_transient
from transforms.deliver.push.batch import Batch, Places
from transforms.deliver.push.breaker import CircuitBreaker
from transforms.deliver.push.options import Retry
from transforms.deliver.push.pace import Pace

WAITING, TAKEN, REFUSED = 0, 1, 2

_ALL_REFUSED = 100
"""Records refused one after another, none taken, from which on the destination counts as misconfigured: it would refuse
every record, and make a dead letter of each."""

_OF_THE_RECORD = (FailureKind.REJECTED, FailureKind.TOO_LARGE)


@dataclass(slots=True)
class Sent:
    """What became of a batch.

    Attributes:
      status: WAITING, TAKEN or REFUSED, of each record.
      refused: why, by the place of the record.
      failure: why the rest waits; None where nothing does.
    """

    status: npt.NDArray[np.uint8]
    refused: dict[int, Failure] = field(default_factory=dict)
    failure: Failure | None = None


class Sender:
    """Sends the batches of one lane, one request at a time.

    What happens follows from the kind of a failure alone: transient, tried again with back-off (or after the time that
    the destination asked for) within the bounds of `Retry`; misconfigured, not tried again; rejected and too large,
    halved until the record at fault stands alone, which is refused, while the others go on in order.

    Args:
      send: one attempt.
      retry: how often, and how long.
      breaker: the circuit breaker of the stream.
      pace: the pace of the lane.
      until: monotonic time after which nothing is tried any more; None: no such time.
      sleep: waits so many seconds.
    """

    def __init__(
        self,
        send: Callable[[Batch], Answer],
        retry: Retry,
        breaker: CircuitBreaker,
        pace: Pace,
        until: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._send, self._retry, self._breaker, self._pace = send, retry, breaker, pace
        self._until, self._sleep = until, sleep
        self._refused_in_a_row = 0

    def deliver(self, batch: Batch) -> Sent:
        """Sends a batch, and what is left of it, until nothing more can be done."""
        sent = Sent(np.zeros(len(batch), np.uint8))
        todo = deque([np.arange(len(batch))])
        while todo and sent.failure is None:
            places = todo.popleft()
            places, failure = self._until_settled(batch, places, sent)
            if failure is None:
                continue
            if failure.kind not in _OF_THE_RECORD:
                sent.failure = failure
            elif len(places) == 1:
                self._refuse(sent, int(places[0]), failure)
            else:
                middle = len(places) // 2
                todo.extendleft((places[middle:], places[:middle]))
        return sent

    def _until_settled(self, batch: Batch, places: Places, sent: Sent) -> tuple[Places, Failure | None]:
        """Tries until all are taken or refused; returns what is left, and the failure that stopped it or that asks for
        halves.
        """
        left = places

        def attempt() -> Failure | None:
            nonlocal left
            left, failure = self._settle(left, self._attempt(batch.take(left)), sent)
            return failure

        failure = attempts.until_settled(attempt, self._retry, self._until, self._sleep)
        return left, failure

    def _attempt(self, batch: Batch) -> Answer:
        return attempts.attempt(lambda: self._send(batch), len(batch), self._breaker, self._pace)

    def _settle(self, places: Places, answer: Answer, sent: Sent) -> tuple[Places, Failure | None]:
        """Notes what became of single records; returns those that are to be tried again, and why."""
        again, failure = [], answer.failure
        taken = np.ones(len(places), bool)
        if failure is not None:
            taken[:] = False
            taken[list(answer.taken)] = True
            again = list(places[~taken])
            failure = failure if again else None
        for at, why in sorted(answer.failures.items()):
            taken[at] = False
            if why.kind in _OF_THE_RECORD:
                self._refuse(sent, int(places[at]), why)
            else:
                again.append(places[at])
                # One that an operator has to mend counts more than one that passes.
                failure = why if failure is None or not is_transient(why) else failure
        if taken.any():
            sent.status[places[taken]] = TAKEN
            self._refused_in_a_row = 0
        return np.array(again, np.int64), failure if sent.failure is None else sent.failure

    def _refuse(self, sent: Sent, place: int, failure: Failure) -> None:
        sent.status[place], sent.refused[place] = REFUSED, failure
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= _ALL_REFUSED:
            # Those of this batch wait with the rest; of earlier ones they are dead letters already.
            for refused in sent.refused:
                sent.status[refused] = WAITING
            sent.refused.clear()
            error = f"the last {self._refused_in_a_row} records were all refused, none was taken: {failure.error}"
            sent.failure = Failure(FailureKind.MISCONFIGURED, error, "correct shape or options of the destination")
