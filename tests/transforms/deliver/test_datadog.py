"""Datadog's own client against a server on this machine that plays the intake."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from datadog_api_client.model_utils import validate_and_convert_types
from datadog_api_client.v2.model.http_log import HTTPLog
from datadog_api_client.v2.model.metric_payload import MetricPayload
from pydantic import ValidationError

from schemas.destinations import SecretError
from schemas.streams import Batch as BatchOptions
from schemas.streams import Stream
from tests.servers.http import Answer, Receiver, always, receiver
from tests.transforms.deliver.support import HOUR, part_of, rows_of
from transforms.deliver.datadog import SITES, DatadogDestination, DatadogOptions
from transforms.deliver.destination import Outcome
from transforms.deliver.failures import FailureKind
from transforms.deliver.selection import Selection

KEY = "0123456789abcdef0123456789abcdef"
SECONDS = HOUR // 1_000_000


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATADOG_KEY", KEY)


@pytest.fixture
def intake() -> Iterator[Receiver]:
    with receiver(always(Answer(202, b'{"errors":[]}'))) as running:
        yield running


def stream_to(
    address: str | None, content: str = "events", shape: str = "emnify", size: int | None = None, **options: Any
) -> Stream:
    given = {"api_key": {"env": "DATADOG_KEY"}, "endpoint": address, "retry": {"attempts": 1}, **options}
    destination = DatadogOptions(**given)
    return Stream(name="dog", content=content, shape=shape, destination=destination, batch=BatchOptions(size=size))


def deliver(stream: Stream, *changes: dict[str, Any]) -> Outcome:
    destination = DatadogDestination(stream.destination)
    destination.setup()
    try:
        rows = Selection(rows_of(stream.content, *changes))
        return destination.deliver(part_of(stream.name, stream.content), rows, stream, "")
    finally:
        destination.close()


def sent(intake: Receiver) -> list[Any]:
    return [json.loads(gzip.decompress(request.body)) for request in intake.requests]


def events(count: int) -> list[dict[str, Any]]:
    return [{"event_id": number} for number in range(count)]


def points_of(intake: Receiver) -> dict[tuple[str, tuple[str, ...]], list[tuple[int, float]]]:
    """Points by metric and tags; the series are read as Datadog's own model, which checks them."""
    found = {}
    for body in sent(intake):
        payload = validate_and_convert_types(body, (MetricPayload,), ["body"], True, True, None)
        for series in payload.series:
            assert int(series.type.value) == 1
            points = [(point.timestamp, point.value) for point in series.points]
            found[series.metric, tuple(series.tags)] = points
    return found


