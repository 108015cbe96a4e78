"""The source of a live job on Prism, Beam's engine for one machine, with Google's emulator of Pub/Sub."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import apache_beam as beam
import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.live.prism import Prism, PrismError, find_prism
from schemas.records import FEEDS, ID_COLUMN, RECORD_SCHEMAS
from tests.servers.processes import wait_until
from tests.servers.pubsub import PROJECT, PubSub, pubsub_emulator, pubsub_servicer
from transforms.decode_records import DecodeRecords
from transforms.elements import Block
from transforms.gather.cells import Cell
from transforms.gather.claims import batch_of, place_of
from transforms.ledger.books import Books
from transforms.ledger.counts import Count, Group, decode_group, encode_group
from transforms.ledger.desk import close_desk, desk_of, open_desk
from transforms.read.journal import ITEM_BITS, Journal
from transforms.read.subscriber import Subscriber
from transforms.read_subscriptions import ReadSubscriptions, _GatherBundle, _Source, linger_of
from transforms.run import Live, Run

EVENTS, USAGE = (f"projects/{PROJECT}/subscriptions/{feed}" for feed in ("events", "usage"))


def event(number: int) -> bytes:
    return json.dumps(
        {"id": number, "timestamp": "2026-03-01T12:00:00Z", "event_type": {"id": 1}, "endpoint": {"id": 7}}
    ).encode()


def usage(number: int) -> bytes:
    times = {"start_timestamp": "2026-03-01T12:00:00Z", "end_timestamp": "2026-03-01T12:30:00Z"}
    kind = {"traffic_type": {"id": 5, "name": "Data"}, "volume": {"total": 1.5}}
    return json.dumps({"id": number, "endpoint": {"id": 7}, **kind, **times}).encode()


@pytest.fixture(scope="module")
def pubsub() -> Iterator[PubSub]:
    with pubsub_emulator() as server:
        for feed in ("events", "usage"):
            server.create_topic(feed, feed)
        yield server


@pytest.fixture
def prism(tmp_path: Path) -> Iterator[Prism]:
    try:
        program = find_prism()
    except PrismError as error:
        pytest.skip(str(error))
    with Prism(program, tmp_path / "prism.log") as running:
        yield running


def publish(pubsub: PubSub, feed: str, payloads: list[bytes]) -> None:
    with pubsub.publisher() as publisher:
        for start in range(0, len(payloads), 500):
            messages = [
                {"data": payload} if payload else {"attributes": {"a": "b"}}
                for payload in payloads[start : start + 500]
            ]
            publisher.publish(request={"topic": f"projects/{PROJECT}/topics/{feed}", "messages": messages})


class Seen:
    """What came out of the pipeline, in this process, which is the worker's."""

    ids: Counter[tuple[int, int]] = Counter()
    commits = True


def take_slice(element: tuple[int, bytes]) -> bytes:
    kind = Cell.of_number(element[0]).kind
    ids = batch_of(element[1], RECORD_SCHEMAS[kind]).column(ID_COLUMN[kind]).to_pylist()
    Seen.ids.update((kind, number) for number in ids)
    return encode_group(Group(("slice", *place_of(element[1])), []))


class Commit(beam.DoFn):
    def __init__(self, run: Run):
        self._run = run

    def process(self, element: bytes) -> Iterator[bytes]:
        if Seen.commits:
            desk_of(self._run).books.commit(decode_group(element))
            desk_of(self._run).books.sync()
        yield element


