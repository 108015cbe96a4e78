from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.pubsub_v1 import SchemaServiceClient, types
from google.pubsub_v1.services.schema_service.transports import SchemaServiceGrpcTransport

from schemas.event_types import CATEGORIES
from schemas.streams import Batch as BatchSizes
from schemas.streams import Stream
from tests.servers import pubsub as servers
from tests.servers.http import Answer as ServerAnswer
from tests.servers.http import always, receiver
from tests.servers.proxy import TcpFault, tcp_proxy
from tests.servers.pubsub import Message, PubSub, PubSubServicer, RpcFault, pubsub_rights
from tests.transforms.deliver.support import deliver, events, opened, rows_of, send
from transforms.deliver import pubsub
from transforms.deliver.failures import Failure, FailureKind, SetupError
from transforms.deliver.pubsub import PubSubDestination, PubSubOptions
from transforms.deliver.push.batch import Batch
from transforms.deliver.push.options import Retry
from transforms.deliver.shapes import json_lines

SUBSCRIPTION = "all"


@pytest.fixture(scope="module")
def emulator() -> Iterator[PubSub]:
    """Google's emulator."""
    with servers.pubsub_emulator() as running:
        yield running


@pytest.fixture
def servicer(monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSubServicer]:
    """The server that enforces Pub/Sub's limits and fails on command, with the topic ``events``."""
    with servers.pubsub_servicer() as running:
        running.create_topic("events", SUBSCRIPTION)
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", running.address)
        yield running


