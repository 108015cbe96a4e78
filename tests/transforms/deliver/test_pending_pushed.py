"""Delivery from the spool to a receiver that takes only some: killed at any step, nothing is lost or counted twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from schemas.streams import Batch
from tests.servers.http import Answer, Receiver, receiver
from tests.transforms.deliver.push.scripted import ids_of, usage
from tests.transforms.deliver.support import Stream, part_of
from transforms.deliver import pending, spool
from transforms.deliver.pending import Redelivery, deliver_pending
from transforms.deliver.push.options import Retry
from transforms.deliver.webhook import WebhookOptions

ROWS, SIZE = 10, 4


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def stream_to(server: Receiver, shards: int = 1) -> Stream:
    options = WebhookOptions(type="webhook", url=server.address, retry=Retry(attempts=1), shards=shards)
    return Stream(destination=options, batch=Batch(size=SIZE))


class Ledger:
    """Lists the spool's files, and settles each once, as the real one does."""

    def __init__(self, output: Path) -> None:
        self.listed: set[str] = set()
        self.delivered = 0
        for pane in range(3):
            rows = usage(range(pane * ROWS, (pane + 1) * ROWS))
            self.listed.add(spool.put(str(output), part_of(pane=pane), rows).path)

    def __call__(self, done: Sequence[Redelivery]) -> None:
        for each in done:
            if each.spooled in self.listed:
                self.listed.remove(each.spooled)
                self.delivered += each.delivered
                self.listed |= {each.rest.path} if each.rest is not None else set()

    def waiting(self, output: Path) -> list[int]:
        """Ids of the records that wait and are listed."""
        return [
            number
            for part in spool.waiting(str(output)).get("archive", [])
            if spool.path_of(str(output), part).removeprefix(f"{output}/") in self.listed
            for number in ids_of(spool.take(str(output), part)[1])
        ]


def arrived(server: Receiver) -> list[int]:
    return [row["usage_id"] for request in server.accepted() for row in json.loads(request.body)]


def takes(server: Receiver, count: int) -> None:
    """The next so many requests succeed, and those after them fail."""
    asked = len(server.requests)
    server.script = lambda number, request: Answer(200 if number <= asked + count else 503)


@pytest.mark.parametrize("taken", range(8))
def test_what_is_left_waits_in_order(server: Receiver, tmp_path: Path, taken: int) -> None:
    ledger = Ledger(tmp_path)
    takes(server, taken)
    (result,) = deliver_pending(str(tmp_path), [stream_to(server)], ledger, listed=ledger.listed)
    assert result.delivered == ledger.delivered == taken * SIZE and result.error is not None
    assert ledger.waiting(tmp_path) == list(range(taken * SIZE, 3 * ROWS))
    takes(server, 100)
    deliver_pending(str(tmp_path), [stream_to(server)], ledger, listed=ledger.listed)
    assert arrived(server) == list(range(3 * ROWS)) and ledger.delivered == 3 * ROWS
    assert spool.waiting(str(tmp_path)) == {}


class KilledError(BaseException):
    """The process dies."""


def die(*_: object) -> None:
    raise KilledError


@pytest.mark.parametrize("moment", ["rest", "before the ledger", "after the ledger", "some forgotten"])
def test_killed_between_steps_everything_counts_once(
    server: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    ledger = Ledger(tmp_path)
    takes(server, 4)  # parts 0 and 1 in part: 16 of 30 records, the second part's rest is 4
    settle: Callable[[Sequence[Redelivery]], None] = ledger
    discard = spool.discard
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        if moment == "rest":
            patch.setattr(pending.spool, "put", die)
        elif moment == "before the ledger":
            settle = die
        elif moment == "after the ledger":
            patch.setattr(pending.spool, "discard", die)
        else:
            calls = iter([discard])
            patch.setattr(pending.spool, "discard", lambda *given: next(calls, die)(*given))
        deliver_pending(str(tmp_path), [stream_to(server)], settle, listed=ledger.listed)
    settled = moment in ("after the ledger", "some forgotten")
    assert ledger.delivered == (16 if settled else 0)
    takes(server, 100)
    deliver_pending(str(tmp_path), [stream_to(server)], ledger, listed=ledger.listed)
    assert ledger.delivered == 3 * ROWS and ledger.waiting(tmp_path) == []
    assert list(dict.fromkeys(arrived(server))) == list(range(3 * ROWS))
    # What was delivered but not settled is sent again, and only that.
    assert len(arrived(server)) - 3 * ROWS == (0 if settled else 16)


def test_refused_records_are_dead_and_the_others_go_on(server: Receiver, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    server.script = lambda number, request: Answer(
        400 if any(r["usage_id"] == 13 for r in json.loads(request.body)) else 200
    )
    (result,) = deliver_pending(str(tmp_path), [stream_to(server)], ledger, listed=ledger.listed)
    assert result.error is None and result.delivered == 3 * ROWS - 1
    assert [letter.record_id for done in result.redelivered for letter in done.dead_letters] == [13]
    assert arrived(server) == [number for number in range(3 * ROWS) if number != 13]
