"""The courier against a receiver of this process: order, delays, failures, pauses, kills; none waits for another."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.streams import Batch
from tests.servers.http import Answer, Receiver, Request, receiver
from tests.servers.processes import wait_until
from tests.transforms.deliver.push.scripted import usage
from tests.transforms.deliver.shelf import Shelf
from tests.transforms.deliver.support import HOUR, Stream
from transforms.deliver import courier as module
from transforms.deliver import spool, storage
from transforms.deliver.courier import LONG, Courier, pause_after
from transforms.deliver.destination import Waits
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.parts import Part
from transforms.deliver.push.options import Rate, Retry
from transforms.deliver.registry import waits_of
from transforms.deliver.s3 import S3Destination, S3Options
from transforms.deliver.webhook import WebhookOptions
from transforms.ledger.books import Books
from transforms.ledger.counts import Count, FileEntry, Group
from transforms.run import Run

WRITER = "live"
ROWS = 3


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)


def stream_to(
    address: str, name: str = "archive", size: int = 100, state: str = "running", **options: object
) -> Stream:
    given = {"type": "webhook", "url": address, "retry": Retry(attempts=1), **options}
    return Stream(name, destination=WebhookOptions.model_validate(given), batch=Batch(size=size), state=state)


class Desk:
    """Books and a courier over an output directory, and slices that come."""

    def __init__(self, output: Path, *streams: Stream, max_delay: float = 0.05):
        self.output, self.streams = str(output), streams
        self.run = Run(self.output, WRITER)
        self.books = Books(output / "books")
        self.courier = Courier(self.run, streams, self.books, max_delay)
        self.number = len(self.books.files)

    def arrive(self, *ids: Sequence[int], stream: str = "archive", hour: int = HOUR, shard: int = 0) -> None:
        """Slices come with these ids, each in a part of its own, and are committed together."""
        for one in ids:
            self.number += 1
            part = Part(stream, "usage", hour, 0, WRITER, self.number, shard)
            stored = spool.put(self.output, part, usage(one))
            entry = FileEntry(f"pending/{stream}", hour, stored.path, len(one), stored.bytes, stored.checksum)
            count = Count("stream", "usage", stream, hour, 0, received=len(one), pending=len(one))
            self.books.commit(Group(("slice", self.number, 0, 0), [entry, count], 0))
        self.books.sync()

    def sums(self, stream: str = "archive") -> tuple[int, int, int]:
        """Delivered, pending and dead-lettered of a stream."""
        own = [count for count in self.books.counts if count.stream == stream]
        names = ("delivered", "pending", "dead_lettered")
        delivered, pending, dead = (sum(getattr(count, name) for count in own) for name in names)
        return delivered, pending, dead

    def waiting(self) -> list[str]:
        return [file.path for file in self.books.files if file.table_or_stream.startswith("pending/")]

    def kill(self) -> None:
        """The process is gone: whatever its threads still do is not kept."""
        self.courier.stop(0)
        self.books._log.close()


def ids(requests: Sequence[Request], name: str = "usage_id") -> list[int]:
    return [row[name] for request in requests for row in json.loads(request.body)]


def until(what: Callable[[], bool], words: str = "it is delivered") -> None:
    wait_until(what, words, 30)


def three_parts(first: int = 0) -> list[list[int]]:
    return [list(range(start, start + ROWS)) for start in range(first, first + 3 * ROWS, ROWS)]


def test_parts_arrive_in_the_order_of_their_commits_as_one_batch(server: Receiver, tmp_path: Path) -> None:
    desk = Desk(tmp_path, stream_to(server.address), max_delay=0.3)
    desk.arrive([5, 6], [1], hour=HOUR + 3_600_000_000)
    desk.arrive([9, 8])  # an earlier hour, but it came later
    until(lambda: len(server.answered) == 1)
    desk.courier.stop(10)
    assert ids(server.accepted()) == [5, 6, 1, 9, 8]
    assert desk.sums() == (5, 0, 0) and desk.waiting() == []


def test_a_record_waits_for_its_batch_for_max_delay_and_no_longer(server: Receiver, tmp_path: Path) -> None:
    desk = Desk(tmp_path, stream_to(server.address), max_delay=0.6)
    start = time.monotonic()
    desk.arrive([1])
    until(lambda: bool(server.answered))
    assert 0.55 < time.monotonic() - start < 5
    desk.courier.stop(10)


def test_a_full_batch_goes_at_once(server: Receiver, tmp_path: Path) -> None:
    desk = Desk(tmp_path, stream_to(server.address, size=2 * ROWS), max_delay=3600)
    desk.arrive(*three_parts()[:2])
    until(lambda: desk.sums()[0] == 2 * ROWS)
    desk.arrive([100])
    time.sleep(0.2)
    assert desk.sums() == (2 * ROWS, 1, 0) and len(server.requests) == 1
    desk.courier.stop(10)
    assert desk.sums() == (2 * ROWS + 1, 0, 0)  # what can be delivered is before it stops


@pytest.mark.parametrize(("seconds", "max_delay"), [(0.6, 3600), (0.6, 0.01)])
def test_a_stream_may_say_how_long_its_records_wait(
    server: Receiver, tmp_path: Path, seconds: float, max_delay: float
) -> None:
    stream = dataclasses.replace(stream_to(server.address), batch=Batch(seconds=seconds))
    desk = Desk(tmp_path, stream, max_delay=max_delay)
    start = time.monotonic()
    desk.arrive([1])
    until(lambda: bool(server.answered))
    assert 0.55 < time.monotonic() - start < 5
    desk.courier.stop(10)


def test_an_archive_waits_for_its_interval_or_until_a_file_is_full(tmp_path: Path) -> None:
    stream = Stream("archive", destination=S3Options(bucket="acme-iot", rotate_interval=600, flush_size=10_000))
    assert waits_of(stream) == (600, 10_000)
    courier = Desk(tmp_path, stream).courier
    now = time.monotonic()
    part = Part("archive", "usage", HOUR, 0, WRITER, 1)

    def due(*waiting: tuple[int, float]) -> float:
        """Seconds until a delivery of parts of so many rows and ages is due."""
        parts = deque(module._Waits(part, now - age, rows) for rows, age in waiting)
        return courier._due(stream, module._Lane(parts, sum(rows for rows, _ in waiting)))

    assert 590 < due((5_000, 0.0)) <= 600
    assert 90 < due((1, 500.0), (9_998, 0.0)) <= 100
    assert due((5_000, 1.0), (5_000, 0.0)) == 0
    assert due((1, 601.0)) <= 0


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    one = Shelf()
    monkeypatch.setattr(S3Destination, "connect", lambda destination: one)
    return one


def archive_desk(output: Path, rows: int = 10_000, **options: Any) -> Desk:
    """A desk with an archive whose interval is shorter than options allow."""
    given = S3Options.model_validate({"bucket": "acme-iot", "retry": {"attempts": 1}, **options})
    desk = Desk(output, Stream("archive", destination=given), max_delay=3600)
    desk.courier._waits["archive"] = Waits(0.3, rows)
    return desk


def listed(desk: Desk) -> dict[str, int]:
    """Rows of the archive's files that count, by hour and name."""
    files = [file for file in desk.books.files if file.table_or_stream == "streams/archive"]
    return {file.path.partition("/hh=")[2]: file.row_count for file in files}