@pytest.mark.parametrize("shape", ["emnify", "table"])
def test_events_are_logs(intake: Receiver, shape: str) -> None:
    changes = [{"event_id": 1}, {"event_id": 2, "severity": "WARN", "description": "Übel ist’s"},
               {"event_id": 3, "severity": "CRITICAL", "description": None}]  # fmt: skip
    outcome = deliver(stream_to(intake.address, shape=shape, tags=["env:test", "team:a"]), *changes)
    assert (outcome.delivered, outcome.failure) == (3, None)
    (request,), (entries,) = intake.requests, sent(intake)
    assert (request.method, request.path) == ("POST", "/api/v2/logs")
    assert (request.headers["dd-api-key"], request.headers["content-encoding"]) == (KEY, "gzip")
    assert request.headers["content-type"] == "application/json"
    assert len(validate_and_convert_types(entries, (HTTPLog,), ["body"], True, True, None).value) == 3
    assert [entry["status"] for entry in entries] == ["info", "warning", "critical"]
    assert [entry["message"] for entry in entries] == [
        "New PDP Context successfully activated.", "Übel ist’s", "Create PDP Context",
    ]  # fmt: skip
    assert {entry["timestamp"] for entry in entries} == {HOUR // 1_000 + 1_000}
    assert {(entry["ddsource"], entry["service"], entry["ddtags"]) for entry in entries} == {
        ("emnify", "dog", "env:test,team:a")
    }
    assert [entry["delivery_id"] for entry in entries] == ["dog/events/1", "dog/events/2", "dog/events/3"]
    name = "id" if shape == "emnify" else "event_id"
    assert [entry["event"][name] for entry in entries] == [1, 2, 3]


def test_logs_are_sent_in_thousands(intake: Receiver) -> None:
    assert deliver(stream_to(intake.address), *events(1_500)).delivered == 1_500
    assert [len(entries) for entries in sent(intake)] == [1_000, 500]


def test_logs_that_would_be_cut_are_dead_letters(intake: Receiver) -> None:
    outcome = deliver(stream_to(intake.address), {"event_id": 1}, {"event_id": 2, "description": "ü" * 90_000})
    (letter,) = outcome.dead_letters
    assert (outcome.delivered, letter.record_id, letter.reason) == (1, 2, "too_large")


def test_requests_stay_below_5_MB_also_with_escapes(intake: Receiver) -> None:
    changes = [{"event_id": number, "description": "ü" * 50_000} for number in range(40)]
    assert deliver(stream_to(intake.address), *changes).delivered == 40
    bodies = [gzip.decompress(request.body) for request in intake.requests]
    assert max(map(len, bodies)) <= 5_000_000 and len(bodies) < 10
    assert max(len(json.dumps(entry)) for body in bodies for entry in json.loads(body)) <= 1_000_000


def test_usage_is_points_at_the_records_own_time(intake: Receiver) -> None:
    outcome = deliver(stream_to(intake.address, "usage", tags=["env:test"]), {"usage_id": 1})
    assert (outcome.delivered, outcome.failure) == (1, None)
    assert intake.requests[0].path == "/api/v2/series"
    tags = ("traffic_type:data", "organisation:Example Organization", "organisation_id:12345",
            "endpoint:Example Device", "endpoint_id:123456789", "iccid:89883030000080139311",
            "operator:Telefonica O2", "country:DE")  # fmt: skip
    moment = SECONDS + 15
    assert points_of(intake) == {
        ("endpoint.volume", (*tags, "env:test")): [(moment, 0.219933)],
        ("endpoint.volume_rx", (*tags, "env:test")): [(moment, 0.172848)],
        ("endpoint.volume_tx", (*tags, "env:test")): [(moment, 0.047085)],
        ("endpoint.cost", (*tags, "currency:EUR", "env:test")): [(moment, 0.00188512)],
    }


def test_records_of_one_second_and_the_same_tags_are_added_up_exactly(intake: Receiver) -> None:
    cents = {"volume_total": Decimal("0.1"), "volume_rx": None, "cost": None}
    deliver(
        stream_to(intake.address, "usage", dimensions=["endpoint_id"]),
        {**cents, "usage_id": 1}, {**cents, "usage_id": 2}, {**cents, "usage_id": 3},
        {**cents, "usage_id": 4, "end_time": HOUR + 9_000_000}, {**cents, "usage_id": 5, "endpoint_id": 7},
        {**cents, "usage_id": 6, "traffic_type": "sms", "end_time": None},
    )  # fmt: skip
    points = points_of(intake)
    device = ("traffic_type:data", "endpoint_id:123456789")
    assert points["endpoint.volume", device] == [(SECONDS + 9, 0.1), (SECONDS + 15, 0.3)]
    assert points["endpoint.volume", ("traffic_type:data", "endpoint_id:7")] == [(SECONDS + 15, 0.1)]
    assert points["endpoint.volume", ("traffic_type:sms", "endpoint_id:123456789")] == [(SECONDS + 1, 0.1)]
    assert {metric for metric, _ in points} == {"endpoint.volume", "endpoint.volume_tx"}


def test_costs_of_different_currencies_are_never_added(intake: Receiver) -> None:
    stream = stream_to(intake.address, "usage", dimensions=[])
    deliver(stream, {"usage_id": 1, "cost": Decimal(1)}, {"usage_id": 2, "cost": Decimal(2), "currency": "USD"})
    points = points_of(intake)
    assert points["endpoint.cost", ("traffic_type:data", "currency:EUR")] == [(SECONDS + 15, 1.0)]
    assert points["endpoint.cost", ("traffic_type:data", "currency:USD")] == [(SECONDS + 15, 2.0)]


def test_what_is_missing_is_no_tag_and_long_tags_are_cut(intake: Receiver) -> None:
    stream = stream_to(intake.address, "usage", dimensions=["organisation", "endpoint"])
    deliver(stream, {"usage_id": 1, "endpoint_name": None, "organisation_name": "x" * 300})
    assert {tags[:2] for _, tags in points_of(intake)} >= {("traffic_type:data", "organisation:" + "x" * 187)}


def test_size_of_the_stream_is_obeyed(intake: Receiver) -> None:
    deliver(stream_to(intake.address, size=2), *events(3))
    assert [len(entries) for entries in sent(intake)] == [2, 1]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FailureKind.MISCONFIGURED), (403, FailureKind.MISCONFIGURED), (404, FailureKind.MISCONFIGURED),
        (302, FailureKind.MISCONFIGURED), (408, FailureKind.TRANSIENT), (429, FailureKind.TRANSIENT),
        (500, FailureKind.TRANSIENT), (503, FailureKind.TRANSIENT),
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", ["events", "usage"])
def test_status_tells_who_is_at_fault(intake: Receiver, status: int, kind: FailureKind, content: str) -> None:
    said = f'{{"errors": ["key {KEY} is unknown"]}}'.encode()
    intake.script = always(Answer(status, said, {"Location": f"{intake.address}/elsewhere"}))
    outcome = deliver(stream_to(intake.address, content), {})
    assert outcome.failure is not None and outcome.failure.kind is kind
    path = "logs" if content == "events" else "series"
    expected = f'{intake.address}/api/v2/{path} answered {status}: {{"errors":["key *** is unknown"]}}'
    assert outcome.failure.error == expected
    assert len(intake.requests) == 1  # the client does not try again, and follows nothing


