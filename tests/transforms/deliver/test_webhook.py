"""The webhook against real HTTP servers on this machine, with and without TLS."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from pipelines.commands.validate import in_words
from schemas.destinations import SecretError
from schemas.streams import Batch as BatchOptions
from schemas.streams import Stream
from tests.servers.http import Answer, Receiver, always, receiver
from tests.servers.proxy import tcp_proxy
from tests.transforms.deliver.support import part_of, rows_of
from transforms.deliver.destination import Outcome
from transforms.deliver.failures import FailureKind, SetupError
from transforms.deliver.push.options import Retry
from transforms.deliver.selection import Selection
from transforms.deliver.webhook import WebhookDestination, WebhookOptions

KEYS = ["whsec_" + base64.b64encode(bytes([number] * 32)).decode() for number in (1, 2)]
SECRET = "Bearer sk-live-4242"


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def stream_to(
    address: str, size: int | None = None, shape: str = "table", content: str = "usage", **options: Any
) -> Stream:
    given = {"url": address, "retry": {"attempts": 1}, **options}
    return Stream(
        name="hook", content=content, shape=shape, destination=WebhookOptions(**given), batch=BatchOptions(size=size)
    )  # fmt: skip


def deliver(stream: Stream, *ids: int) -> Outcome:
    """Delivers records with these ids, as one part."""
    column = "usage_id" if stream.content == "usage" else "event_id"
    rows = rows_of(stream.content, *({column: number} for number in ids))
    destination = WebhookDestination(stream.destination)
    destination.setup()
    try:
        return destination.deliver(part_of(stream.name, stream.content), Selection(rows), stream, "")
    finally:
        destination.close()


def bodies(server: Receiver) -> list[Any]:
    return [json.loads(request.body) for request in server.accepted()]


@pytest.mark.parametrize("shape", ["table", "emnify"])
def test_size_1_sends_a_bare_object_and_any_other_an_array(server: Receiver, shape: str) -> None:
    name = "usage_id" if shape == "table" else "id"
    assert deliver(stream_to(server.address, 1, shape), 7, 8).delivered == 2
    assert [body[name] for body in bodies(server)] == [7, 8]
    deliver(stream_to(server.address, 2, shape), 1, 2, 3)
    deliver(stream_to(server.address, None, shape), 4)
    assert [[record[name] for record in body] for body in bodies(server)[2:]] == [[1, 2], [3], [4]]
    assert {request.headers["content-type"] for request in server.requests} == {"application/json"}


def test_batches_reach_over_parts_and_default_to_3000(server: Receiver) -> None:
    stream = stream_to(server.address)
    destination = WebhookDestination(stream.destination)
    destination.setup()
    rows = rows_of("usage", *({"usage_id": number} for number in range(2_000)))
    parts = [(part_of(stream.name, pane=pane), Selection(rows)) for pane in range(2)]
    outcomes = list(destination.deliver_lane(parts, stream, ""))
    destination.close()
    assert [(part.pane, outcome.delivered) for part, outcome in outcomes] == [(0, 2_000), (1, 2_000)]
    assert [len(body) for body in bodies(server)] == [3_000, 1_000]


@pytest.mark.parametrize("size", [0, 10_001])
def test_sizes_beyond_1_to_10000_are_mistakes(size: int) -> None:
    try:
        stream = stream_to("https://example.com", size)
    except ValidationError:
        assert size == 0
    else:
        assert WebhookDestination.validate(stream) == ["takes batches of 1 to 10,000 records: lower batch.size"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_method_path_query_and_own_headers(server: Receiver, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    headers = {"Authorization": {"env": "HOOK_SECRET"}, "X-Team": "fleet"}
    deliver(stream_to(f"{server.address}/iot/in?tenant=a%20b", method=method, headers=headers), 1)
    (request,) = server.requests
    assert (request.method, request.path) == (method, "/iot/in?tenant=a%20b")
    assert (request.headers["authorization"], request.headers["x-team"]) == (SECRET, "fleet")
    assert request.headers["user-agent"] == "data-streamer"


def test_values_of_headers_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    stream = stream_to("https://example.com/in", headers={"Authorization": {"env": "HOOK_SECRET"}, "X-Team": "fleet-7"})
    destination = WebhookDestination(stream.destination)
    destination.setup()
    shown = [repr(stream), str(stream.destination), stream.model_dump_json(), repr(stream.model_dump()),
             "\n".join(in_words(stream)), repr(destination)]  # fmt: skip
    for text in shown:
        assert SECRET not in text and "fleet-7" not in text
    assert "HOOK_SECRET" in in_words(stream)[-1] and "X-Team" in in_words(stream)[-1]
    assert SECRET.encode() not in pickle.dumps(stream)  # what travels to workers holds the reference


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Authorization": "Basic hidden-value"}, "Authorization is a secret: give it by reference, {env: NAME}"),
        ({"X-Api-Key": "hidden-value"}, "is a secret"),
        ({"Content-Type": "hidden-value"}, "Content-Type is set by the destination itself"),
        ({"webhook-id": "hidden-value"}, "set by the destination itself"),
        ({"X Team": "hidden-value"}, "X Team is no name of a header"),
        ({"X-Team": "hidden-value\r\nX-Other: 1"}, "X-Team has a value that no header can have"),
    ],
)
def test_headers_that_cannot_be_are_refused_without_their_value(headers: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError) as raised:
        WebhookOptions(url="https://example.com", headers=headers)
    assert says in str(raised.value) and "hidden-value" not in str(raised.value)


def test_secret_that_no_header_can_hold_is_refused_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "hidden-value\nX-Other: 1")
    options = WebhookOptions(url="https://example.com", headers={"Authorization": {"env": "HOOK_SECRET"}})
    with pytest.raises(SecretError, match="Authorization in environment variable HOOK_SECRET") as raised:
        WebhookDestination(options).setup()
    assert "hidden-value" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://example.com", "must be https://HOST/PATH"),
        ("https://", "must be https://HOST/PATH"),
        ("https://example.com:port", "must be https://HOST/PATH"),
        ("https://user:hidden-value@example.com", "use the header Authorization"),
        ("http://example.com/in", "http:// is only for this machine and private networks"),
        ("http://93.184.216.34/in", "http:// is only for this machine and private networks"),
    ],
)
def test_addresses_that_cannot_be(url: str, says: str) -> None:
    with pytest.raises(ValidationError) as raised:
        WebhookOptions(url=url)
    assert says in str(raised.value) and "hidden-value" not in str(raised.value)


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "10.0.0.7", "[::1]:80", "receiver", "hooks.iot.svc"])
def test_plain_http_is_for_this_machine_and_private_networks(host: str) -> None:
    assert WebhookOptions(url=f"http://{host}/in").url == f"http://{host}/in"


def test_address_by_reference_is_not_told(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_URL", f"{server.address}/services/T0/hidden-value")
    stream = stream_to("https://example.com", url={"env": "HOOK_URL"})
    assert deliver(stream, 1).delivered == 1
    assert server.requests[0].path == "/services/T0/hidden-value"
    server.script = always(Answer(404))
    failure = deliver(stream, 1).failure
    assert failure is not None and failure.error == f"{server.address} answered 404"
    monkeypatch.setenv("HOOK_URL", "http://example.com/hidden-value")
    with pytest.raises(SecretError, match="HOOK_URL must be https") as raised:
        WebhookDestination(stream.destination).setup()
    assert "hidden-value" not in str(raised.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"Cannot POST /services/T0AB12/hidden%2Dvalue?code=open-sesame", "Cannot POST ***?code=***"),
        (b"Cannot POST /services/T0AB12/hidden-value", "Cannot POST ***"),
        (rb'{"path": "\/services\/T0AB12\/hidden-value"}', r'{"path": "\/***\/***\/***"}'),
        (b"code=open-sesame&amp;v=1 is unknown", "code=***&amp;v=1 is unknown"),
        (b"hidden-value: v1 of 1 knows no such value", "***: v1 of 1 knows no such value"),
    ],
)
def test_address_by_reference_is_masked_where_the_server_repeats_it(
    server: Receiver, monkeypatch: pytest.MonkeyPatch, body: bytes, told: str
) -> None:
    path = "/services/T0AB12/hidden%2Dvalue?code=open-sesame&v=1"
    monkeypatch.setenv("HOOK_URL", server.address + path)
    server.script = always(Answer(404, body + b" at " + server.address.encode() + path.encode()))
    failure = deliver(stream_to("https://example.com", url={"env": "HOOK_URL"}), 1).failure
    assert failure is not None
    for secret in ("services", "T0AB12", "hidden", "open-sesame"):
        assert secret not in failure.error + failure.remedy
    assert failure.error == f"{server.address} answered 404: {told} at ***"


def test_short_parts_of_an_address_by_reference_do_not_mask_an_answer(
    server: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = always(Answer(404, b"a/b is not in /in: see v1"))
    for path in ("/", "/in", "/v1?a=b"):
        monkeypatch.setenv("HOOK_URL", server.address + path)
        failure = deliver(stream_to("https://example.com", url={"env": "HOOK_URL"}), 1).failure
        assert failure is not None and failure.error == f"{server.address} answered 404: a/b is not in /in: see v1"


def test_secret_that_the_server_repeats_is_masked(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    server.script = always(Answer(422, f"unknown token {SECRET} in ?key=1".encode()))
    stream = stream_to(f"{server.address}/in?key=hidden-value", headers={"Authorization": {"env": "HOOK_SECRET"}})
    (letter,) = deliver(stream, 1).dead_letters
    assert letter.message == f"{server.address}/in answered 422: unknown token *** in ?key=1"


def test_https_is_verified(tmp_path: Path) -> None:
    with receiver(directory=tmp_path) as server:
        trusted = stream_to(f"{server.address}/in", certificates=str(server.certificates))
        assert deliver(trusted, 1, 2).delivered == 2
        for options in ({}, {"certificates": str(other_authority(tmp_path))}):
            failure = deliver(stream_to(f"{server.address}/in", **options), 1).failure
            assert failure is not None and failure.kind is FailureKind.MISCONFIGURED
            assert failure.error == f"{server.address}/in: its certificate is not valid or not trusted"
        assert len(server.requests) == 1


def other_authority(directory: Path) -> Path:
    path = directory / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    for content in (None, "no certificate"):
        path = tmp_path / "authorities.pem"
        if content is not None:
            path.write_text(content)
        with pytest.raises(SetupError, match="certificates in .*authorities.pem cannot be read"):
            WebhookDestination(WebhookOptions(url="https://example.com", certificates=str(path))).setup()


def test_preflight_tells_whether_the_server_can_be_reached(tmp_path: Path) -> None:
    with receiver(directory=tmp_path) as server:
        for options, kind in (({"certificates": str(server.certificates)}, None), ({}, FailureKind.MISCONFIGURED)):
            stream = stream_to(server.address, **options)
            destination = WebhookDestination(stream.destination)
            destination.setup()
            failure = destination.preflight(stream, "")
            destination.close()
            assert (failure and failure.kind) == kind
        assert server.requests == []
    destination.setup()
    failure = destination.preflight(stream, "")
    assert failure is not None and failure.kind is FailureKind.TRANSIENT


def test_redirects_are_not_followed(server: Receiver) -> None:
    for status in (301, 302, 307, 308):
        server.script = lambda number, request, status=status: (
            Answer(200) if request.path == "/new" else Answer(status, headers={"Location": f"{server.address}/new"})
        )
        failure = deliver(stream_to(f"{server.address}/old"), 1).failure
        assert failure is not None and failure.kind is FailureKind.MISCONFIGURED
        assert failure.remedy == "redirects are not followed: name the final address"
    assert {request.path for request in server.requests} == {"/old"}


@pytest.mark.parametrize("seconds", [14.9, 30.1])
def test_timeout_is_15_to_30_seconds(seconds: float) -> None:
    with pytest.raises(ValidationError):
        WebhookOptions(url="https://example.com", timeout=seconds)
    assert WebhookOptions(url="https://example.com").timeout == 20


def test_gzip(server: Receiver) -> None:
    deliver(stream_to(server.address, compression="gzip"), 1, 2)
    (request,) = server.requests
    assert request.headers["content-encoding"] == "gzip"
    assert [record["usage_id"] for record in json.loads(gzip.decompress(request.body))] == [1, 2]


def test_connections_are_kept(server: Receiver) -> None:
    with tcp_proxy(int(server.address.rsplit(":", 1)[1])) as proxy:
        server.script = always(Answer(200, b"x" * 20_000))  # longer than what is looked at
        assert deliver(stream_to(f"http://{proxy.address}", 1), *range(20)).delivered == 20
        assert proxy.connections == 1


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_signature_is_that_of_standard_webhooks(
    server: Receiver, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, key in enumerate(KEYS):
        monkeypatch.setenv(f"KEY_{number}", key)
    references = [{"env": "KEY_0"}, {"env": "KEY_1"}]
    deliver(stream_to(server.address, signing_keys=references, compression=compression), 1, 2)
    (request,) = server.requests
    body = gzip.decompress(request.body) if compression == "gzip" else request.body
    for key in KEYS:  # a receiver that knows the old or the new key only
        assert [record["usage_id"] for record in Webhook(key).verify(body, dict(request.headers))] == [1, 2]
    with pytest.raises(WebhookVerificationError):
        Webhook(KEYS[0]).verify(body.replace(b'"usage_id":1', b'"usage_id":9'), dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(b"3" * 32).decode()).verify(body, dict(request.headers))


@pytest.mark.parametrize(("key", "says"), [("whsec_!", "is no base64"), ("whsec_MTIz", "has 3 bytes")])
def test_signing_keys_that_are_none(key: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", key)
    with pytest.raises(SecretError, match=says) as raised:
        WebhookDestination(WebhookOptions(url="https://example.com", signing_keys=[{"env": "KEY"}])).setup()
    assert key not in str(raised.value)


def test_id_is_of_the_records_and_of_nothing_else(server: Receiver) -> None:
    for ids in ((1, 2), (1, 2), (1, 3)):
        deliver(stream_to(server.address), *ids)
    first, again, other = (request.headers["webhook-id"] for request in server.requests)
    assert first == again != other


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FailureKind.MISCONFIGURED), (403, FailureKind.MISCONFIGURED), (404, FailureKind.MISCONFIGURED),
        (410, FailureKind.MISCONFIGURED), (405, FailureKind.MISCONFIGURED), (408, FailureKind.TRANSIENT),
        (429, FailureKind.TRANSIENT), (500, FailureKind.TRANSIENT), (502, FailureKind.TRANSIENT),
        (503, FailureKind.TRANSIENT), (504, FailureKind.TRANSIENT),
    ],
)  # fmt: skip
def test_status_tells_who_is_at_fault(server: Receiver, status: int, kind: FailureKind) -> None:
    server.script = always(Answer(status, b"as the server says"))
    outcome = deliver(stream_to(server.address), 1, 2)
    assert outcome.failure is not None and outcome.failure.kind is kind
    assert outcome.failure.error == f"{server.address} answered {status}: as the server says"
    assert (outcome.delivered, outcome.rest and outcome.rest.num_rows, outcome.dead_letters) == (0, 2, [])
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_throttling_is_heeded(server: Receiver, status: int) -> None:
    server.script = lambda number, request: Answer(status, headers={"Retry-After": "1"}) if number == 1 else Answer()
    started = time.monotonic()
    assert deliver(stream_to(server.address, retry={"attempts": 2}), 1).delivered == 1
    assert 1.0 <= time.monotonic() - started < 5
    first, second = server.requests
    assert first.body == second.body and first.headers["webhook-id"] == second.headers["webhook-id"]


def test_record_at_fault_is_found_by_halving_and_the_others_go_on_in_order(server: Receiver) -> None:
    server.script = lambda number, request: (
        Answer(400, b"usage_id 5 is odd") if b'"usage_id":5,' in request.body else Answer()
    )
    outcome = deliver(stream_to(server.address), *range(8))
    assert (outcome.delivered, outcome.failure) == (7, None)
    (letter,) = outcome.dead_letters
    assert (letter.record_id, letter.reason) == (5, "delivery_rejected")
    assert letter.message == f"{server.address} answered 400: usage_id 5 is odd"
    assert [record["usage_id"] for body in bodies(server) for record in body] == [0, 1, 2, 3, 4, 6, 7]


def test_what_is_too_large_is_halved(server: Receiver) -> None:
    server.script = lambda number, request: Answer(413 if len(json.loads(request.body)) > 2 else 200)
    assert deliver(stream_to(server.address), *range(8)).delivered == 8
    assert [len(body) for body in bodies(server)] == [2, 2, 2, 2]


def test_answer_that_is_cut_counts_as_none(server: Receiver) -> None:
    server.script = lambda number, request: Answer(200, b"taken", cut=True) if number == 1 else Answer()
    assert deliver(stream_to(server.address, retry={"attempts": 3, "seconds": 5}), 1).delivered == 1
    assert len(server.requests) == 2


def test_circuit_opens_and_no_more_requests_are_made(server: Receiver) -> None:
    server.script = always(Answer(500, headers={"Retry-After": "0"}))
    outcome = deliver(stream_to(server.address, retry=Retry(attempts=100, seconds=20)), 1)
    assert outcome.failure is not None and "circuit is open" in outcome.failure.error
    assert len(server.requests) == 10


def read_event(event: Any) -> BaseCloudEvent:
    """An event as CloudEvents' own library reads and checks it."""
    return JSONFormat().read(CloudEvent, json.dumps(event))


