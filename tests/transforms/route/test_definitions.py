"""Streams files with the real destination types, their JSON Schema, and the document about them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from schemas.streams_file import parse_streams
from transforms.deliver.registry import DESTINATIONS, options_models
from transforms.route import describe
from transforms.route.definitions import StreamsFileError, load_streams, streams_json_schema
from transforms.route.document import filled_in

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
DOCUMENT = (ROOT / "docs" / "streams.md").read_text(encoding="utf-8")
YAML_BLOCKS = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)


def plain(text: str) -> Any:
    return json.loads(json.dumps(YAML(typ="safe").load(text)))


def wrapped(block: str) -> str:
    """A block of the document as a whole file."""
    if block.startswith("streams:"):
        return block
    head = "streams:\n  - name: a\n    content: events\n    destination: {type: files}\n"
    return head + "".join(f"    {line}\n" for line in block.splitlines())


def test_the_examples_are_right_and_say_what_they_take() -> None:
    streams = load_streams(str(ROOT / "examples" / "streams.yaml"), environment={})
    assert {stream.name: describe(stream.filter) for stream in streams} == {
        "warnings": "(severity is WARN or graver) or (outcome is rejected)",
        "usage-archive": "everything",
        "device-usage": "traffic type is data",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_schema_accepts_the_examples(path: Path) -> None:
    jsonschema.validate(plain(path.read_text(encoding="utf-8")), streams_json_schema())


@pytest.mark.parametrize("block", [block for block in YAML_BLOCKS if not block.startswith("# yaml-language-server")])
def test_what_the_document_shows_is_right(block: str) -> None:
    text = wrapped(block)
    assert parse_streams(text, "streams.md", options_models(), environment={})
    jsonschema.validate(plain(text), streams_json_schema())


def test_the_document_is_up_to_date() -> None:
    assert filled_in(DOCUMENT) == DOCUMENT, "run `python -m transforms.route.document`"


def test_the_schema_serves_editors() -> None:
    schema = streams_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    definitions = schema["$defs"]
    for name in ("Stream", "Filter"):
        for key, field in definitions[name]["properties"].items():
            assert field.get("description"), f"{name}.{key} has no description"
        assert definitions[name]["additionalProperties"] is False
    options = definitions["Stream"]["properties"]["destination"]["discriminator"]["mapping"]
    assert set(options) == set(DESTINATIONS)
    assert definitions["Stream"]["properties"]["content"]["enum"][:2] == ["events", "usage"]


@pytest.mark.parametrize(
    "stream",
    [
        {"name": "A"},
        {"content": "dead_letters"},
        {"filter": {"min_severity": "WARNIGN"}},
        {"filter": {"severities": "WARN"}},
        {"filter": {"any_of": []}},
        {"filter": [{"field": "severity", "value": "WARN"}]},
        {"destination": {"type": "nowhere"}},
        {"destination": {"type": "files", "pth": "x"}},
        {"format": "xml"},
        {"unknown": 1},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(stream: dict[str, Any]) -> None:
    whole = {"name": "a", "content": "events", "destination": {"type": "files"}} | stream
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"streams": [whole]}, streams_json_schema())
    with pytest.raises(StreamsFileError):
        parse_streams(json.dumps({"streams": [whole]}), "streams.yaml", options_models(), environment={})


def test_what_only_destinations_can_see_has_its_place_too(tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text(
        "streams:\n"
        "  - {name: a, content: events, destination: {type: files, path: /data}}\n"
        "  - {name: b, content: events, destination: {type: files, path: /data}}\n"
        "  - {name: c, content: events, destination: {type: null}, batch: {size: 5}}\n",
        encoding="utf-8",
    )
    with pytest.raises(StreamsFileError) as caught:
        load_streams(str(path))
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{path}:3:65 streams[1].destination.path: ")
    assert second == f"{path}:4:66 streams[2].batch: null writes by hour and takes no batch: remove it"


def test_a_type_named_null_needs_no_quotes() -> None:
    text = "streams:\n  - {name: a, content: events, destination: {type: null}}\n"
    (stream,) = parse_streams(text, "streams.yaml", options_models(), environment={})
    assert stream.destination.type == "null"