@pytest.mark.parametrize("header", ["X-RateLimit-Reset", "Retry-After"])
def test_rate_limit_is_waited_for(intake: Receiver, header: str) -> None:
    intake.script = lambda number, request: Answer(429, b"", {header: "1"}) if number == 1 else Answer(202)
    started = time.monotonic()
    assert deliver(stream_to(intake.address, retry={"attempts": 2}), {}).delivered == 1
    assert 1 <= time.monotonic() - started < 5 and len(intake.requests) == 2


def test_what_is_too_large_is_halved_and_what_is_bad_is_found(intake: Receiver) -> None:
    def script(number: int, request: Any) -> Answer:
        entries = json.loads(gzip.decompress(request.body))
        if len(entries) > 4:
            return Answer(413)
        return Answer(400 if any(entry["event"]["id"] == 5 for entry in entries) else 202)

    intake.script = script
    outcome = deliver(stream_to(intake.address), *events(8))
    (letter,) = outcome.dead_letters
    assert (outcome.delivered, letter.record_id, letter.reason) == (7, 5, "delivery_rejected")


def test_errors_in_an_answer_that_accepts_are_refusals(intake: Receiver) -> None:
    intake.script = always(Answer(202, b'{"errors": ["metric name is not valid"]}'))
    (letter,) = deliver(stream_to(intake.address, "usage"), {"usage_id": 9}).dead_letters
    assert letter.record_id == 9 and "metric name is not valid" in letter.message


def test_answers_that_never_come_or_are_cut(intake: Receiver) -> None:
    for answer in (Answer(hang=True), Answer(202, b'{"errors":[]}', cut=True), Answer(cut=True)):
        intake.script = always(answer)
        started = time.monotonic()
        failure = deliver(stream_to(intake.address, timeout=1), {}).failure
        assert failure is not None and failure.kind is FailureKind.TRANSIENT and "no answer" in failure.error
        assert time.monotonic() - started < 4


def test_preflight_asks_whether_the_key_is_valid(intake: Receiver) -> None:
    stream = stream_to(intake.address)
    destination = DatadogDestination(stream.destination)
    destination.setup()
    intake.script = always(Answer(200, b'{"valid":true}'))
    assert destination.preflight(stream, "") is None
    intake.script = always(Answer(403, b'{"errors":["Forbidden"]}'))
    failure = destination.preflight(stream, "")
    destination.close()
    assert failure is not None and failure.kind is FailureKind.MISCONFIGURED
    assert {(request.method, request.path) for request in intake.requests} == {("GET", "/api/v1/validate")}


def test_regions_are_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_SITE", "example.com")  # what Datadog's client looks at must not lead elsewhere
    hosts = {}
    for region in SITES:
        destination = DatadogDestination(DatadogOptions(region=region, api_key={"env": "DATADOG_KEY"}))
        hosts[region] = destination._host("api"), destination._host("http-intake.logs")
    assert DatadogOptions(api_key={"env": "DATADOG_KEY"}).region == "US"
    assert hosts["US"] == ("https://api.datadoghq.com", "https://http-intake.logs.datadoghq.com")
    assert hosts["US3"][1] == "https://http-intake.logs.us3.datadoghq.com"
    assert hosts["EU"] == ("https://api.datadoghq.eu", "https://http-intake.logs.datadoghq.eu")
    assert hosts["US1FED"][0] == "https://api.ddog-gov.com"


def test_mistakes_are_found_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stream_to(None, "device_usage_hourly", "table")
    assert DatadogDestination.validate(stream) == [
        "takes events (as logs) and usage (as metrics), not device_usage_hourly"
    ]
    with pytest.raises(ValidationError, match="given by reference"):
        DatadogOptions(api_key=KEY)
    with pytest.raises(ValidationError, match="must not hold a user or password"):
        stream_to("https://user:word@example.com")
    with pytest.raises(ValidationError, match="http:// is only for this machine"):
        stream_to("http://example.com")
    monkeypatch.delenv("DATADOG_KEY")
    with pytest.raises(SecretError, match="DATADOG_KEY"):
        DatadogDestination(stream.destination).setup()