@pytest.mark.parametrize("shape", ["table", "emnify"])
@pytest.mark.parametrize("content", ["usage", "events"])
def test_cloud_events(server: Receiver, shape: str, content: str) -> None:
    deliver(stream_to(server.address, None, shape, content, envelope="cloudevents"), 1, 2)
    deliver(stream_to(server.address, 1, shape, content, envelope="cloudevents"), 3)
    deliver(stream_to(server.address, None, shape, content), 1)
    batch, single, plain = server.requests
    assert batch.headers["content-type"] == "application/cloudevents-batch+json"
    assert single.headers["content-type"] == "application/cloudevents+json"
    events = [read_event(event) for event in json.loads(batch.body)] + [read_event(json.loads(single.body))]
    word = "event" if content == "events" else "usage"
    assert [event.get_id() for event in events] == [f"hook/{content}/{number}" for number in (1, 2, 3)]
    assert {(event.get_type(), event.get_source(), event.get_specversion()) for event in events} == {
        (f"iot.connectivity.{word}", "/streams/hook", "1.0")
    }
    assert {event.get_datacontenttype() for event in events} == {"application/json"}
    moment = "2021-11-15T20:00:01" if content == "events" else "2021-11-15T20:00:15.260000"
    assert {event.get_time().replace(tzinfo=None).isoformat() for event in events if event.get_time()} == {moment}
    assert events[0].get_data() == json.loads(plain.body)[0]


def test_cloud_events_of_aggregates_have_the_hour(server: Receiver) -> None:
    stream = stream_to(server.address, content="device_usage_hourly", envelope="cloudevents")
    destination = WebhookDestination(stream.destination)
    destination.setup()
    rows = rows_of("device_usage_hourly", {"endpoint_id": 1}, {"endpoint_id": 2})
    destination.deliver(part_of(stream.name, stream.content), Selection(rows), stream, "")
    destination.close()
    first, second = map(read_event, json.loads(server.requests[0].body))
    assert str(first.get_time()) == "2021-11-15 20:00:00+00:00"
    assert first.get_type() == "iot.connectivity.device_usage_hourly" and first.get_id() != second.get_id()
