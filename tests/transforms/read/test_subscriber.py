"""The subscriber on Google's own client, against Google's emulator and a server that fails on command."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers.processes import HOST, free_port, wait_until
from tests.servers.pubsub import (
    PROJECT,
    PubSub,
    PubSubServicer,
    RpcFault,
    pubsub_emulator,
    pubsub_rights,
    pubsub_servicer,
)
from transforms.deliver.failures import FailureKind
from transforms.read import subscriber as module
from transforms.read.subscriber import MissingSubscription, Received, Subscriber, SubscriptionError, look_at

_numbers = itertools.count()


@pytest.fixture(scope="module")
def emulator() -> Iterator[PubSub]:
    with pubsub_emulator() as server:
        yield server


@pytest.fixture(scope="module")
def servicer() -> Iterator[PubSubServicer]:
    with pubsub_servicer() as server:
        yield server


@pytest.fixture(params=["emulator", "servicer"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> PubSub:
    found: PubSub = request.getfixturevalue(request.param)
    return heeded(found, monkeypatch)


@pytest.fixture
def failing(servicer: PubSubServicer, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSubServicer]:
    heeded(servicer, monkeypatch)
    monkeypatch.setattr(module, "_BACK_OFF", 0.02)
    yield servicer
    servicer.faults.inject(RpcFault.NONE)


def heeded(server: PubSub, monkeypatch: pytest.MonkeyPatch) -> PubSub:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


def new_subscription(server: PubSub) -> str:
    name = f"feed-{next(_numbers)}"
    server.create_topic(name, name)
    return name


def path_of(name: str) -> str:
    return f"projects/{PROJECT}/subscriptions/{name}"


def publish(server: PubSub, name: str, payloads: list[bytes]) -> None:
    with server.publisher() as publisher:
        for start in range(0, len(payloads), 500):
            messages = [{"data": payload} for payload in payloads[start : start + 500]]
            publisher.publish(request={"topic": f"projects/{PROJECT}/topics/{name}", "messages": messages})


def take(subscriber: Subscriber, count: int, seconds: float = 30) -> list[Received]:
    """Takes and acknowledges until so many messages came."""
    found: list[Received] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        taken = subscriber.take(1_000, 1 << 30, 0.5, 0.02)
        subscriber.acknowledge([message.ack_id for message in taken])
        found += taken
    return found


def test_messages_come_with_their_time_and_only_once_when_acknowledged(server: PubSub) -> None:
    name = new_subscription(server)
    payloads = [b"%d" % number for number in range(1_200)]
    before = time.time()
    publish(server, name, payloads)
    subscriber = Subscriber(path_of(name))
    found = take(subscriber, len(payloads))
    assert sorted(message.data for message in found) == sorted(payloads)
    assert all(before - 1 < message.published / 1e6 < time.time() + 1 for message in found)
    subscriber.close()
    assert server.pull_all(name) == []


def test_a_stop_in_order_leaves_nothing_on_its_way(emulator: PubSub, monkeypatch: pytest.MonkeyPatch) -> None:
    heeded(emulator, monkeypatch)
    name = new_subscription(emulator)
    subscriber = Subscriber(path_of(name))
    wait_until(lambda: subscriber.is_pulling, "threads", 10)
    time.sleep(0.3)
    subscriber.stop()
    wait_until(lambda: not subscriber.is_pulling, "pulls to come back", 3)
    publish(emulator, name, [b"after"])
    assert subscriber.take(10, 1 << 20, 0.1, 0) == []
    subscriber.close()
    assert [message.data for message in emulator.pull_all(name)] == [b"after"]


def test_what_is_not_acknowledged_is_there_for_the_next(failing: PubSubServicer) -> None:
    name = new_subscription(failing)
    publish(failing, name, [b"a", b"b"])
    first = Subscriber(path_of(name))
    wait_until(lambda: first._messages == 2, "messages", 10)
    kept = first.take(10, 1 << 20, 1, 0)
    first.acknowledge([message.ack_id for message in kept if message.data == b"a"])
    first.close()
    with failing.subscriber() as client:
        ack_ids = [message.ack_id for message in kept]
        client.modify_ack_deadline(
            request={"subscription": path_of(name), "ack_ids": ack_ids, "ack_deadline_seconds": 0}
        )
    assert [message.data for message in failing.pull_all(name)] == [b"b"]


def test_it_fetches_ahead_no_more_than_it_may(failing: PubSubServicer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AHEAD_MESSAGES", 100)
    monkeypatch.setattr(module, "PULL_MESSAGES", 50)
    name = new_subscription(failing)
    publish(failing, name, [b"x"] * 1_000)
    subscriber = Subscriber(path_of(name), threads=1)
    wait_until(lambda: subscriber._messages >= 100, "messages ahead", 10)
    time.sleep(0.3)
    assert subscriber._messages == 100
    assert len(subscriber.take(60, 1 << 20, 1, 0)) == 100  # whole pulls
    assert len(take(subscriber, 900)) == 900
    subscriber.close()


@pytest.mark.parametrize("fault", [RpcFault.UNAVAILABLE, RpcFault.INTERNAL, RpcFault.RESOURCE_EXHAUSTED])
def test_an_outage_passes(failing: PubSubServicer, fault: RpcFault, caplog: pytest.LogCaptureFixture) -> None:
    name = new_subscription(failing)
    subscriber = Subscriber(path_of(name))
    failing.faults.inject(fault, methods=("Pull",))
    wait_until(lambda: subscriber.failure is not None, "the failure", 10)
    publish(failing, name, [b"x"] * 10)
    assert fault.name in str(subscriber.failure)
    assert path_of(name) in str(subscriber.failure)
    assert subscriber.take(10, 1 << 20, 0.3, 0) == []
    failing.faults.inject(RpcFault.NONE)
    assert len(take(subscriber, 10)) == 10
    assert subscriber.failure is None
    subscriber.close()
    told = [record.getMessage().count("tried again") for record in caplog.records]
    assert told.count(1) <= module.THREADS  # not once a pull


def test_acknowledgements_that_fail_are_sent_again(failing: PubSubServicer) -> None:
    name = new_subscription(failing)
    publish(failing, name, [b"x"] * 50)
    subscriber = Subscriber(path_of(name))
    failing.faults.inject(RpcFault.UNAVAILABLE, methods=("Acknowledge",))
    assert len(take(subscriber, 50)) == 50
    wait_until(lambda: failing.faults.met > 2, "attempts", 10)
    failing.faults.inject(RpcFault.NONE)
    subscriber.close()
    with failing.subscriber() as client:
        client.modify_ack_deadline(
            request={
                "subscription": path_of(name),
                "ack_ids": [str(number) for number in range(1, 5_000)],
                "ack_deadline_seconds": 0,
            }
        )
    assert failing.pull_all(name) == []


@pytest.mark.parametrize("fault", [RpcFault.UNAVAILABLE, RpcFault.HANG])
def test_closed_before_acknowledgements_were_taken_it_says_what_comes_again(
    failing: PubSubServicer, fault: RpcFault, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    name = new_subscription(failing)
    publish(failing, name, [b"x"] * 50)
    subscriber = Subscriber(path_of(name))
    failing.faults.inject(fault, methods=("Acknowledge",))
    assert len(take(subscriber, 50)) == 50
    wait_until(lambda: failing.faults.met > 0, "an attempt", 10)
    subscriber.close(patience=0.1)
    wait_until(lambda: not subscriber._acknowledging.is_alive(), "the end of its threads", 20)
    assert not any(thread.is_alive() for thread in subscriber._pulling)
    assert any("that are kept come again" in record.getMessage() for record in caplog.records)
    assert raised == []


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (RpcFault.PERMISSION_DENIED, "grant roles/pubsub.subscriber"),
        (RpcFault.NOT_FOUND, "create the subscription"),
        (RpcFault.UNAUTHENTICATED, "application default credentials"),
    ],
)
def test_what_does_not_pass_is_told_with_what_to_do(failing: PubSubServicer, fault: RpcFault, remedy: str) -> None:
    name = new_subscription(failing)
    failing.faults.inject(fault, methods=("Pull",))
    subscriber = Subscriber(path_of(name))
    with pytest.raises(SubscriptionError, match=f"{path_of(name)}: answered {fault.name}; .*{remedy}"):
        subscriber.take(10, 1 << 20, 10, 0)
    subscriber.close()


def test_a_subscription_that_is_not_there(server: PubSub) -> None:
    subscriber = Subscriber(path_of("nowhere"))
    with pytest.raises(SubscriptionError, match="NOT_FOUND; create the subscription"):
        subscriber.take(10, 1 << 20, 10, 0)
    subscriber.close()


def test_a_subscription_is_looked_at_before_the_start(server: PubSub) -> None:
    assert look_at(path_of(new_subscription(server))) is None
    found = look_at(path_of("nowhere"))
    assert isinstance(found, MissingSubscription) and found.kind is FailureKind.MISCONFIGURED
    assert found.error == f"Pub/Sub subscription {path_of('nowhere')}: answered NOT_FOUND"


def test_one_that_cannot_be_pulled_from_is_a_mistake(emulator: PubSub, monkeypatch: pytest.MonkeyPatch) -> None:
    heeded(emulator, monkeypatch)
    name = new_subscription(emulator)
    with emulator.subscriber() as client:
        config = {"push_endpoint": "http://127.0.0.1:9/"}
        client.modify_push_config(request={"subscription": path_of(name), "push_config": config})
    found = look_at(path_of(name))
    assert found is not None and found.kind is FailureKind.MISCONFIGURED and "pull subscription" in found.remedy
    assert not isinstance(found, MissingSubscription)


def test_a_server_that_is_away_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"{HOST}:{free_port()}")
    found = look_at(path_of("events"))
    assert found is not None and found.kind is FailureKind.TRANSIENT


@pytest.mark.parametrize(
    ("may_look", "granted", "refused"),
    [(True, True, False), (False, True, False), (True, False, True), (False, False, True)],
)
def test_the_right_to_pull_is_looked_for(
    may_look: bool, granted: bool, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pubsub_rights(may_look, ["pubsub.subscriptions.consume"] if granted else []) as address:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        found = look_at(path_of("events"))
    assert (found is not None) == refused
    assert found is None or (found.kind is FailureKind.MISCONFIGURED and "roles/pubsub.subscriber" in found.remedy)


def test_whoever_waits_for_several_is_told_of_each(server: PubSub) -> None:
    changed = threading.Condition()
    names = [new_subscription(server) for _ in range(2)]
    quiet, busy = (Subscriber(path_of(name), changed=changed) for name in names)
    try:
        publish(server, names[1], [b"one"])
        with changed:
            assert changed.wait_for(lambda: quiet.has_news() or busy.has_news(), 30)
            assert busy.has_news() and not quiet.has_news()
            assert busy.is_filled(1, 1_000) and busy.is_filled(9, 3) and not busy.is_filled(9, 1_000)
        assert [message.data for message in take(busy, 1)] == [b"one"]
        assert not busy.has_news()
        quiet.stop()
        assert quiet.has_news() and quiet.take(1, 1, 0, 0) == []
    finally:
        quiet.close()
        busy.close()