class Job(threading.Thread):
    """A live job of source and decoder in this process."""

    def __init__(self, directory: Path, prism: Prism):
        super().__init__(daemon=True)
        (directory / "spill").mkdir(parents=True, exist_ok=True)
        live = Live(((0, EVENTS), (1, USAGE)), str(directory / "live"))
        self.run_ = Run(str(directory), "live", spill=str(directory / "spill"), live=live)
        self.journal = Journal(directory / "journal")
        self.books = Books(directory / "books", self.journal.done)
        self.desk = open_desk(self.run_, self.books, self.journal)
        self._prism = prism
        self.state = ""
        Seen.ids, Seen.commits = Counter(), True

    def run(self) -> None:
        options = PipelineOptions(
            [
                "--runner=PrismRunner", "--environment_type=LOOPBACK", "--streaming", "--job_server_timeout=10000000",
                f"--job_endpoint={self._prism.address}",
            ]
        )  # fmt: skip
        pipeline = beam.Pipeline(options=options)
        blocks = pipeline | ReadSubscriptions(self.run_)
        decoded = blocks | DecodeRecords(self.run_)
        groups = decoded.slices | "Slices" >> beam.Map(take_slice).with_output_types(bytes)
        dead = decoded.dead | "Dead" >> beam.Map(dead_group).with_output_types(bytes)
        everything = (decoded.entries, groups, dead) | beam.Flatten()
        everything | beam.ParDo(Commit(self.run_)).with_output_types(bytes)
        self.state = pipeline.run().wait_until_finish()

    def drain(self) -> float:
        """Stops it in order; the seconds that it took."""
        begin = time.monotonic()
        self.desk.draining = True
        self.join(60)
        assert self.state == "DONE"
        return time.monotonic() - begin

    def close(self) -> None:
        for subscriber in self.desk.subscribers.values():
            subscriber.close()
        close_desk(self.run_)
        self.journal.close()
        self.books.close()

    def received(self, name: str) -> dict[str, int]:
        """A sum of the ledger's first stage, by feed."""
        counts = [entry for entry in self.books.entries if isinstance(entry, Count) and entry.stage == "feed"]
        return {feed: sum(getattr(one, name) for one in counts if one.feed == feed) for feed in FEEDS}


def dead_group(element: tuple[int, bytes]) -> bytes:
    return encode_group(Group(("dead", *place_of(element[1])), []))


@pytest.fixture
def emulated(pubsub: PubSub, monkeypatch: pytest.MonkeyPatch) -> PubSub:
    for name, value in pubsub.environment.items():
        monkeypatch.setenv(name, value)
    for feed in FEEDS:
        pubsub.pull_all(feed, quiet=0.5)
    return pubsub


def test_all_forms_of_payloads_to_counted_records_and_a_drain_in_seconds(
    emulated: PubSub, prism: Prism, tmp_path: Path
) -> None:
    job = Job(tmp_path, prism)
    job.start()
    publish(emulated, "events", [event(number) for number in range(3_000)])
    lines = b"\n".join(map(usage, range(10, 20)))
    publish(emulated, "usage", [usage(0), gzip.compress(lines), b"[" + usage(1) + b"," + usage(2) + b"]", b"no", b""])
    wanted = {(0, number) for number in range(3_000)} | {(1, number) for number in (0, 1, 2, *range(10, 20))}
    wait_until(lambda: set(Seen.ids) == wanted and not job.journal.unfinished[0], "all records", 60)
    publish(emulated, "events", [event(number) for number in range(3_000, 3_100)])
    time.sleep(0.3)
    assert job.drain() < 15
    assert set(Seen.ids) == wanted | {(0, number) for number in range(3_000, 3_100)}
    assert max(Seen.ids.values()) == 1
    assert job.received("received") == {"events": 3_100, "usage": 15}
    assert (job.received("empty")["usage"], job.received("dead_lettered")["usage"]) == (1, 1)
    assert job.journal.unfinished == (0, 0)
    job.close()
    for feed in FEEDS:
        assert emulated.pull_all(feed) == []  # all was acknowledged


def test_what_did_not_count_comes_again_with_the_same_numbers(emulated: PubSub, prism: Prism, tmp_path: Path) -> None:
    first = Job(tmp_path, prism)
    Seen.commits = False
    first.start()
    publish(emulated, "events", [event(number) for number in range(500)])
    wait_until(lambda: len(Seen.ids) == 500, "all records", 60)
    first.drain()
    first.close()
    segments = first.journal.alive()
    assert segments
    assert emulated.pull_all("events") == []
    second = Job(tmp_path, prism)
    second.start()
    wait_until(lambda: len(Seen.ids) == 500, "all records again", 60)
    second.drain()
    assert second.received("received")["events"] == 500
    assert all(map(second.books.is_done, segments))
    second.close()
    third = Journal(tmp_path / "journal")
    assert list(filter(lambda block: not second.books.is_done(block.plan), third.replay())) == []
    third.close()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], _Source]]:
    """Starts sources of the same journal; of each its process is killed when the next one starts."""
    run = Run(str(tmp_path), "live", live=Live(((1, USAGE),), str(tmp_path / "live")))

    def start() -> _Source:
        if started:
            die()
        journal = Journal(tmp_path / "journal")
        started.append(_Source(run, open_desk(run, Books(tmp_path / "books", journal.done), journal)))
        return started[-1]

    def die() -> None:
        for subscriber in desk_of(run).subscribers.values():
            subscriber.close(0.1)
        desk_of(run).journal.close()  # type: ignore[union-attr]
        close_desk(run)

    started: list[_Source] = []
    yield start
    die()


