"""The template's metadata is generated from the options, and what the real Dataflow API type understands."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

import pytest

from pipelines.options import StreamerOptions
from templates import metadata

dataflow_types = pytest.importorskip("google.cloud.dataflow_v1beta3.types")


# No subclasses of PipelineOptions: Beam parses every command line of the process with all of them.
class ExampleOptions:
    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        feeds = parser.add_argument_group("Feeds")
        feeds.add_argument("--events", help="globs, comma separated")
        parser.add_argument("--output", help="output directory")
        parser.add_argument("--buckets", type=int, default=1, help="buckets (default: %(default)s)")
        parser.add_argument("--mode", choices=["fast", "safe"], default="safe", help="100 %% one of two")
        parser.add_argument("--must", required=True, help="needed")


class FlagOptions:
    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--verbose", action="store_true", help="a flag")


def parameters_of(options: type[Any]) -> dict[str, dict[str, Any]]:
    generated = metadata.template_metadata(options, "Example", "An example.")
    return {parameter["name"]: parameter for parameter in generated["parameters"]}


def test_each_option_becomes_a_parameter() -> None:
    parameters = parameters_of(ExampleOptions)
    assert set(parameters) == {"events", "output", "buckets", "mode", "must"}
    assert parameters["events"]["groupName"] == "Feeds"
    assert "groupName" not in parameters["buckets"]
    assert parameters["buckets"]["helpText"] == "buckets (default: 1)"
    assert parameters["buckets"]["paramType"] == "NUMBER"
    assert parameters["buckets"]["defaultValue"] == "1"
    assert parameters["mode"]["enumOptions"] == [{"value": "fast"}, {"value": "safe"}]
    assert parameters["mode"]["helpText"] == "100 % one of two"
    assert {name for name, parameter in parameters.items() if not parameter["isOptional"]} == {"output", "must"}


def test_an_option_without_value_is_refused() -> None:
    with pytest.raises(TypeError, match="FlagOptions: --verbose cannot be a template parameter"):
        metadata.template_metadata(FlagOptions, "Example", "An example.")


@pytest.mark.parametrize("streaming", [False, True])
def test_the_real_type_reads_the_generated_text(streaming: bool) -> None:
    text = metadata.render(metadata.template_metadata(ExampleOptions, "Example", "An example.", streaming))
    read = dataflow_types.TemplateMetadata.from_json(text)  # refuses unknown fields
    assert read.name == "Example"
    assert read.streaming is streaming
    assert {parameter.name for parameter in read.parameters} == {"events", "output", "buckets", "mode", "must"}


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (
            metadata.REMOTE_GLOBS,
            ["gs://b/a*.json.gz", "gs://b/a*,s3://c/d"],
            ["/tmp/a", "gs://b/a,/tmp/b", "gs://b/a,", ""],
        ),
        (metadata.REMOTE_PATH, ["gs://b/out", "gs://b/out/"], ["out", "s3://b/out", "/tmp/out", "gs://b/*", "gs://"]),
    ],
)
def test_patterns_accept_what_workers_can_reach(pattern: str, good: list[str], bad: list[str]) -> None:
    assert [value for value in good if not re.fullmatch(pattern, value)] == []
    assert [value for value in bad if re.fullmatch(pattern, value)] == []


def test_the_kept_file_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert metadata.main(["--check"]) == 0, capsys.readouterr().out


def test_the_kept_file_is_read_by_the_real_type() -> None:
    text = metadata.FILE.read_text("utf-8")
    read = dataflow_types.TemplateMetadata.from_json(text)
    assert [parameter.name for parameter in read.parameters if not parameter.is_optional] == ["output"]
    parser = argparse.ArgumentParser(add_help=False)
    StreamerOptions._add_argparse_args(parser)
    assert {parameter.name for parameter in read.parameters} == set(vars(parser.parse_args([]))) - metadata.LOCAL
    for parameter in json.loads(text)["parameters"]:
        assert parameter["helpText"], parameter["name"]
        for pattern in parameter.get("regexes", ()):
            re.compile(pattern)
        assert parameter["isOptional"] or "defaultValue" not in parameter
    assert set(metadata.PARAMETERS) <= {parameter["name"] for parameter in json.loads(text)["parameters"]}
