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
    assert hook.streams[0]["destination"]["headers"]["X-Team"] == "fleet"
    assert list(hook.variables) == ["FLEET_RESTAPI_HEADER_AUTHORIZATION"]


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
