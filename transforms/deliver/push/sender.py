"""Send one batch until each of its records is taken, refused, or has to wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from transforms.deliver.answer import Answer
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.push.attempts import Attempts, is_transient
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
      until: time of the clock after which nothing is tried any more; None: no such time.
      clock: monotonic time in seconds.
      sleep: waits so many seconds.
    """

    def __init__(
        self,
        send: Callable[[Batch], Answer],
        retry: Retry,
        breaker: CircuitBreaker,
        pace: Pace,
        until: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._send = send
        self._attempts = Attempts(retry, breaker, pace, until, clock, sleep)
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
                self._refuse(sent, {int(places[0]): failure}, some_taken=False)
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
            answer = self._attempts.one(lambda: self._send(batch.take(left)), len(left))
            left, failure = self._settle(left, answer, sent)
            return failure

        failure = self._attempts.until_settled(attempt)
        return left, failure

    def _settle(self, places: Places, answer: Answer, sent: Sent) -> tuple[Places, Failure | None]:
        """Notes what became of single records; returns those that are to be tried again, and why."""
        again, failure = [], answer.failure
        refused: dict[int, Failure] = {}
        taken = np.ones(len(places), bool)
        if failure is not None:
            taken[:] = False
            taken[list(answer.taken)] = True
            again = list(places[~taken])
            failure = failure if again else None
        for at, why in sorted(answer.failures.items()):
            taken[at] = False
            if why.kind in _OF_THE_RECORD:
                refused[int(places[at])] = why
            else:
                again.append(places[at])
                # One that an operator has to mend counts more than one that passes.
                failure = why if failure is None or not is_transient(why) else failure
        sent.status[places[taken]] = TAKEN
        self._refuse(sent, refused, some_taken=bool(taken.any()))
        return np.array(again, np.int64), failure if sent.failure is None else sent.failure

    def _refuse(self, sent: Sent, refused: Mapping[int, Failure], some_taken: bool) -> None:
        """Notes refused records; with too many in a row, all of them wait instead."""
        for place, why in refused.items():
            sent.status[place], sent.refused[place] = REFUSED, why
        self._refused_in_a_row = 0 if some_taken else self._refused_in_a_row + len(refused)
        if not refused or self._refused_in_a_row < _ALL_REFUSED:
            return
        # Those of this batch wait with the rest; of earlier ones they are dead letters already.
        last_taken = int(np.flatnonzero(sent.status == TAKEN).max(initial=-1))
        error = f"the last {self._refused_in_a_row} records were all refused, none was taken: {why.error}"
        sent.failure = Failure(FailureKind.MISCONFIGURED, error, "correct shape or options of the destination")
        for place in [place for place in sent.refused if place > last_taken]:
            sent.status[place] = WAITING
            del sent.refused[place]
