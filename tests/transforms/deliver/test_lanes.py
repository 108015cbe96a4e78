"""Lanes: parcels of many streams, each stream and shard in a thread of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.streams import Batch
from tests.servers.http import Answer, Receiver, receiver
from tests.transforms.deliver.push.scripted import BUSY, ids_of, usage
from tests.transforms.deliver.support import HOUR, WRITER, Stream
from transforms.deliver import lanes, spool
from transforms.deliver.destination import Destination, Outcome
from transforms.deliver.failures import Failure
from transforms.deliver.lanes import Delivered, Destinations, Lanes
from transforms.deliver.null import NullDestination, NullOptions
from transforms.deliver.parcels import Parcel, decode, encode
from transforms.deliver.push.options import Retry
from transforms.deliver.webhook import WebhookOptions
from transforms.gather.claims import Spill


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def stream_to(server: Receiver, name: str = "a", state: str = "running") -> Stream:
    options = WebhookOptions(type="webhook", url=f"{server.address}/{name}", retry=Retry(attempts=1))
    return Stream(name, state=state, destination=options, batch=Batch(size=7))


def parcels(rows: pa.RecordBatch, stream: str = "a", pane: int = 0, shard: int = 0, hour: int = HOUR) -> list[bytes]:
    """Rows as the parcels of a pane, in two pieces."""
    pieces = (rows.slice(0, rows.num_rows // 2), rows.slice(rows.num_rows // 2))
    with Spill(None, 0, 0) as spill:
        return [
            encode(Parcel(stream, "usage", 1, hour, 0, pane, shard, number, spill.deposit(piece)))
            for number, piece in enumerate(pieces)
        ]


def deliver(
    streams: list[Stream], given: list[bytes], output: Path, held: dict[str, Failure] | None = None
) -> list[Delivered]:
    by_name = {stream.name: stream for stream in streams}
    (output / "kept").mkdir(parents=True, exist_ok=True)
    under_way = Lanes(by_name, str(output), WRITER, held or {}, str(output / "kept"))
    for data in given:
        under_way.add(decode(data))
    destinations = Destinations(by_name)
    try:
        return list(under_way.deliver(destinations))
    finally:
        destinations.close()
        assert list((output / "kept").iterdir()) == []


def arrived(server: Receiver) -> list[int]:
    return [row["usage_id"] for request in server.accepted() for row in json.loads(request.body)]


def test_parcels_come_in_any_order_and_are_delivered_in_theirs(server: Receiver, tmp_path: Path) -> None:
    later = parcels(usage(range(300, 400)), hour=HOUR + 3_600_000_000)
    first, second = parcels(usage(range(200))), parcels(usage(range(200, 300)), pane=1)
    done = deliver([stream_to(server)], [*later[::-1], *second[::-1], *first[::-1]], tmp_path)
    assert arrived(server) == list(range(400))
    assert [(each.part.pane, each.receipt.delivered) for each in done] == [(0, 200), (1, 100), (0, 100)]


@pytest.mark.parametrize("why", ["paused", "held", "no secret"])
def test_what_cannot_be_delivered_is_kept(server: Receiver, tmp_path: Path, why: str) -> None:
    stream = stream_to(server, state="paused" if why == "paused" else "running")
    if why == "no secret":
        headers = {"Authorization": {"env": "NO_SUCH_VARIABLE_OF_THIS_TEST"}}
        stream = Stream("a", destination=WebhookOptions.model_validate({"url": server.address, "headers": headers}))
    (done,) = deliver([stream], parcels(usage(range(10))), tmp_path, {"a": BUSY} if why == "held" else None)
    assert (done.receipt.delivered, done.receipt.pending) == (0, 10) and server.requests == []
    assert (done.receipt.error is None) is (why == "paused")
    assert ids_of(spool.take(str(tmp_path), done.part)[1]) == list(range(10))


def test_a_stream_that_fails_stops_alone(server: Receiver, tmp_path: Path) -> None:
    server.script = lambda number, request: Answer(503 if request.path == "/b" else 200)
    streams = [stream_to(server, name) for name in "abc"]
    done = deliver(streams, [one for name in "abc" for one in parcels(usage(range(10)), name)], tmp_path)
    found = {each.part.stream: (each.receipt.delivered, each.receipt.pending) for each in done}
    assert found == {"a": (10, 0), "b": (0, 10), "c": (10, 0)}


class Slow(NullDestination):
    """Takes as long to set up as the test likes."""

    goes_on: threading.Event

    def setup(self) -> None:
        assert Slow.goes_on.wait(30)

    def deliver(self, *_: Any) -> Outcome:
        return Outcome(delivered=1)


def test_setting_one_up_holds_back_no_other(server: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is slow is set up only once the other has delivered everything."""
    Slow.goes_on = threading.Event()
    monkeypatch.setitem(lanes.DESTINATIONS, "null", Slow)

    def script(number: int, request: Any) -> Answer:
        Slow.goes_on.set()
        return Answer()

    server.script = script
    streams = [Stream("a", destination=NullOptions(type="null")), stream_to(server, "b")]
    done = deliver(streams, [*parcels(usage([1]), "a")[1:], *parcels(usage([1, 2]), "b")], tmp_path)
    assert {each.part.stream: each.receipt.delivered for each in done} == {"a": 1, "b": 2}


def test_one_with_many_shards_does_not_get_all_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many threads as streams, each stream's first shard is served although one stream hangs in all of its."""
    others = threading.Event()

    class Hanging(NullDestination):
        def deliver(self, part: Any, rows: Any, stream: Any, output: str) -> Outcome:
            if part.stream == "a":
                assert others.wait(30)
            else:
                others.set()
            return Outcome(delivered=rows.num_rows)

    monkeypatch.setitem(lanes.DESTINATIONS, "null", Hanging)
    monkeypatch.setattr(lanes, "LANES_AT_ONCE", 2)
    streams = [Stream(name, destination=NullOptions(type="null")) for name in "ab"]
    given = [one for shard in range(6) for one in parcels(usage([1, 2]), "a", shard=shard)] + parcels(
        usage([1, 2]), "b"
    )
    assert sum(each.receipt.delivered for each in deliver(streams, given, tmp_path)) == 14


def test_a_fault_of_the_runs_own_directory_ends_the_run(server: Receiver, tmp_path: Path) -> None:
    (tmp_path / "pending").write_text("in the way")
    server.script = lambda number, request: Answer(503)
    with pytest.raises(OSError):
        deliver([stream_to(server)], parcels(usage([1, 2])), tmp_path)


def test_destinations_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Destination[Any]] = []

    class Counted(NullDestination):
        def setup(self) -> None:
            made.append(self)

    monkeypatch.setitem(lanes.DESTINATIONS, "null", Counted)
    destinations = Destinations({"a": Stream("a", destination=NullOptions(type="null"))})
    threads = [threading.Thread(target=destinations.of, args=("a",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and destinations.of("a") is made[0]