@pytest.fixture
def topic(emulator: PubSub, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic of the emulator, with a subscription of the same name."""
    name = f"t-{request.node.name.translate({ord(letter): '-' for letter in '[]'})}"[:100]
    emulator.create_topic(name, name)
    for variable, value in emulator.environment.items():
        monkeypatch.setenv(variable, value)
    return name


def stream_to(
    topic: str, content: str = "events", form: str = "ndjson", size: int | None = None, **options: Any
) -> Stream:
    return Stream(
        name="fleet",
        content=content,
        format=form,
        destination=PubSubOptions(project=servers.PROJECT, topic=topic, **{"timeout": 5, **options}),
        batch=BatchSizes(size=size),
    )


def ids_of(messages: list[Message]) -> list[int]:
    return [json.loads(message.data)["event_id"] for message in messages]


def test_a_message_holds_a_record_and_its_attributes(emulator: PubSub, topic: str, tmp_path: Path) -> None:
    rows = rows_of(
        "events",
        {"event_id": 1},
        {"event_id": 2, "event_type_id": 40, "severity": "WARN", "category": "api", "endpoint_id": None},
    )
    outcome = deliver(stream_to(topic), rows, tmp_path)
    assert (outcome.delivered, outcome.failure, outcome.dead_letters) == (2, None, [])
    found = sorted(emulator.pull_all(topic), key=lambda message: message.attributes["record_id"])
    assert [message.data.decode() for message in found] == json_lines("table", "events", rows).to_list()
    fixed = {"kind": "event", "content": "events", "stream": "fleet", "organisation": "1234"}
    assert [message.attributes for message in found] == [
        {
            **fixed, "record_id": "fleet/events/1", "type_id": "3", "severity": "INFO", "category": "data_connection",
            "device": "10360462",
        },
        {**fixed, "record_id": "fleet/events/2", "type_id": "40", "severity": "WARN", "category": "api"},
    ]  # fmt: skip
    assert [message.ordering_key for message in found] == ["10360462", "organisation-1234"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("usage", {"kind": "usage", "record_id": "fleet/usage/333333333333333", "device": "123456789"}),
        ("device_usage_hourly", {"kind": "device_usage_hourly", "device": "1"}),
    ],
)
def test_attributes_that_a_table_does_not_have_are_left_out(
    content: str, expected: Mapping[str, str], servicer: PubSubServicer, tmp_path: Path
) -> None:
    deliver(stream_to("events", content), rows_of(content, {}), tmp_path)
    (message,) = servicer.pull_all(SUBSCRIPTION, quiet=0.2)
    record_id = message.attributes["record_id"]
    assert record_id.startswith(f"fleet/{content}/")
    assert message.attributes == {
        "content": content, "stream": "fleet", "organisation": "12345", "record_id": record_id, **expected
    }  # fmt: skip


def test_messages_of_a_device_arrive_in_order(emulator: PubSub, topic: str, tmp_path: Path) -> None:
    assert deliver(stream_to(topic, size=70), events(600, devices=7), tmp_path).delivered == 600
    by_device = defaultdict(list)
    for message in emulator.pull_all(topic):
        by_device[message.ordering_key].append(json.loads(message.data)["event_id"])
    assert by_device == {str(device): list(range(device, 600, 7)) for device in range(7)}


def test_without_ordering_there_is_no_ordering_key(servicer: PubSubServicer, tmp_path: Path) -> None:
    deliver(stream_to("events", ordering=False), events(3), tmp_path)
    assert [message.ordering_key for message in servicer.pull_all(SUBSCRIPTION, quiet=0.2)] == ["", "", ""]


def test_a_replay_has_the_same_ids(servicer: PubSubServicer, tmp_path: Path) -> None:
    for _ in range(2):
        deliver(stream_to("events"), events(5), tmp_path)
    found = servicer.pull_all(SUBSCRIPTION, quiet=0.2)
    assert len({message.id for message in found}) == 10
    ids = [message.attributes["record_id"] for message in found]
    assert ids == [f"fleet/events/{number}" for number in range(5)] * 2


@pytest.mark.parametrize(("form", "ordering", "key"), [("ndjson", None, ""), ("json", True, "fleet")])
def test_a_message_can_hold_a_batch(
    form: str, ordering: bool | None, key: str, emulator: PubSub, topic: str, tmp_path: Path
) -> None:
    stream = stream_to(topic, form=form, size=40, message="batch", ordering=ordering)
    assert deliver(stream, events(100), tmp_path).delivered == 100
    messages = sorted(emulator.pull_all(topic), key=lambda message: decoded(message, form)[0]["event_id"])
    assert [record["event_id"] for message in messages for record in decoded(message, form)] == list(range(100))
    assert [message.attributes["records"] for message in messages] == ["40", "40", "20"]
    assert [message.ordering_key for message in messages] == [key] * 3
    first = messages[0].attributes
    assert len({message.attributes["batch_id"] for message in messages}) == 3
    assert first == {
        "kind": "event", "content": "events", "stream": "fleet", "records": "40", "batch_id": first["batch_id"]
    }  # fmt: skip
    assert deliver(stream, events(100), tmp_path).delivered == 100
    again = emulator.pull_all(topic)
    assert {message.attributes["batch_id"] for message in again} == {
        message.attributes["batch_id"] for message in messages
    }


def decoded(message: Message, form: str) -> list[dict[str, Any]]:
    if form == "json":
        return json.loads(message.data)
    return [json.loads(line) for line in message.data.splitlines()]


@pytest.mark.parametrize(("message", "requests"), [("record", 3), ("batch", 3)])
def test_a_request_has_10_mb_at_most(message: str, requests: int, servicer: PubSubServicer, tmp_path: Path) -> None:
    # The server refuses larger ones.
    outcome = deliver(stream_to("events", message=message), events(300, description="d" * 80_000), tmp_path)
    assert (outcome.delivered, outcome.failure, outcome.dead_letters) == (300, None, [])
    assert servicer.faults.calls == requests


def test_a_request_has_1000_messages_at_most(servicer: PubSubServicer, tmp_path: Path) -> None:
    assert deliver(stream_to("events"), events(2_500), tmp_path).delivered == 2_500
    assert servicer.faults.calls == 3
    assert ids_of(servicer.pull_all(SUBSCRIPTION, quiet=0.2)) == list(range(2_500))


@pytest.mark.parametrize("message", ["record", "batch"])
def test_a_record_that_fills_a_message_goes_and_a_larger_one_is_a_dead_letter(
    message: str, servicer: PubSubServicer, tmp_path: Path
) -> None:
    stream = stream_to("events", message=message)
    largest = PubSubDestination(stream.destination).limits(stream).record_bytes
    (empty,) = json_lines("table", "events", rows_of("events", {"event_id": 1, "description": ""})).str.len_bytes()
    descriptions = ["d" * (largest - empty), "d" * (largest - empty + 1), "small"]
    rows = rows_of("events", *({"event_id": 1, "description": description} for description in descriptions))
    outcome = deliver(stream, rows, tmp_path)
    assert (outcome.delivered, outcome.failure) == (2, None)
    assert [(letter.reason, letter.record_id) for letter in outcome.dead_letters] == [("too_large", 1)]
    assert servicer.faults.calls == 2


def test_no_attributes_are_longer_than_what_is_reckoned_with(servicer: PubSubServicer) -> None:
    wide = {
        "event_id": -(2**63), "event_type_id": -(2**31), "organisation_id": -(2**63), "severity": "CRITICAL",
        "category": max(CATEGORIES, key=len),
    }  # fmt: skip
    rows = rows_of("events", {**wide, "endpoint_id": -(2**63)}, {**wide, "endpoint_id": None})
    stream = stream_to("events")
    stream = stream.model_copy(update={"name": "s" * 63})
    texts = json_lines("table", "events", rows)
    with opened(stream) as destination:
        request = types.PublishRequest.pb(types.PublishRequest(topic=f"projects/{'p' * 100}/topics/{'t' * 255}"))
        alone = len(request.SerializeToString())
        destination._add_records(request.messages, Batch(stream, "events", rows, texts))
    around = len(request.SerializeToString()) - alone - texts.str.len_bytes().sum()
    assert around / 2 <= pubsub._ATTRIBUTES
    assert alone <= pubsub._REQUEST


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (RpcFault.UNAVAILABLE, FailureKind.TRANSIENT, "answered UNAVAILABLE"),
        (RpcFault.RESOURCE_EXHAUSTED, FailureKind.TRANSIENT, "answered RESOURCE_EXHAUSTED"),
        (RpcFault.INTERNAL, FailureKind.TRANSIENT, "answered INTERNAL"),
        (RpcFault.HANG, FailureKind.TRANSIENT, "answered DEADLINE_EXCEEDED"),
        (RpcFault.UNAUTHENTICATED, FailureKind.MISCONFIGURED, "answered UNAUTHENTICATED"),
        (RpcFault.PERMISSION_DENIED, FailureKind.MISCONFIGURED, "answered PERMISSION_DENIED"),
        (RpcFault.NOT_FOUND, FailureKind.MISCONFIGURED, "answered NOT_FOUND"),
        (RpcFault.INVALID_ARGUMENT, FailureKind.REJECTED, "answered INVALID_ARGUMENT: injected fault"),
    ],
)
def test_each_status_has_its_kind_of_failure(
    fault: RpcFault, kind: FailureKind, words: str, servicer: PubSubServicer
) -> None:
    servicer.faults.inject(fault)
    start = time.monotonic()
    failure = send(stream_to("events", timeout=1), events(1)).failure
    assert failure is not None
    assert (failure.kind, failure.error) == (kind, f"Pub/Sub topic projects/local-project/topics/events: {words}")
    assert servicer.faults.calls == 1, "the client must not try again by itself"
    assert time.monotonic() - start < 5


def test_a_request_that_is_too_large_for_the_server_is_halved(
    servicer: PubSubServicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(
        "events", *({"event_id": number, "description": "d" * (20_000 * (number == 5))} for number in range(8))
    )
    monkeypatch.setattr(servers, "_REQUEST_BYTES", 20_000)
    outcome = deliver(stream_to("events"), rows, tmp_path)
    assert (outcome.delivered, outcome.failure) == (7, None)
    (letter,) = outcome.dead_letters
    assert (letter.record_id, letter.reason) == (5, "too_large")
    assert ids_of(servicer.pull_all(SUBSCRIPTION, quiet=0.2)) == [0, 1, 2, 3, 4, 6, 7]


def test_a_request_that_is_too_large_for_the_connection_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_OPTIONS", [("grpc.max_receive_message_length", 200_000)])
    with servers.pubsub_servicer() as small:
        small.create_topic("events", SUBSCRIPTION)
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", small.address)
        outcome = deliver(stream_to("events"), events(16, description="d" * 40_000), tmp_path)
        assert (outcome.delivered, outcome.failure) == (16, None)
        assert ids_of(small.pull_all(SUBSCRIPTION, quiet=0.2)) == list(range(16))


def test_a_refused_message_is_a_dead_letter_and_the_others_arrive_in_order(
    servicer: PubSubServicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(request: types.PublishRequest) -> None:
        if any(json.loads(message.data)["event_id"] == 11 for message in request.messages):
            raise servers._Refused(grpc.StatusCode.INVALID_ARGUMENT, "Message failed schema validation.")

    monkeypatch.setattr(servers, "_check", check)
    outcome = deliver(stream_to("events"), events(20), tmp_path)
    assert (outcome.delivered, outcome.failure) == (19, None)
    (letter,) = outcome.dead_letters
    assert letter.record_id == 11
    assert letter.message.endswith("answered INVALID_ARGUMENT: Message failed schema validation.")
    assert ids_of(servicer.pull_all(SUBSCRIPTION, quiet=0.2)) == [number for number in range(20) if number != 11]


def test_requests_that_fail_are_tried_again(servicer: PubSubServicer, tmp_path: Path) -> None:
    servicer.faults.inject(RpcFault.UNAVAILABLE, percent=50)
    assert deliver(stream_to("events", size=25), events(100), tmp_path).delivered == 100
    assert ids_of(servicer.pull_all(SUBSCRIPTION, quiet=0.2)) == list(range(100))
    servicer.faults.inject(RpcFault.UNAVAILABLE_AFTER, percent=50)
    assert deliver(stream_to("events"), events(10), tmp_path).delivered == 10
    doubled = servicer.pull_all(SUBSCRIPTION, quiet=0.2)
    assert ids_of(doubled) in (list(range(10)), [*range(10), *range(10)])
    assert {message.attributes["record_id"] for message in doubled} == {f"fleet/events/{at}" for at in range(10)}


def test_what_is_left_waits_when_attempts_run_out(servicer: PubSubServicer, tmp_path: Path) -> None:
    servicer.faults.inject(RpcFault.UNAVAILABLE)
    stream = stream_to("events", retry=Retry(attempts=2, seconds=5))
    outcome = deliver(stream, events(10), tmp_path)
    assert outcome.delivered == 0 and outcome.failure is not None
    assert outcome.failure.kind is FailureKind.TRANSIENT
    assert servicer.faults.calls == 2


@pytest.mark.parametrize("fault", [TcpFault.HANG, TcpFault.REFUSE, TcpFault.CUT])
def test_a_channel_that_never_connects_ends_in_time_and_connects_again(
    fault: TcpFault, servicer: PubSubServicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tcp_proxy(int(servicer.address.rpartition(":")[2])) as proxy:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", proxy.address)
        proxy.fault = fault
        stream, rows = stream_to("events", timeout=1), events(1)
        batch = Batch(stream, "events", rows, json_lines("table", "events", rows))
        with opened(stream) as destination:
            for _ in range(4):
                start = time.monotonic()
                failure = destination.send(batch).failure
                assert failure is not None and failure.kind is FailureKind.TRANSIENT
                assert time.monotonic() - start < 3
            proxy.fault = TcpFault.NONE
            deadline = time.monotonic() + 15
            while destination.send(batch).failure is not None:
                assert time.monotonic() < deadline, "the channel does not connect again"
                time.sleep(0.2)


def test_a_missing_topic_is_found_before_the_run_and_by_the_first_request(emulator: PubSub, topic: str) -> None:
    stream = stream_to("nowhere")
    with opened(stream) as destination:
        found = destination.preflight(stream, "")
    refused = send(stream, events(1)).failure
    assert found == refused and found is not None
    assert found.kind is FailureKind.MISCONFIGURED
    assert found.error == "Pub/Sub topic projects/local-project/topics/nowhere: answered NOT_FOUND"
    assert found.remedy == "create the topic, or correct project and topic"
    there = stream_to(topic)
    with opened(there) as destination:
        assert destination.preflight(there, "") is None


def avro(*fields: tuple[str, str]) -> str:
    named = [{"name": name, "type": kind} for name, kind in fields]
    return json.dumps({"type": "record", "name": "Record", "fields": named})


def look_with_schema(emulator: PubSub, definition: str, encoding: str, message: str, delete: bool) -> Failure | None:
    """What the preflight says of a topic with a schema."""
    project, name = f"projects/{servers.PROJECT}", f"t{uuid.uuid4().hex}"
    with grpc.insecure_channel(emulator.address) as channel, emulator.publisher() as publisher:
        schemas = SchemaServiceClient(transport=SchemaServiceGrpcTransport(channel=channel))
        wanted = types.Schema(type_="AVRO", definition=definition)
        schema = schemas.create_schema(parent=project, schema=wanted, schema_id=name)
        settings = {"schema": schema.name, "encoding": encoding}
        publisher.create_topic(request={"name": f"{project}/topics/{name}", "schema_settings": settings})
        if delete:
            schemas.delete_schema(name=schema.name)
    stream = stream_to(name, message=message)
    with opened(stream) as destination:
        return destination.preflight(stream, "")


@pytest.mark.parametrize(
    ("fields", "encoding", "message", "kind", "said"),
    [
        ([("event_id", "long"), ("description", "string")], "JSON", "record", None, ""),
        ([("event_id", "string")], "JSON", "record", FailureKind.TRANSIENT, "INVALID_ARGUMENT"),
        ([("event_id", "long"), ("missing", "string")], "JSON", "record", FailureKind.TRANSIENT, "data-streamer test"),
        ([("event_id", "long")], "BINARY", "record", FailureKind.MISCONFIGURED, "takes binary messages"),
        ([("missing", "string")], "JSON", "batch", FailureKind.TRANSIENT, "INVALID_ARGUMENT"),
    ],
)
def test_a_topics_schema_is_looked_at_before_a_run(
    emulator: PubSub, monkeypatch: pytest.MonkeyPatch,
    fields: list[tuple[str, str]], encoding: str, message: str, kind: FailureKind | None, said: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.address)
    found = look_with_schema(emulator, avro(*fields), encoding, message, delete=False)
    assert (found and found.kind) == kind
    assert found is None or (said in found.error and "/schemas/t" in found.error)


def test_a_schema_that_was_deleted_is_a_mistake(emulator: PubSub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.address)
    found = look_with_schema(emulator, avro(("event_id", "long")), "JSON", "record", delete=True)
    assert found is not None and found.kind is FailureKind.MISCONFIGURED and "was deleted" in found.error


@pytest.mark.parametrize(
    ("may_look", "granted", "error"),
    [
        (True, ["pubsub.topics.publish"], None),
        (False, ["pubsub.topics.publish"], None),
        (True, [], "no right to publish (pubsub.topics.publish)"),
        (False, [], "no right to publish (pubsub.topics.publish)"),
    ],
)
def test_the_right_to_publish_is_looked_for_before_a_run(
    may_look: bool, granted: list[str], error: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_to("events")
    with pubsub_rights(may_look, granted) as address:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        with opened(stream) as destination:
            failure = destination.preflight(stream, "")
    assert (failure and failure.error.partition(": ")[2]) == error
    assert failure is None or failure.kind is FailureKind.MISCONFIGURED


def test_without_credentials_the_destination_cannot_be_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(SetupError, match="no credentials") as raised:
        PubSubDestination(PubSubOptions(project="p", topic="events")).setup()
    assert raised.value.failure.kind is FailureKind.MISCONFIGURED


_ASK = """
import sys
from transforms.deliver.pubsub import PubSubDestination, PubSubOptions

destination = PubSubDestination(PubSubOptions(project="p", topic="events", endpoint=sys.argv[1], timeout=5))
destination.setup()
print(destination.preflight(None, ""))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "said", "kind", "words"),
    [
        (200, {"access_token": "t", "expires_in": 600, "token_type": "Bearer", "issued_token_type": "a"}, None, "None"),
        (400, {"error": "invalid_grant", "error_description": "fleet@example.com is revoked"}, "MISCONFIGURED",
         "events: the server of tokens does not accept the credentials"),
        (None, {}, "TRANSIENT", "events: answered UNAVAILABLE"),
    ],
)  # fmt: skip
def test_credentials_come_from_a_server_of_tokens(
    status: int | None, said: dict[str, Any], kind: str | None, words: str, tmp_path: Path
) -> None:
    # Tokens are sent over TLS only, and gRPC reads once in a process which authorities it trusts.
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    (tmp_path / "subject").write_text("subject-token")
    script = always(ServerAnswer(cut=True) if status is None else ServerAnswer(status, json.dumps(said).encode()))
    with receiver(script) as tokens, pubsub_rights(True, ["pubsub.topics.publish"], authority) as address:
        credentials = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/locations/global/workforcePools/pool/providers/provider",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{tokens.address}/token",
            "credential_source": {"file": str(tmp_path / "subject")},
        }
        (tmp_path / "credentials.json").write_text(json.dumps(credentials))
        environment = {
            **{name: value for name, value in os.environ.items() if name != "PUBSUB_EMULATOR_HOST"},
            "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "credentials.json"),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "authority.pem"),
            "PYTHONPATH": str(Path(__file__).parents[3]),
        }
        command = [sys.executable, "-W", "ignore", "-c", _ASK, address]
        asked = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    assert words in asked.stdout and (kind or "") in asked.stdout
    assert "example.com" not in asked.stdout and "subject-token" not in asked.stdout
    assert tokens.requests


def test_mistakes_that_show_without_the_target() -> None:
    assert PubSubDestination.validate(stream_to("events", size=1_000)) == []
    assert PubSubDestination.validate(stream_to("events", size=5_000, message="batch")) == []
    assert PubSubDestination.validate(stream_to("events", size=1_001)) == [
        "takes 1 to 1,000 messages in a request: lower batch.size"
    ]
    (mistake,) = PubSubDestination.validate(stream_to("events", form="csv"))
    assert mistake.startswith("sends JSON")
