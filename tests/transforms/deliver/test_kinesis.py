from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import pytest
from aiohttp import web
from pydantic import ValidationError

from schemas.streams import Batch as BatchSizes
from schemas.streams import Stream
from tests.servers.aws import CREDENTIALS, REGION, Aws, aws_emulator
from tests.servers.http import serving
from tests.servers.processes import HOST, free_port
from tests.transforms.deliver.support import deliver, events, opened, rows_of, send
from transforms.deliver.failures import FailureKind, SetupError
from transforms.deliver.kinesis import KinesisDestination, KinesisOptions
from transforms.deliver.push.batch import Batch
from transforms.deliver.push.options import Retry
from transforms.deliver.shapes import json_lines

ROLE = "arn:aws:iam::123456789012:role/data-streamer"
THROTTLED = {
    "ErrorCode": "ProvisionedThroughputExceededException",
    "ErrorMessage": "Rate exceeded for shard shardId-000000000000 in stream events under account 123456789012.",
}


@dataclass
class Call:
    """A request of a client: its action (``PutRecords``), its fields, and whose key it was signed with."""

    action: str
    fields: dict[str, Any]
    key: str


@dataclass
class Gateway:
    """Stands before the emulator: notes every request, and refuses what the emulator never would.

    Attributes:
      calls: what arrived.
      answer: gives an answer instead of the emulator's, or None.
      throttled: whether Kinesis refuses a record of a request, by the number of that request (from 1) and its key.
      lifetime: how long credentials of a role last, from now on; None: as the emulator says.
    """

    address: str
    upstream: str
    calls: list[Call] = field(default_factory=list)
    answer: Callable[[Call], web.Response | None] = lambda call: None
    throttled: Callable[[int, str], bool] = lambda number, key: False
    lifetime: timedelta | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def of(self, action: str) -> list[Call]:
        return [call for call in self.calls if call.action == action]

    async def take(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        target = request.headers.get("X-Amz-Target", "")
        fields = json.loads(body) if target else {name: values[0] for name, values in parse_qs(body.decode()).items()}
        key = request.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
        call = Call(target.rpartition(".")[2] or fields["Action"], fields, key)
        self.calls.append(call)
        scripted = self.answer(call)
        if scripted is not None:
            return scripted
        if call.action == "PutRecords":
            return await self._put(request, fields)
        status, content = await self._passed_on(request, body)
        if call.action == "AssumeRole" and self.lifetime is not None:
            end = (datetime.now(UTC) + self.lifetime).isoformat().encode()
            head, rest = content.split(b"<Expiration>")
            content = head + b"<Expiration>" + end + rest[rest.index(b"<") :]
        return web.Response(status=status, body=content)

    async def _put(self, request: web.BaseRequest, fields: dict[str, Any]) -> web.Response:
        """Has the emulator take the records that are not throttled, and answers as Kinesis does then."""
        number, records = len(self.of("PutRecords")), fields["Records"]
        taken = [record for record in records if not self.throttled(number, record["PartitionKey"])]
        answer: dict[str, Any] = {"Records": []}
        if taken:
            status, content = await self._passed_on(request, json.dumps({**fields, "Records": taken}).encode())
            answer = json.loads(content)
            if status != 200:
                return web.json_response(answer, status=status)
        results = iter(answer["Records"])
        answer["Records"] = [
            THROTTLED if self.throttled(number, record["PartitionKey"]) else next(results) for record in records
        ]
        answer["FailedRecordCount"] = len(records) - len(taken)
        return web.json_response(answer)

    async def _passed_on(self, request: web.BaseRequest, body: bytes) -> tuple[int, bytes]:
        kept = ("content-type", "x-amz-target", "authorization", "x-amz-date", "host")
        headers = {name: value for name, value in request.headers.items() if name.lower() in kept}
        async with (
            self._lock,  # the emulator loses records that are put at the same time
            aiohttp.ClientSession() as session,
            session.post(self.upstream, data=body, headers=headers) as answer,
        ):
            return answer.status, await answer.read()


def error(code: str, message: str = "no", status: int = 400) -> web.Response:
    return web.json_response({"__type": code, "message": message}, status=status)


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    """The emulator, with the data stream ``events``."""
    with aws_emulator() as running:
        yield running


@pytest.fixture
def gateway(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway to the emulator, to which the environment points all clients."""
    port = free_port()
    running = Gateway(f"http://{HOST}:{port}", aws.address)
    for variable in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": running.address}.items():
        monkeypatch.setenv(variable, value)
    with serving(running.take, port):
        yield running


@pytest.fixture
def name(aws: Aws, request: pytest.FixtureRequest) -> str:
    """A data stream of two shards."""
    name = request.node.name.partition("[")[0][:120]
    aws.create_stream(name)
    return name


def stream_to(name: str, content: str = "events", size: int | None = None, **options: Any) -> Stream:
    return Stream(
        name="fleet",
        content=content,
        destination=KinesisOptions(stream_name=name, **{"region": REGION, "timeout": 5, **options}),
        batch=BatchSizes(size=size),
    )


def by_key(aws: Aws, name: str) -> dict[str, list[int]]:
    found = defaultdict(list)
    for record in aws.records(name):
        found[record.key].append(json.loads(record.data)["event_id"])
    return dict(found)


def test_a_record_is_one_json_object_with_its_device_as_the_key(
    aws: Aws, gateway: Gateway, name: str, tmp_path: Path
) -> None:
    rows = rows_of("events", {"event_id": 1}, {"event_id": 2, "endpoint_id": None})
    outcome = deliver(stream_to(name), rows, tmp_path)
    assert (outcome.delivered, outcome.failure, outcome.dead_letters) == (2, None, [])
    found = {record.key: record.data.decode() for record in aws.records(name)}
    first, second = json_lines("table", "events", rows)
    assert found == {"10360462": first, "organisation-1234": second}


def test_records_of_a_device_arrive_in_order(aws: Aws, gateway: Gateway, name: str, tmp_path: Path) -> None:
    assert deliver(stream_to(name, size=70), events(600, devices=7), tmp_path).delivered == 600
    assert by_key(aws, name) == {str(device): list(range(device, 600, 7)) for device in range(7)}


def test_a_replay_puts_the_same_records(aws: Aws, gateway: Gateway, name: str, tmp_path: Path) -> None:
    for _ in range(2):
        deliver(stream_to(name), events(20), tmp_path)
    assert set(Counter(record.data for record in aws.records(name)).values()) == {2}


@pytest.mark.parametrize(("count", "size", "requests"), [(1_200, 0, 3), (100, 80_000, 2)])
def test_a_request_has_500_records_and_5_mb_at_most(
    count: int, size: int, requests: int, gateway: Gateway, aws: Aws, tmp_path: Path
) -> None:
    stream = f"limits-{count}"
    aws.create_stream(stream)
    outcome = deliver(stream_to(stream), events(count, description="d" * size), tmp_path)
    assert (outcome.delivered, outcome.failure) == (count, None)
    assert len(gateway.of("PutRecords")) == requests
    assert sorted(number for ids in by_key(aws, stream).values() for number in ids) == list(range(count))


def test_a_record_of_1_mib_goes_and_a_larger_one_is_a_dead_letter(
    aws: Aws, gateway: Gateway, name: str, tmp_path: Path
) -> None:
    stream = stream_to(name)
    largest = KinesisDestination(stream.destination).limits(stream).record_bytes
    (empty,) = json_lines("table", "events", rows_of("events", {"event_id": 1, "description": ""})).str.len_bytes()
    fills, exceeds = "d" * (largest - empty), "d" * (largest - empty + 1)
    rows = rows_of("events", {"event_id": 1, "description": fills}, {"event_id": 2, "description": exceeds}, {})
    outcome = deliver(stream, rows, tmp_path)
    assert (outcome.delivered, outcome.failure) == (2, None)
    assert [(letter.reason, letter.record_id) for letter in outcome.dead_letters] == [("too_large", 2)]
    assert sorted(len(record.data) for record in aws.records(name))[-1] == largest


def test_only_throttled_records_are_put_again(aws: Aws, gateway: Gateway, name: str, tmp_path: Path) -> None:
    gateway.throttled = lambda number, key: number <= 2 and key == "1"
    outcome = deliver(stream_to(name), events(30), tmp_path)
    assert (outcome.delivered, outcome.failure, outcome.dead_letters) == (30, None, [])
    assert [len(call.fields["Records"]) for call in gateway.of("PutRecords")] == [30, 10, 10]
    assert by_key(aws, name) == {str(device): list(range(device, 30, 3)) for device in range(3)}


def test_only_throttled_records_wait_when_attempts_run_out(
    aws: Aws, gateway: Gateway, name: str, tmp_path: Path
) -> None:
    gateway.throttled = lambda number, key: key == "1"
    outcome = deliver(stream_to(name, retry=Retry(attempts=2)), events(30), tmp_path)
    assert outcome.delivered == 20 and outcome.failure is not None and outcome.rest is not None
    assert outcome.failure.kind is FailureKind.TRANSIENT
    assert outcome.failure.error.endswith("answered ProvisionedThroughputExceededException")
    assert outcome.rest.column("endpoint_id").to_pylist() == [1] * 10
    gateway.throttled = lambda number, key: False
    assert deliver(stream_to(name), outcome.rest, tmp_path).delivered == 10
    assert by_key(aws, name) == {str(device): list(range(device, 30, 3)) for device in range(3)}


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ProvisionedThroughputExceededException", 400, FailureKind.TRANSIENT),
        ("ThrottlingException", 400, FailureKind.TRANSIENT),
        ("KMSThrottlingException", 400, FailureKind.TRANSIENT),
        ("InternalFailure", 500, FailureKind.TRANSIENT),
        ("ServiceUnavailable", 503, FailureKind.TRANSIENT),
        ("AccessDeniedException", 400, FailureKind.MISCONFIGURED),
        ("ResourceNotFoundException", 400, FailureKind.MISCONFIGURED),
        ("UnrecognizedClientException", 400, FailureKind.MISCONFIGURED),
        ("InvalidSignatureException", 400, FailureKind.MISCONFIGURED),
        ("ExpiredTokenException", 400, FailureKind.MISCONFIGURED),
        ("KMSDisabledException", 400, FailureKind.MISCONFIGURED),
        ("InvalidArgumentException", 400, FailureKind.REJECTED),
        ("ValidationException", 400, FailureKind.REJECTED),
        ("RequestEntityTooLargeException", 413, FailureKind.TOO_LARGE),
        ("NeverHeardOfException", 400, FailureKind.MISCONFIGURED),
    ],
)
def test_each_code_has_its_kind_of_failure(code: str, status: int, kind: FailureKind, gateway: Gateway) -> None:
    gateway.answer = lambda call: error(code, "the token is secret=abcdefghijkl", status)
    failure = send(stream_to("events"), events(1)).failure
    assert failure is not None and failure.kind is kind
    assert failure.error.startswith(f"Kinesis data stream events: answered {code}")
    assert failure.remedy and "abcdefghijkl" not in repr(failure)
    assert len(gateway.calls) == 1, "the client must not try again by itself"


def test_the_time_that_it_asks_to_wait_is_heeded(gateway: Gateway) -> None:
    gateway.answer = lambda call: web.Response(status=503, headers={"Retry-After": "7"})
    failure = send(stream_to("events"), events(1)).failure
    assert failure is not None and (failure.kind, failure.retry_after) == (FailureKind.TRANSIENT, 7)


def test_an_answer_of_something_else_passes(gateway: Gateway) -> None:
    gateway.answer = lambda call: web.Response(text="<html>Bad gateway</html>", status=502)
    failure = send(stream_to("events"), events(1)).failure
    assert failure is not None and failure.kind is FailureKind.TRANSIENT
    for body in (b"<html>Welcome</html>", b"\xff\xfe", b"{}"):
        gateway.answer = lambda call, body=body: web.Response(body=body)
        failure = send(stream_to("events"), events(1)).failure
        assert failure is not None and failure.kind is FailureKind.TRANSIENT


def test_a_refused_record_is_a_dead_letter_and_the_others_go_on(
    aws: Aws, gateway: Gateway, name: str, tmp_path: Path
) -> None:
    gateway.answer = lambda call: (
        error("InvalidArgumentException", "the key 2 is refused")
        if any(record["PartitionKey"] == "2" for record in call.fields.get("Records", ()))
        else None
    )
    rows = rows_of("events", *({"event_id": number, "endpoint_id": 2 if number == 5 else 1} for number in range(9)))
    outcome = deliver(stream_to(name), rows, tmp_path)
    assert (outcome.delivered, outcome.failure) == (8, None)
    (letter,) = outcome.dead_letters
    assert (letter.record_id, letter.reason) == (5, "delivery_rejected")
    assert "InvalidArgumentException: the key 2 is refused" in letter.message
    assert by_key(aws, name) == {"1": [0, 1, 2, 3, 4, 6, 7, 8]}


def test_a_server_that_hangs_or_refuses_fails_in_time(gateway: Gateway) -> None:
    async def hang(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    port = free_port()
    with serving(hang, port):
        assert_passing(f"http://{HOST}:{port}", "ReadTimeoutError")
    assert_passing(f"http://{HOST}:{port}", "EndpointConnectionError")


def assert_passing(endpoint: str, name: str) -> None:
    start = time.monotonic()
    failure = send(stream_to("events", timeout=1, endpoint=endpoint), events(1)).failure
    assert failure is not None and failure.kind is FailureKind.TRANSIENT
    assert failure.error == f"Kinesis data stream events: no answer ({name})"
    assert time.monotonic() - start < 5


def test_a_missing_data_stream_is_found_before_the_run_and_by_the_first_request(gateway: Gateway, name: str) -> None:
    stream = stream_to("nowhere")
    with opened(stream) as destination:
        found = destination.preflight(stream, "")
    assert found == send(stream, events(1)).failure and found is not None
    assert found.kind is FailureKind.MISCONFIGURED
    assert found.error == "Kinesis data stream nowhere: answered ResourceNotFoundException"
    with opened(stream_to(name)) as destination:
        assert destination.preflight(stream, "") is None


@pytest.mark.parametrize(
    ("status", "kind"), [("CREATING", FailureKind.TRANSIENT), ("DELETING", FailureKind.MISCONFIGURED)]
)
def test_a_data_stream_that_is_not_active_is_found_before_the_run(
    status: str, kind: FailureKind, gateway: Gateway
) -> None:
    gateway.answer = lambda call: web.json_response({"StreamDescriptionSummary": {"StreamStatus": status}})
    stream = stream_to("events")
    with opened(stream) as destination:
        failure = destination.preflight(stream, "")
    assert failure is not None and failure.kind is kind and status in failure.error


def test_a_role_is_assumed_with_its_external_id(aws: Aws, gateway: Gateway, name: str, tmp_path: Path) -> None:
    stream = stream_to(name, role_arn=ROLE, external_id="organisation-4711", size=10)
    assert deliver(stream, events(30), tmp_path).delivered == 30
    (assumed,) = gateway.of("AssumeRole")
    assert assumed.key == CREDENTIALS["AWS_ACCESS_KEY_ID"]
    asked = {field: assumed.fields[field] for field in ("RoleArn", "ExternalId", "RoleSessionName")}
    assert asked == {"RoleArn": ROLE, "ExternalId": "organisation-4711", "RoleSessionName": "data-streamer"}
    assert {call.key[:4] for call in gateway.of("PutRecords")} == {"ASIA"}
    assert len(aws.records(name)) == 30


def test_a_role_is_assumed_again_before_its_credentials_end(
    aws: Aws, gateway: Gateway, name: str, tmp_path: Path
) -> None:
    gateway.lifetime = timedelta(minutes=5)
    stream = stream_to(name, role_arn=ROLE, size=10)
    assert deliver(stream, events(20), tmp_path).delivered == 20
    assert len(gateway.of("AssumeRole")) >= 2
    assert "ExternalId" not in gateway.of("AssumeRole")[0].fields
    assert len({call.key for call in gateway.of("PutRecords")}) == 2
    gateway.lifetime = timedelta(minutes=-5)
    failure = send(stream, events(1)).failure
    assert failure is not None and failure.kind is FailureKind.MISCONFIGURED


@pytest.mark.parametrize(
    ("code", "status", "kind", "remedy"),
    [
        (
            "AccessDenied",
            403,
            FailureKind.MISCONFIGURED,
            "check role_arn, external_id and the trust policy of the role",
        ),
        ("InvalidClientTokenId", 403, FailureKind.MISCONFIGURED, "correct the job's credentials"),
        ("Throttling", 400, FailureKind.TRANSIENT, "deliver what is pending"),
    ],
)
def test_a_role_that_cannot_be_assumed(
    code: str, status: int, kind: FailureKind, remedy: str, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    xml = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
    gateway.answer = lambda call: (
        web.Response(text=xml, status=status, content_type="text/xml") if call.action == "AssumeRole" else None
    )
    failure = send(stream_to("events", role_arn=ROLE, external_id="wrong"), events(1)).failure
    assert failure is not None and failure.kind is kind
    assert failure.error == f"Kinesis data stream events: its role cannot be assumed: STS answered {code}"
    assert failure.remedy.startswith(remedy)
    assert gateway.of("PutRecords") == []
    assert [record for record in caplog.records if record.name.startswith("botocore")] == []


@pytest.mark.parametrize("role", [None, ROLE])
def test_without_credentials_nothing_is_asked(
    role: str | None, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    failure = send(stream_to("events", role_arn=role), events(1)).failure
    assert failure is not None and failure.kind is FailureKind.MISCONFIGURED
    assert failure.error == "Kinesis data stream events: no credentials (NoCredentialsError)"
    assert gateway.calls == []


def test_without_a_region_the_destination_cannot_be_set_up(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SetupError, match="NoRegionError.*name the region"):
        KinesisDestination(KinesisOptions(stream_name="events")).setup()


def test_mistakes_that_show_without_the_target() -> None:
    assert KinesisDestination.validate(stream_to("events", size=500)) == []
    assert KinesisDestination.validate(stream_to("events", size=501)) == [
        "takes 1 to 500 records in a request: lower batch.size"
    ]
    with pytest.raises(ValidationError) as raised:
        KinesisOptions(stream_name="no spaces", external_id="x1", role_arn="", shards=2, rate={"records_per_second": 1})
    assert {error["loc"] for error in raised.value.errors()} == {
        ("stream_name",), ("role_arn",), ("external_id",), ("shards",)
    }  # fmt: skip


def test_requests_of_several_lanes_share_a_client(aws: Aws, gateway: Gateway, name: str) -> None:
    stream, rows = stream_to(name, role_arn=ROLE), events(20)
    batch = Batch(stream, "events", rows, json_lines("table", "events", rows))
    with opened(stream) as destination, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(destination.send, [batch] * 16))
    assert all(answer.failure is None and not answer.failures for answer in answers)
    assert len(gateway.of("AssumeRole")) == 1
    assert len(aws.records(name)) == 320
