"""emnify's data streams as a streams file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipelines.commands import main
from schemas.emnify_streams import convert
from transforms.route.definitions import check_text

ROLE = "arn:aws:iam::123456789012:role/streams"
TYPES: dict[str, dict[str, Any]] = {
    "AwsKinesis": {"region": "eu-west-1", "stream_name": "iot", "role_arn": ROLE},
    "S3": {
        "region": "eu-west-1", "bucket_name": "iot", "role_arn": ROLE, "flush_size": 20000, "rotate_interval": 60000,
    },
    "RestAPI": {
        "url": "https://example.com/in", "method": "PUT", "size": 1,
        "headers": ["Authorization:Basic aHVudGVyMg==", "X-Team: fleet"],
    },
    "KeenIO": {"project_id": "5f", "write_key": "hunter2", "collection_name": "events"},
    "Datadog": {"api_key": "hunter2", "region": "EU"},
    "EventHubs": {"connection_string": "Endpoint=sb://x/;SharedAccessKey=hunter2;EntityPath=iot"},
    "PubSub": {"cps_topic": "iot", "cps_project": "acme-project"},
}  # fmt: skip
"""Connection type → credentials, with every field of the OpenAPI document of 2023."""

OURS = {"AwsKinesis": "kinesis", "S3": "s3", "RestAPI": "webhook", "KeenIO": "webhook", "Datadog": "datadog",
        "EventHubs": "eventhubs", "PubSub": "pubsub"}  # fmt: skip


def payload(kind: str, **more: Any) -> dict[str, Any]:
    packing = "Csv" if kind == "S3" else "Json"
    return {
        "id": "a1b2c3d4",
        "name": f"Fleet {kind}",
        "data_stream_type": {"id": 2, "description": "Events"},
        "destination": {"connection_type": kind, "format": packing, "credentials": TYPES[kind]},
        "filters": [{"field": "event_type_id", "value": [1, 2, 3]}, {"or": [{"field": "alert", "value": True}]}],
        "relation_resolution": {"id": 3, "description": "Both"},
        "status": {"id": 1, "description": "Running"},
        **more,
    }


@pytest.mark.parametrize("kind", TYPES)
def test_each_connection_type_becomes_a_valid_stream_without_secrets(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, written = tmp_path / "streams.json", tmp_path / "streams.yaml"
    given.write_text(json.dumps(payload(kind)))
    assert main(["import", str(given), f"--output={written}"]) == 0
    said = capsys.readouterr()
    text = written.read_text()
    for secret in ("hunter2", "aHVudGVyMg"):
        assert secret not in text + said.out + said.err
    (stream,) = check_text(text, "written")
    assert stream.destination.type == OURS[kind] and stream.title == f"Fleet {kind}" and stream.state == "running"
    assert stream.filter.model_dump(exclude_defaults=True)
    assert stream.shape == ("csv" if kind == "S3" else "emnify")


def test_fields_are_taken_over() -> None:
    s3 = convert(payload("S3")).streams[0]["destination"]
    assert (s3["bucket"], s3["flush_size"], s3["rotate_interval"]) == ("iot", 20_000, 60.0)
    hook = convert(payload("RestAPI"))
    assert hook.streams[0]["batch"] == {"size": 1} and hook.streams[0]["destination"]["method"] == "PUT"
    assert hook.streams[0]["destination"]["url"] == "https://example.com/in"


def hook(tmp_path: Path, **credentials: Any) -> tuple[int, dict[str, Any], Path]:
    """Imports a webhook: exit code, its destination as it was written, and the file."""
    given, written = tmp_path / "streams.json", tmp_path / "streams.yaml"
    destination = {"connection_type": "RestAPI", "credentials": {"url": "https://example.com/in", **credentials}}
    given.write_text(json.dumps({"name": "hook", "data_stream_type": {"id": 2}, "destination": destination}))
    code = main(["import", str(given), f"--output={written}"])
    streams = YAML(typ="safe").load(written.read_text())["streams"] if written.exists() else [{"destination": {}}]
    return code, streams[0]["destination"], written


def test_every_header_becomes_a_reference_whatever_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["X-Functions-Key:hunter2", "X-Auth: hunter2:hunter2", "X_Auth:hunter2", "X-Team:hunter2"]
    code, destination, written = hook(tmp_path, headers=lines)
    assert code == 0 and destination["headers"] == {
        "X-Functions-Key": {"env": "HOOK_HEADER_X_FUNCTIONS_KEY"},
        "X-Auth": {"env": "HOOK_HEADER_X_AUTH"},
        "X_Auth": {"env": "HOOK_HEADER_X_AUTH_2"},
        "X-Team": {"env": "HOOK_HEADER_X_TEAM"},
    }
    said = capsys.readouterr()
    assert "hunter2" not in written.read_text() + said.out + said.err
    for line in ("set HOOK_HEADER_X_FUNCTIONS_KEY: the value of the header X-Functions-Key",
                 "set HOOK_HEADER_X_AUTH: the value of the header X-Auth",
                 "set HOOK_HEADER_X_AUTH_2: the value of the header X_Auth"):  # fmt: skip
        assert line in said.err
    assert "note:" not in said.err


def test_what_emnify_masked_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, destination, written = hook(tmp_path, headers=["X-Auth:****", "****"], url="https://example.com/****")
    assert code == 0 and "***" not in written.read_text()
    assert destination["headers"] == {"X-Auth": {"env": "HOOK_HEADER_X_AUTH"}}
    said = capsys.readouterr().err
    assert "note: hook: the file has asterisks in place of what belongs in HOOK_HEADER_X_AUTH" in said
    assert "note: hook: the file has asterisks in place of what belongs in HOOK_URL" in said
    assert "note: hook: emnify masked headers[1] with its name" in said
    credentials = {"connection_string": "Endpoint=sb://x/;SharedAccessKey=****;EntityPath=iot"}
    found = convert(payload("EventHubs", destination={"connection_type": "EventHubs", "credentials": credentials}))
    assert any("FLEET_EVENTHUBS_CONNECTION_STRING" in note for note in found.notes)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/api/in?code=hunter2",
        "https://hooks.example.com/services/T0/B0/hunter2hunter2hunter2",
        "https://example.com/in#hunter2",
    ],
)
def test_address_that_may_be_a_secret_becomes_a_reference(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, destination, written = hook(tmp_path, url=url)
    said = capsys.readouterr()
    assert code == 0 and destination["url"] == {"env": "HOOK_URL"} and "set HOOK_URL: the URL" in said.err
    assert "hunter2" not in written.read_text() + said.out + said.err and "headers" not in destination


def test_user_of_an_address_becomes_a_header(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, destination, written = hook(tmp_path, url="https://fleet:hunter2@example.com/in")
    said = capsys.readouterr()
    assert code == 0 and destination["url"] == {"env": "HOOK_URL"}
    assert destination["headers"] == {"Authorization": {"env": "HOOK_HEADER_AUTHORIZATION"}}
    assert "set HOOK_URL: the URL, without its user and password" in said.err
    assert "set HOOK_HEADER_AUTHORIZATION: Basic, a space, and USER:PASSWORD" in said.err
    assert "hunter2" not in written.read_text() + said.out + said.err
    own = hook(tmp_path, url="https://fleet:hunter2@example.com/in", headers=["authorization: Basic x"])[1]
    assert own["headers"] == {"authorization": {"env": "HOOK_HEADER_AUTHORIZATION"}}


@pytest.mark.parametrize(
    ("credentials", "says"),
    [
        ({"url": "hunter2"}, "credentials.url: must be https://HOST/PATH"),
        ({"url": "https://[hunter2"}, "credentials.url: must be https://HOST/PATH"),
        ({"url": ["hunter2"]}, "credentials.url: must be https://HOST/PATH"),
        ({"headers": "X-Auth:hunter2"}, "credentials.headers: must be a list of texts NAME:VALUE"),
        ({"headers": ["X-Team:1", "hunter2"]}, "credentials.headers[1]: must be a text NAME:VALUE"),
        ({"headers": ["Basic hunter2: x"]}, "credentials.headers[0]: must be a text NAME:VALUE"),
        ({"headers": [["hunter2"]]}, "credentials.headers[0]: must be a text NAME:VALUE"),
        ({"headers": ["X-Auth:hunter2", "x-auth:hunter2"]}, "credentials.headers[1]: x-auth was given before"),
    ],
)
def test_mistakes_of_secrets_are_told_without_them(
    credentials: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, written = hook(tmp_path, **credentials)
    said = capsys.readouterr()
    assert code == 2 and says in said.err and "hunter2" not in said.out + said.err and not written.exists()


@pytest.mark.parametrize(
    ("kind", "name"), [("S3", "flush_size"), ("S3", "rotate_interval"), ("RestAPI", "size"), ("KeenIO", "size")]
)
@pytest.mark.parametrize("value", ["abc", "", 1.5, float("inf"), True, [1], "1_000"])
def test_numbers_that_are_none_are_mistakes(kind: str, name: str, value: Any) -> None:
    given = payload(kind)
    given["destination"]["credentials"] = {**TYPES[kind], name: value}
    found = convert([given])
    assert found.mistakes == [f"[0].destination.credentials.{name}: expected a whole number, not {value!r}"]


def test_numbers_may_be_texts() -> None:
    given = payload("S3")
    given["destination"]["credentials"] = {**TYPES["S3"], "flush_size": "30000", "rotate_interval": 90000.0}
    target = convert(given).streams[0]["destination"]
    assert (target["flush_size"], target["rotate_interval"]) == (30_000, 90.0)


def test_a_connection_type_that_is_no_text_is_a_mistake() -> None:
    (told,) = convert(payload("S3", destination={"connection_type": ["S3"]})).mistakes
    assert "destination.connection_type: ['S3'] is none of" in told


def test_both_kinds_become_two_streams_and_paused_stays_paused() -> None:
    found = convert(payload("PubSub", data_stream_type={"id": 3}, status={"id": 2}))
    assert [(stream["content"], stream["state"]) for stream in found.streams] == [
        ("events", "paused"),
        ("usage", "paused"),
    ]
    assert "filter" in found.streams[0] and "filter" not in found.streams[1]
    assert any("two streams" in note for note in found.notes)


def test_same_names_are_told_apart() -> None:
    names = [stream["name"] for stream in convert([payload("PubSub"), payload("PubSub")]).streams]
    assert names == ["fleet-pubsub", "fleet-pubsub-2"]


def test_all_mistakes_are_told_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [
        payload("PubSub", data_stream_type={"id": 9}),
        {"name": "x", "data_stream_type": {"id": 1}, "destination": {"connection_type": "Pubsub", "credentials": {}}},
        {"name": "y", "data_stream_type": 1, "destination": {"connection_type": "S3", "credentials": {"region": "r"}}},
        "z",
    ]
    given, written = tmp_path / "streams.json", tmp_path / "streams.yaml"
    given.write_text(json.dumps(wrong))
    assert main(["import", str(given), f"--output={written}"]) == 2
    said = capsys.readouterr().err
    for text in (
        "[0].data_stream_type: expected 1", "[1].destination.connection_type: 'Pubsub' is none of",
        "did you mean PubSub?", "[2].destination.credentials.bucket_name: missing", "[3]: must be an object",
    ):  # fmt: skip
        assert text in said, said
    assert not written.exists()


def test_no_json_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = tmp_path / "streams.json"
    given.write_text("{name: x}")
    assert main(["import", str(given)]) == 2
    assert "is no JSON" in capsys.readouterr().err


def test_without_a_file_it_prints_the_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = tmp_path / "streams.json"
    given.write_text(json.dumps(payload("PubSub")))
    assert main(["import", str(given)]) == 0
    assert YAML(typ="safe").load(capsys.readouterr().out)["streams"][0]["name"] == "fleet-pubsub"