def test_what_waits_for_an_archive_is_one_file_for_each_hour(shelf: Shelf, tmp_path: Path) -> None:
    desk = archive_desk(tmp_path)
    desk.arrive([1, 2], [3])
    desk.arrive([9], hour=HOUR + 3_600_000_000)
    desk.arrive([4, 5])
    until(lambda: desk.sums() == (6, 0, 0))
    desk.courier.stop(10)
    names = {"20/part-live-0-1.ndjson.gz": [1, 2, 3, 4, 5], "21/part-live-0-3.ndjson.gz": [9]}
    assert shelf.named() == names and len(shelf.puts) == 2
    assert listed(desk) == {name: len(found) for name, found in names.items()}
    assert desk.waiting() == [] and desk.courier.standing()["archive"] == (0, None)


def test_a_full_file_goes_at_once_and_what_does_not_fit_waits(shelf: Shelf, tmp_path: Path) -> None:
    desk = archive_desk(tmp_path, rows=4)
    desk.courier._waits["archive"] = Waits(3600, 4)
    desk.arrive([1, 2], [3])
    desk.arrive([4, 5])
    until(lambda: desk.sums() == (3, 2, 0))
    desk.courier.stop(10)
    assert list(shelf.named().values()) == [[1, 2, 3], [4, 5]] and desk.sums() == (5, 0, 0)


