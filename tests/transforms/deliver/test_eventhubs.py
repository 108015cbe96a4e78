"""Destination eventhubs: its connection string, and a broker that stands for the Kafka endpoint of a namespace."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.destinations import SecretError, SecretReference
from schemas.streams import Stream
from tests.servers.kafka import KafkaBroker, kafka_broker
from tests.transforms.deliver.support import rows_of
from transforms.deliver.eventhubs import EventHubsDestination, EventHubsOptions, read_connection_string
from transforms.deliver.failures import FailureKind, SetupError
from transforms.deliver.push.batch import Batch
from transforms.deliver.shapes import json_lines

KEY = "c2VjcmV0LWtleQ=="
NAMESPACE = (
    f"Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey={KEY};EntityPath=iot-events"
)


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaBroker]:
    with kafka_broker(password=NAMESPACE) as running:
        running.create_topic("iot-events", 4)
        yield running


def _stream(broker: KafkaBroker, **others: Any) -> Stream:
    given = {"endpoint": broker.tls, "certificates": str(broker.certificates), **others}
    options = EventHubsOptions(connection_string=SecretReference(env="EVENTHUBS"), **given)
    return Stream(name="s", content="events", destination=options)


def _destination(stream: Stream) -> EventHubsDestination:
    assert isinstance(stream.destination, EventHubsOptions)
    return EventHubsDestination(stream.destination)


def _batch(stream: Stream, count: int) -> Batch:
    rows = rows_of("events", *({"event_id": number, "endpoint_id": number % 5} for number in range(count)))
    return Batch(stream, "events", rows, json_lines("table", "events", rows))


def test_events_arrive_in_the_order_of_each_key(broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTHUBS", NAMESPACE)
    stream = _stream(broker, compression="gzip")
    destination = _destination(stream)
    destination.setup()
    assert destination.preflight(stream, "") is None
    assert destination.send(_batch(stream, 500)).failure is None
    destination.close()
    messages = broker.read_all("iot-events")
    for device in range(5):
        of_device = [one for one in messages if one.key == str(device).encode()]
        assert [json.loads(one.value)["event_id"] for one in of_device] == list(range(device, 500, 5))
    assert messages[0].headers["record_id"] == b"s/events/" + str(json.loads(messages[0].value)["event_id"]).encode()


def test_a_wrong_key_is_a_mistake_and_is_never_shown(
    broker: KafkaBroker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("EVENTHUBS", NAMESPACE.replace("c2VjcmV0", "d3Jvbmc"))
    caplog.set_level(logging.DEBUG)
    stream = _stream(broker)
    destination = _destination(stream)
    destination.setup()
    answers = [destination.preflight(stream, ""), destination.send(_batch(stream, 1)).failure]
    for failure in answers:
        assert failure is not None and failure.kind is FailureKind.MISCONFIGURED
    output, errors = capfd.readouterr()
    everything = repr(answers) + repr(stream) + caplog.text + output + errors
    assert "d3Jvbmc" not in everything and "SharedAccessKey=" not in everything


def test_tls_is_never_left_out(broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTHUBS", NAMESPACE)
    for others in ({"certificates": None}, {"endpoint": broker.sasl, "timeout": 2}):
        stream = _stream(broker, **others)
        destination = _destination(stream)
        destination.setup()
        failure = destination.send(_batch(stream, 1)).failure
        assert failure is not None and NAMESPACE not in failure.error
        assert failure.kind is (FailureKind.TRANSIENT if "endpoint" in others else FailureKind.MISCONFIGURED)


def test_a_connection_string_names_host_and_hub() -> None:
    target = read_connection_string(NAMESPACE, "X")
    assert (target.host, target.hub) == ("acme.servicebus.windows.net", "iot-events")
    signed = "endpoint=sb://a.servicebus.usgovcloudapi.net;SharedAccessSignature=SharedAccessSignature sr=x&sig=y=\n"
    assert read_connection_string(signed, "X", "hub").hub == "hub"


@pytest.mark.parametrize(
    ("text", "topic", "said"),
    [
        ("hunter2", None, "has no Endpoint=sb://"),
        (NAMESPACE.replace("sb://", "https://"), None, "has no Endpoint=sb://"),
        (NAMESPACE.replace("servicebus.windows.net", "example.com"), None, "of a namespace in Azure"),
        (NAMESPACE.replace("sb://acme", "sb://[acme"), None, "an Endpoint that is no URL"),
        (NAMESPACE.replace(f"SharedAccessKey={KEY}", ""), None, "has no SharedAccessKey:"),
        (NAMESPACE.replace("SharedAccessKeyName=send;", ""), None, "has no SharedAccessKeyName"),
        (NAMESPACE.partition(";EntityPath")[0], None, "has no EntityPath, and the option topic is not given"),
        (NAMESPACE, "other", "EntityPath that is not the option topic"),
    ],
)
def test_what_is_wrong_with_a_connection_string_is_told_without_it(text: str, topic: str | None, said: str) -> None:
    with pytest.raises(SecretError, match="environment variable EVENTHUBS") as raised:
        read_connection_string(text, "environment variable EVENTHUBS", topic)
    assert said in str(raised.value)
    assert not any(word in str(raised.value) for word in ("hunter2", "acme", KEY, "iot-events", "other"))


def test_its_faults_show_when_it_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    options = EventHubsOptions(connection_string=SecretReference(env="EVENTHUBS"), certificates="/none.pem")
    monkeypatch.setenv("EVENTHUBS", "hunter2")
    with pytest.raises(SecretError, match="has no Endpoint"):
        EventHubsDestination(options).setup()
    monkeypatch.setenv("EVENTHUBS", NAMESPACE)
    with pytest.raises(SetupError, match=r"/none\.pem cannot be read"):
        EventHubsDestination(options).setup()


def test_an_event_and_a_request_stay_below_what_event_hubs_takes() -> None:
    options = EventHubsOptions(connection_string=SecretReference(env="EVENTHUBS"))
    limits = EventHubsDestination(options).limits(Stream(name="s", content="events", destination=options))
    assert limits.record_bytes + limits.overhead == 1_000_000 < 1_046_528