def items(source: _Source, seconds: float = 10.0) -> list[bytes]:
    """What the source gives until it has given something and then nothing."""
    found: list[bytes] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        came = [item for block in source.gathering(lambda messages: None) for item in block.raw.items]
        if found and not came:
            break
        found += came
    return found


def test_a_message_that_was_kept_and_not_acknowledged_is_taken_once(
    source: Callable[[], _Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead letter has no id that could tell that it is there already."""
    with pubsub_servicer() as server:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
        server.create_topic("usage", "usage", deadline=1)
        bad = [b"no %d" % number for number in range(20)]
        publish(server, "usage", [*bad, bad[0]])  # the same bytes in another message
        first = source()
        monkeypatch.setattr(Subscriber, "acknowledge", lambda self, ack_ids: None)
        assert sorted(items(first)) == sorted([*bad, bad[0]])
        time.sleep(1.1)  # the server's deadline
        publish(server, "usage", [b"new"])
        assert items(first) == [b"new"]
        monkeypatch.undo()
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
        second = source()
        replayed = items(second)
        assert sorted(replayed) == sorted([*bad, bad[0], b"new"])
        publish(server, "usage", [b"newer"])
        assert items(second) == [b"newer"]
        time.sleep(1.1)
        assert server.pull_all("usage") == []  # all are acknowledged, also those that came again


@pytest.mark.parametrize(
    ("age", "linger"), [(-1.0, 0.02), (0.0, 0.02), (0.2, 0.02), (1.0, 0.1), (2.5, 0.25), (86_400.0, 0.25)]
)
def test_old_messages_wait_for_larger_bundles(age: float, linger: float) -> None:
    assert linger_of(age) == pytest.approx(linger)


def test_dataflow_reads_with_the_native_source() -> None:
    live = Live(((0, EVENTS), (1, USAGE)), "unused")
    pipeline = beam.Pipeline()
    blocks = pipeline | ReadSubscriptions(Run("gs://b/out", "live", live=live))
    assert not blocks.is_bounded
    steps = pipeline.to_runner_api().components.transforms.values()
    names = {step.unique_name for step in steps}
    assert {"ReadSubscriptions/Events0/Read", "ReadSubscriptions/Usage1/Read"} <= names
    assert not any(name.endswith("/Gather") for name in names)


class Bundles:
    """Blocks that came out, in this process."""

    blocks: ClassVar[list[Block]] = []


def keep(block: Block) -> None:
    Bundles.blocks.append(block)


def test_messages_of_a_bundle_of_the_native_source_become_blocks() -> None:
    published = datetime(2026, 3, 1, 12, tzinfo=UTC)
    payloads = [*map(event, range(50)), b"", b"[" + event(50) + b"]"]
    messages = [
        PubsubMessage(payload, {"a": "b"}, message_id=str(number), publish_time=published)
        for number, payload in enumerate(payloads)
    ]
    run = Run("gs://b/out", "live", live=Live(((0, EVENTS),), "unused"))
    with beam.Pipeline("FnApiRunner") as pipeline:
        blocks = (
            pipeline
            | beam.Create(messages, reshuffle=False)
            | beam.ParDo(_GatherBundle(run, 0, EVENTS)).with_output_types(Block)
        )
        blocks | beam.Map(keep)
    found, Bundles.blocks = Bundles.blocks, []
    assert sorted(item for block in found for item in block.raw.items) == sorted(map(event, range(51)))
    assert sum(block.raw.empty for block in found) == 1
    assert {(block.raw.path, block.raw.ingest_time) for block in found} == {(EVENTS, int(published.timestamp() * 1e6))}
    offsets = [offset for block in found for offset in block.raw.offsets.tolist()]
    assert len(set(offsets)) == 51
    assert all(offset >> ITEM_BITS == block.plan for block in found for offset in block.raw.offsets.tolist())