def test_a_prefix_with_the_pane_keeps_parts_apart(shelf: Shelf, tmp_path: Path) -> None:
    desk = archive_desk(tmp_path, prefix="{stream}/{pane}")
    desk.arrive([1], [2])
    until(lambda: desk.sums() == (2, 0, 0))
    desk.courier.stop(10)
    assert list(shelf.objects.values()) == [[1], [2]]


def test_a_file_that_was_tried_gets_no_more_rows_whoever_is_killed(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = archive_desk(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Courier, "_settle", lambda *given: time.sleep(30))
        desk.arrive([1, 2], [3])
        until(lambda: len(shelf.objects) == 1)  # it lies there, and nobody knows
        desk.kill()
    shelf.refuses = True
    desk = archive_desk(tmp_path)
    desk.number = 2  # numbers of parts are not used again
    assert desk.sums() == (0, 3, 0)
    desk.courier.resume()
    desk.arrive([4])
    until(lambda: len(shelf.puts) >= 3, "it is tried again")
    desk.arrive([5])
    shelf.refuses = False
    until(lambda: desk.sums() == (5, 0, 0))
    desk.courier.stop(10)
    found = shelf.named()
    assert found["20/part-live-0-1.ndjson.gz"] == [1, 2, 3]
    assert sorted(itertools.chain.from_iterable(found.values())) == [1, 2, 3, 4, 5]
    assert listed(desk) == {name: len(ids) for name, ids in found.items()} and desk.waiting() == []


def test_a_receiver_that_fails_is_tried_after_growing_pauses_and_gets_all_in_order(
    server: Receiver, tmp_path: Path
) -> None:
    at: list[float] = []

    def fails_first(number: int, request: Request) -> Answer:
        at.append(time.monotonic())
        return Answer(503 if number <= 4 else 200)

    server.script = fails_first
    desk = Desk(tmp_path, stream_to(server.address))
    desk.arrive([1, 2])
    until(lambda: desk.courier.standing()["archive"][1] is not None, "the failure is known")
    assert desk.courier.standing()["archive"][0] == 2
    desk.arrive([3], [4, 5])
    until(lambda: desk.sums()[0] == 5)
    desk.courier.stop(10)
    pauses = np.diff(at[:5])
    assert (pauses >= 0.99 * 0.05 * 2.0 ** np.arange(4)).all()
    assert ids(server.accepted()) == [1, 2, 3, 4, 5]
    assert desk.courier.standing()["archive"] == (0, None)


def test_a_pause_is_as_long_as_was_asked_for_and_a_minute_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 1.0)

    def failure(asked: float | None) -> Failure:
        return Failure(FailureKind.TRANSIENT, "busy", "wait", retry_after=asked)

    assert [pause_after(attempts, failure(None)) for attempts in (1, 2, 3, 6, 7, 99)] == [1, 2, 4, 32, 60, 60]
    assert [pause_after(1, failure(asked)) for asked in (0.5, 20, 3600, float("inf"))] == [1, 20, 60, 60]


def test_a_pause_grows_to_a_quarter_of_an_hour_where_somebody_has_to_mend_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 1.0)
    denied = Failure(FailureKind.MISCONFIGURED, "answered 401", "correct the credentials")
    assert [pause_after(attempts, denied) for attempts in (1, 2, 7, 10, 11, 99)] == [1, 2, 64, 512, 900, 900]


@pytest.mark.parametrize("taken", range(6))
def test_a_batch_that_is_taken_in_part_goes_on_where_it_stopped(server: Receiver, tmp_path: Path, taken: int) -> None:
    server.script = lambda number, request: Answer(503 if taken < number <= taken + 2 else 200)
    desk = Desk(tmp_path, stream_to(server.address, size=2))
    desk.arrive(*three_parts())
    until(lambda: desk.sums() == (3 * ROWS, 0, 0))
    desk.courier.stop(10)
    assert ids(server.accepted()) == list(range(3 * ROWS))
    assert desk.waiting() == [] and desk.courier.standing()["archive"][0] == 0


