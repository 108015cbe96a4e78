"""Destination kafka: on a real broker, with its faults."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from pydantic import ValidationError

from schemas.destinations import SecretReference
from schemas.streams import Batch as BatchSizes
from schemas.streams import Stream
from tests.servers.kafka import KafkaBroker, Message, kafka_broker, kafka_mock
from tests.servers.proxy import TcpFault
from tests.transforms.deliver.support import rows_of
from transforms.deliver.failures import Failure, FailureKind, MissingExtraError, SetupError
from transforms.deliver.kafka import KafkaDestination, KafkaOptions
from transforms.deliver.push.batch import Batch
from transforms.deliver.push.breaker import CircuitBreaker
from transforms.deliver.push.options import Rate, Retry
from transforms.deliver.push.pace import Pace
from transforms.deliver.push.sender import Sender, Sent
from transforms.deliver.shapes import json_lines

USER, PASSWORD = "streamer", "correct-horse"
DEVICES = 7


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaBroker]:
    with kafka_broker(USER, PASSWORD) as running:
        yield running


@pytest.fixture
def topic(broker: KafkaBroker, request: pytest.FixtureRequest) -> str:
    name = request.node.name[:100].replace("[", "-").replace("]", "")
    broker.create_topic(name, partitions=3)
    return str(name)


class Sending:
    """A destination in use, with its stream."""

    def __init__(self, options: KafkaOptions, content: Literal["events", "usage"] = "events"):
        self.stream = Stream(name="s", content=content, destination=options)
        self.destination = KafkaDestination(options)
        self.destination.setup()

    def batch(self, ids: Sequence[int], devices: int = DEVICES, **columns: Any) -> Batch:
        table, name = self.stream.content, {"events": "event_id", "usage": "usage_id"}[self.stream.content]
        rows = rows_of(table, *({name: number, "endpoint_id": number % devices, **columns} for number in ids))
        return Batch(self.stream, table, rows, json_lines("table", table, rows))

    def deliver(self, batch: Batch) -> Sent:
        return Sender(self.destination.send, Retry(), CircuitBreaker(), Pace(Rate())).deliver(batch)


@pytest.fixture
def plain(broker: KafkaBroker, topic: str) -> Iterator[Sending]:
    sending = Sending(_plain(broker, topic))
    yield sending
    sending.destination.close()
    broker.inject(TcpFault.NONE)


def _plain(broker: KafkaBroker, topic: str, timeout: float = 30) -> KafkaOptions:
    return KafkaOptions(bootstrap_servers=broker.bootstrap, topic=topic, security_protocol="PLAINTEXT", timeout=timeout)


def _secure(broker: KafkaBroker, topic: str, tls: bool = True, **others: Any) -> KafkaOptions:
    given: dict[str, Any] = (
        {"certificates": str(broker.certificates)} if tls else {"security_protocol": "SASL_PLAINTEXT"}
    )
    given |= {"bootstrap_servers": broker.tls if tls else broker.sasl, "topic": topic, "username": USER}
    return KafkaOptions(**{**given, "password": SecretReference(env="KAFKA_PASSWORD"), **others})


def ids_of(messages: Sequence[Message]) -> list[int]:
    return [json.loads(message.value)["event_id"] for message in messages]


def in_order(messages: Sequence[Message]) -> bool:
    """Whether what is left of each key, when a receiver has dropped repeats by record id, is in order."""
    ids: dict[bytes | None, dict[int, None]] = {}
    for message in messages:
        ids.setdefault(message.key, {})[int(message.headers["record_id"].rpartition(b"/")[2])] = None
    return all(list(kept) == sorted(kept) for kept in ids.values())


def failure_of(failure: Failure | None, kind: FailureKind) -> Failure:
    assert failure is not None and failure.kind is kind and failure.remedy
    assert PASSWORD not in failure.error + failure.remedy
    return failure


def test_a_record_has_key_headers_and_its_text(
    broker: KafkaBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    sending = Sending(_secure(broker, topic))
    assert sending.destination.preflight(sending.stream, "") is None
    batch = sending.batch([5])
    answer = sending.destination.send(batch)
    assert answer.failure is None and topic in answer.said
    (message,) = broker.read_all(topic)
    assert (message.key, message.value.decode()) == (b"5", batch.texts[0])
    assert message.headers == {
        "record_id": b"s/events/5", "stream": b"s", "kind": b"event", "content": b"events", "type_id": b"3",
        "severity": b"INFO",
    }  # fmt: skip


def test_usage_has_no_headers_of_events(broker: KafkaBroker, topic: str) -> None:
    sending = Sending(_plain(broker, topic), "usage")
    assert sending.destination.send(sending.batch([1])).failure is None
    (message,) = broker.read_all(topic)
    assert message.headers == {"record_id": b"s/usage/1", "stream": b"s", "kind": b"usage", "content": b"usage"}


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_lanes_side_by_side_keep_the_order_of_each_key(broker: KafkaBroker, topic: str, compression: str) -> None:
    options = _plain(broker, topic).model_copy(update={"compression": compression})
    sending = Sending(options)
    lanes = [
        [sending.batch(range(lane * 10_000 + start, lane * 10_000 + start + 300)) for start in range(0, 1_200, 300)]
        for lane in range(4)
    ]

    def deliver(batches: Sequence[Batch]) -> None:
        for batch in batches:
            assert sending.destination.send(batch).failure is None

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(deliver, lanes))
    messages = broker.read_all(topic)
    assert len(messages) == 4 * 1_200
    for lane in range(4):
        of_lane = [one for one in messages if ids_of([one])[0] // 10_000 == lane]
        assert len(of_lane) == 1_200 and in_order(of_lane)
    assert len({message.partition for message in messages}) > 1


def test_a_replay_has_the_same_ids(broker: KafkaBroker, topic: str) -> None:
    for _ in range(2):
        sending = Sending(_plain(broker, topic))
        assert sending.destination.send(sending.batch(range(50))).failure is None
    messages = broker.read_all(topic)
    assert len(messages) == 100 and len({message.headers["record_id"] for message in messages}) == 50


def test_a_missing_topic_is_a_mistake_and_is_not_made(broker: KafkaBroker) -> None:
    sending = Sending(_plain(broker, "missing"))
    found = failure_of(sending.destination.preflight(sending.stream, ""), FailureKind.MISCONFIGURED)
    sent = failure_of(sending.destination.send(sending.batch([1])).failure, FailureKind.MISCONFIGURED)
    assert found.remedy == sent.remedy == "create the topic, or correct its name"
    assert "missing" not in AdminClient({"bootstrap.servers": broker.direct}).list_topics(timeout=30).topics


def test_a_wrong_password_is_told_soon_and_never_shown(
    broker: KafkaBroker,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "battery-staple")
    caplog.set_level(logging.DEBUG)
    sending = Sending(_secure(broker, topic))
    begin = time.monotonic()
    found = failure_of(sending.destination.preflight(sending.stream, ""), FailureKind.MISCONFIGURED)
    sent = failure_of(sending.destination.send(sending.batch([1])).failure, FailureKind.MISCONFIGURED)
    assert time.monotonic() - begin < 15
    assert "_AUTHENTICATION" in found.error and "_AUTHENTICATION" in sent.error
    output, errors = capfd.readouterr()
    everything = caplog.text + output + errors + repr(found) + repr(sent) + repr(sending.destination.options)
    assert "battery-staple" not in everything and "rdkafka" not in errors
    assert broker.read_all(topic) == []


def test_a_missing_right_is_a_mistake(broker: KafkaBroker, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    sending = Sending(_secure(broker, topic, tls=False))
    assert sending.destination.preflight(sending.stream, "") is None
    broker.deny_writes(topic)
    found = failure_of(sending.destination.preflight(sending.stream, ""), FailureKind.MISCONFIGURED)
    assert "TOPIC_AUTHORIZATION_FAILED" in found.error and "right to write" in found.remedy
    failure = failure_of(sending.destination.send(sending.batch(range(10))).failure, FailureKind.MISCONFIGURED)
    assert "TOPIC_AUTHORIZATION_FAILED" in failure.error


def test_a_broker_that_cannot_be_trusted_gets_no_password(
    broker: KafkaBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    sending = Sending(_secure(broker, topic, certificates=None))
    failure = failure_of(sending.destination.send(sending.batch([1])).failure, FailureKind.MISCONFIGURED)
    assert "_CERTIFICATE" in failure.error
    assert failure_of(sending.destination.preflight(sending.stream, ""), FailureKind.MISCONFIGURED) == failure


@pytest.mark.parametrize("fault", [TcpFault.HANG, TcpFault.REFUSE, TcpFault.CUT])
def test_no_answer_is_bounded_and_passes(broker: KafkaBroker, topic: str, fault: TcpFault) -> None:
    sending = Sending(_plain(broker, topic, timeout=2))
    assert sending.destination.send(sending.batch(range(100))).failure is None
    broker.inject(fault)
    try:
        begin = time.monotonic()
        answer = sending.destination.send(sending.batch(range(100, 200)))
        took = time.monotonic() - begin
        failure_of(answer.failure, FailureKind.TRANSIENT)
        found = failure_of(sending.destination.preflight(sending.stream, ""), FailureKind.TRANSIENT)
        assert took < 6 and broker.bootstrap in found.error
        begin = time.monotonic()
        sending.destination.close()
        assert time.monotonic() - begin < 3
    finally:
        broker.inject(TcpFault.NONE)
    rest = [number for number in range(100, 200) if number - 100 not in answer.taken]
    assert sending.deliver(sending.batch(rest)).failure is None
    messages = broker.read_all(topic)
    assert set(ids_of(messages)) == set(range(200)) and in_order(messages)


def test_order_is_kept_over_attempts_that_fail(broker: KafkaBroker, topic: str) -> None:
    """The broker hangs in the middle of a batch, comes back once it was given up, and hangs in the next attempt."""
    sending = Sending(_plain(broker, topic, timeout=2))
    batch = sending.batch(range(20_000))
    failures = 0
    for seconds in (0.1, 0.2, 0.3, 0.4):
        # A new producer takes a while until it sends; a first record sees to that.
        assert sending.deliver(batch.slice(0, 1)).failure is None
        hanging = threading.Timer(seconds, broker.inject, [TcpFault.HANG])
        hanging.start()
        answer = sending.destination.send(batch)
        hanging.join()
        broker.inject(TcpFault.NONE)
        if answer.failure is not None:
            failure_of(answer.failure, FailureKind.TRANSIENT)
            failures += 1
            batch = batch.take(np.setdiff1d(np.arange(len(batch)), list(answer.taken)))
    assert failures
    assert sending.deliver(batch).failure is None
    messages = broker.read_all(topic)
    assert set(ids_of(messages)) == set(range(20_000)) and in_order(messages)


def test_connections_that_break_double_nothing(broker: KafkaBroker, plain: Sending, topic: str) -> None:
    done = threading.Event()

    def disturb() -> None:
        while not done.wait(1.5):
            broker.proxies[0].cut()

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    try:
        for start in range(0, 10_000, 1_000):
            assert plain.destination.send(plain.batch(range(start, start + 1_000))).failure is None
    finally:
        done.set()
        disturbing.join()
    messages = broker.read_all(topic)
    assert sorted(ids_of(messages)) == list(range(10_000)) and in_order(messages)


def test_a_broker_that_is_killed_and_comes_back_has_each_record_once(
    broker: KafkaBroker, plain: Sending, topic: str
) -> None:
    batches = [plain.batch(range(start, start + 1_000)) for start in range(0, 20_000, 1_000)]
    assert plain.deliver(batches[0]).failure is None

    def restart() -> None:
        broker.process.kill()
        broker.process.start()

    restarting = threading.Timer(0.1, restart)
    restarting.start()
    for batch in batches[1:]:
        assert plain.deliver(batch).failure is None
    restarting.join()
    messages = broker.read_all(topic)
    assert sorted(ids_of(messages)) == list(range(20_000)) and in_order(messages)


def _create_narrow_topic(broker: KafkaBroker, name: str) -> None:
    """A topic of one partition that takes 40 kB at once."""
    admin = AdminClient({"bootstrap.servers": broker.direct})
    admin.create_topics([NewTopic(name, 1, 1, config={"max.message.bytes": "40000"})])[name].result(30)


def test_a_record_that_the_topic_refuses_is_found_and_the_others_go_on_in_order(broker: KafkaBroker) -> None:
    _create_narrow_topic(broker, "small")
    sending = Sending(_plain(broker, "small"))
    long = sending.batch([17], description="x" * 60_000)
    batch = Batch.joined([sending.batch(range(17)), long, sending.batch(range(18, 30))])
    sent = sending.deliver(batch)
    assert sent.failure is None and list(sent.refused) == [17]
    failure_of(sent.refused[17], FailureKind.TOO_LARGE)
    messages = broker.read_all("small")
    assert sorted(ids_of(messages)) == [number for number in range(30) if number != 17] and in_order(messages)


def test_batches_larger_than_the_topic_takes_are_cut(broker: KafkaBroker) -> None:
    _create_narrow_topic(broker, "tiny")
    sending = Sending(_plain(broker, "tiny"))
    found = failure_of(sending.destination.preflight(sending.stream, ""), FailureKind.MISCONFIGURED)
    assert "takes 40,000 bytes at once" in found.error and "max_record_bytes" in found.remedy
    sent = sending.deliver(sending.batch(range(100)))
    assert sent.failure is None and not sent.refused
    assert ids_of(broker.read_all("tiny")) == list(range(100))


def test_a_record_may_be_as_large_as_the_options_say(plain: Sending, broker: KafkaBroker, topic: str) -> None:
    limits = plain.destination.limits(plain.stream)
    text = plain.batch([1], description="").texts[0]
    largest = plain.batch([1], description="x" * (limits.record_bytes - len(text.encode())))
    assert largest.texts.str.len_bytes()[0] == limits.record_bytes
    assert plain.destination.send(largest).failure is None
    assert len(broker.read_all(topic)) == 1


def test_the_cluster_that_librdkafka_mocks_is_served_too() -> None:
    with kafka_mock() as cluster:
        cluster.create_topic("t", 4)
        options = KafkaOptions(bootstrap_servers=cluster.bootstrap, topic="t", security_protocol="PLAINTEXT")
        sending = Sending(options)
        assert sending.destination.send(sending.batch(range(100))).failure is None
        messages = cluster.read_all("t")
    assert sorted(ids_of(messages)) == list(range(100)) and in_order(messages)


def test_what_the_worker_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    options = KafkaOptions(
        bootstrap_servers="127.0.0.1:1", topic="t", security_protocol="SSL", certificates="/none.pem"
    )
    with pytest.raises(SetupError, match="/none.pem cannot be read"):
        KafkaDestination(options).setup()
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(SetupError, match="the client does not take its settings"):
        KafkaDestination(options.model_copy(update={"certificates": str(tmp_path / "bad.pem")})).setup()
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(MissingExtraError, match=r"confluent_kafka is not installed.*\[kafka\]"):
        KafkaDestination(options.model_copy(update={"certificates": None})).setup()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bootstrap_servers": "kafka://broker"}, "must be HOST:PORT"),
        ({"bootstrap_servers": "a:1, b:2"}, "no blanks"),
        ({"topic": "a/b"}, "pattern"),
        ({"username": None}, "SASL_SSL needs it"),
        ({"password": None}, "SASL_SSL needs it"),
        ({"password": "secret"}, "given by reference"),
        ({"security_protocol": "PLAINTEXT"}, "is not used with PLAINTEXT"),
        ({"client_key": "/key.pem"}, "together with client_certificate"),
    ],
)
def test_mistakes_are_found_before_anything_runs(changes: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {
        "bootstrap_servers": "a:9093,[::1]:9093",
        "topic": "t",
        "username": "u",
        "password": {"env": "P"},
    }
    assert KafkaOptions(**given).timeout == 30
    with pytest.raises(ValidationError, match=said) as mistakes:
        KafkaOptions(**{name: value for name, value in {**given, **changes}.items() if value is not None})
    assert "secret'" not in str(mistakes.value)


def test_the_stream_says_how_many_records_are_awaited_together() -> None:
    options = KafkaOptions(
        bootstrap_servers="a:9092", topic="t", security_protocol="PLAINTEXT", max_record_bytes=50_000
    )
    stream = Stream(name="s", content="events", destination=options, batch=BatchSizes(size=7))
    limits = KafkaDestination(options).limits(stream)
    assert limits.records == 7 and limits.record_bytes + limits.overhead == 50_000