def test_a_paused_stream_keeps_what_comes_and_stops_at_once(server: Receiver, tmp_path: Path) -> None:
    desk = Desk(tmp_path, stream_to(server.address, state="paused"))
    desk.arrive(*three_parts())
    time.sleep(0.3)
    start = time.monotonic()
    desk.courier.stop(10)
    assert time.monotonic() - start < 5
    assert desk.sums() == (0, 3 * ROWS, 0) and not server.requests
    desk.books.close()
    desk = Desk(tmp_path, stream_to(server.address))
    desk.courier.resume()
    desk.arrive([100])
    until(lambda: desk.sums()[1] == 0)
    assert ids(server.accepted()) == [*range(3 * ROWS), 100]


def test_a_receiver_that_hangs_holds_back_no_other(server: Receiver, tmp_path: Path) -> None:
    def latencies(desk: Desk) -> float:
        waited = []
        for number in range(25):
            start, before = time.monotonic(), len(server.answered)
            for stream in desk.streams:
                desk.arrive([number], stream=stream.name)
            until(lambda before=before: len(server.answered) > before)  # type: ignore[misc]
            waited.append(time.monotonic() - start)
        return float(np.quantile(waited, 0.95))

    with receiver(lambda number, request: Answer(hang=True)) as hanging:
        alone = Desk(tmp_path / "alone", stream_to(server.address), max_delay=0.1)
        p95 = latencies(alone)
        alone.courier.stop(10)
        both = Desk(tmp_path / "both", stream_to(server.address), stream_to(hanging.address, "stuck"), max_delay=0.1)
        beside = latencies(both)
        assert len(hanging.requests) == 1
        assert both.courier.standing()["stuck"][0] == 25 and both.courier.oldest()["stuck"] > 1
        start = time.monotonic()
        both.courier.stop(0.5)
        assert time.monotonic() - start < 5
        assert both.sums("stuck") == (0, 25, 0)
    # A request to the machine itself takes milliseconds: the rest is max_delay, and what a busy machine adds.
    assert beside < 1.2 * p95 + 0.3


def test_killed_between_delivery_and_commit_the_same_records_come_again(
    server: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, stream_to(server.address, size=2))
    with monkeypatch.context() as patch:
        patch.setattr(Courier, "_settle", lambda *given: time.sleep(30))
        desk.arrive([1, 2], [3, 4])
        until(lambda: len(server.answered) == 1)
        desk.kill()
    first = server.accepted()
    desk = Desk(tmp_path, stream_to(server.address, size=2))
    assert desk.sums() == (0, 4, 0)
    desk.courier.resume()
    until(lambda: desk.sums() == (4, 0, 0))
    desk.courier.stop(10)
    again = server.accepted()[len(first) :]
    assert ids(first) == [1, 2] and ids(again) == [1, 2, 3, 4]
    assert first[0].headers["webhook-id"] == again[0].headers["webhook-id"]


def test_what_an_earlier_process_left_comes_first_and_in_order(server: Receiver, tmp_path: Path) -> None:
    server.script = lambda number, request: Answer(200 if number == 1 else 503)
    desk = Desk(tmp_path, stream_to(server.address, size=2))
    parts = [[number * ROWS + place for place in range(ROWS)] for number in range(12)]  # "-10" sorts before "-2"
    desk.arrive(*parts)
    until(lambda: desk.courier.standing()["archive"][1] is not None)
    desk.courier.stop(1)
    desk.books.close()
    assert desk.sums() == (2, 12 * ROWS - 2, 0)
    server.script = lambda number, request: Answer()
    desk = Desk(tmp_path, stream_to(server.address, size=2))
    desk.courier.resume()
    desk.arrive([1000])
    until(lambda: desk.sums()[1] == 0)
    desk.courier.stop(10)
    assert ids(server.accepted()) == [*range(12 * ROWS), 1000]


def test_refused_records_are_dead_letters_and_no_process_replaces_those_of_another(
    server: Receiver, tmp_path: Path
) -> None:
    server.script = lambda number, request: Answer(400 if any(one % 10 == 7 for one in ids([request])) else 200)
    for first in (0, 10):
        desk = Desk(tmp_path, stream_to(server.address))
        desk.arrive(range(first, first + 10))
        until(lambda desk=desk: desk.sums()[1] == 0)  # type: ignore[misc]
        desk.courier.stop(10)
        desk.books.close()
    assert desk.sums() == (18, 0, 2)
    letters = [file for file in desk.books.files if file.table_or_stream == "dead_letters"]
    assert len(letters) == 2 and sum(file.row_count for file in letters) == 2
    assert all(os.path.exists(storage.absolute(desk.output, file.path)) for file in letters)
    assert sorted(ids(server.accepted())) == [number for number in range(20) if number % 10 != 7]


def test_a_secret_that_cannot_be_read_is_asked_for_again_and_shown_to_nobody(
    server: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    own = {"X-Own": {"file": str(secret)}}
    desk = Desk(tmp_path / "output", stream_to(server.address, headers=own))
    desk.arrive([1])
    until(lambda: desk.courier.standing()["archive"][1] is not None, "the failure is known")
    failure = desk.courier.standing()["archive"][1]
    assert failure is not None and failure.kind is FailureKind.MISCONFIGURED
    secret.write_text("d0nt-tell-anybody")
    until(lambda: desk.sums()[0] == 1)
    desk.courier.stop(10)
    assert "d0nt-tell" not in caplog.text + repr(failure) + repr(vars(desk.courier))


def test_a_lane_outlives_whatever_a_delivery_meets(
    server: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, stream_to(server.address))
    (path,) = [tmp_path / "pending" / "archive" / "0" / f"20211115T20-{WRITER}-0-1.arrow"]
    with caplog.at_level(logging.CRITICAL, module.__name__):
        desk.courier._changed.acquire()
        try:
            desk.arrive([1])
            hidden = path.rename(tmp_path / "hidden")
        finally:
            desk.courier._changed.release()
        until(lambda: desk.courier.standing()["archive"][1] is not None, "the failure is known")
        failure = desk.courier.standing()["archive"][1]
        assert failure is not None and "FileNotFoundError" in failure.error and str(path) in failure.error
        hidden.rename(path)
        until(lambda: desk.sums()[0] == 1)
    desk.courier.stop(10)


def test_a_rate_holds_from_one_delivery_to_the_next(server: Receiver, tmp_path: Path) -> None:
    desk = Desk(tmp_path, stream_to(server.address, rate=Rate(requests_per_second=4)), max_delay=0.01)
    start = time.monotonic()
    for number in range(5):
        desk.arrive([number])
        until(lambda number=number: len(server.answered) == number + 1)  # type: ignore[misc]
    assert time.monotonic() - start > 0.95
    desk.courier.stop(10)


def test_records_that_wait_for_more_than_a_week_are_kept_and_the_log_says_so_once(
    server: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, stream_to(server.address, state="paused"))
    desk.arrive(*three_parts())
    desk.courier.stop(1)
    desk.books.close()
    for path in (tmp_path / "pending").rglob("*.arrow"):
        written = path.stat().st_mtime - LONG - 60
        os.utime(path, (written, written))
    desk = Desk(tmp_path, stream_to(server.address, state="paused"))
    desk.courier.resume()
    desk.arrive([100])
    assert desk.courier.oldest()["archive"] > LONG
    assert caplog.text.count("stream archive: records wait for more than 7 days") == 1
    desk.courier.stop(1)
    desk.books.close()
    desk = Desk(tmp_path, stream_to(server.address))
    desk.courier.resume()
    until(lambda: desk.sums()[1] == 0)
    assert ids(server.accepted()) == [*range(3 * ROWS), 100]


def test_a_stream_that_is_defined_no_more_keeps_what_waits(server: Receiver, tmp_path: Path) -> None:
    desk = Desk(tmp_path, stream_to(server.address, state="paused"))
    desk.arrive([1])
    desk.courier.stop(1)
    desk.books.close()
    desk = Desk(tmp_path, stream_to(server.address, "other"))
    desk.courier.resume()
    desk.courier.stop(1)
    assert len(desk.waiting()) == 1 and not server.requests
