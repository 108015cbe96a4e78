"""The metadata of the flex template, generated from the options of the job.

The console and ``gcloud dataflow flex-template run`` show and check a template's parameters from this file. It is made
from the same argparse definitions that the job parses its command line with, so a new option is a new parameter:
names, help texts, choices, defaults and groups come from argparse; `PARAMETERS` adds what argparse cannot say.

Run ``python -m templates.metadata`` after a change of the options, ``python -m templates.metadata --check`` to see
whether that was forgotten (exit code 1; a test does the same).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.options import StreamerOptions

FILE = Path(__file__).with_name("metadata.json")
"""Where the metadata of the batch template is kept."""

REMOTE_GLOBS = r"^(gs|s3)://[^,]+(,(gs|s3)://[^,]+)*$"
"""Comma-separated globs that workers can read: they share no disk with the launcher."""

REMOTE_PATH = r"^gs://[^,*?]+$"
"""A file or directory in Cloud Storage; the kinds of parameter that browse it take no other."""


@dataclass(frozen=True)
class Parameter:
    """What argparse cannot say about an option.

    Attributes:
      kind: a name of ``google.dataflow.v1beta3.ParameterType``.
      regex: what the whole value must match; checked before the launch.
      required: the job needs it, although argparse does not insist (the job reports all mistakes at once).
      label: what the console calls it; by default the option's name in words.
    """

    kind: str = "TEXT"
    regex: str | None = None
    required: bool = False
    label: str | None = None


PARAMETERS: dict[str, Parameter] = {
    "events": Parameter(regex=REMOTE_GLOBS, label="Event feed"),
    "usage": Parameter(regex=REMOTE_GLOBS, label="Usage feed"),
    "streams": Parameter("GCS_READ_FILE", regex=REMOTE_PATH, label="Streams file"),
    "reasons": Parameter("GCS_READ_FILE", regex=REMOTE_PATH, label="Reasons file"),
    "output": Parameter("GCS_WRITE_FOLDER", regex=REMOTE_PATH, required=True, label="Output directory"),
}
"""The options for which there is more to say, by name."""

LOCAL = frozenset({"no_preflight", "no_report", "processes"})
"""Options that are no parameters: of a local run, or flags, since a parameter has a value. On Dataflow a destination
that cannot be reached before the job is found by `data-streamer test`, and by the job."""


def template_metadata(options: type[Any], name: str, description: str, streaming: bool = False) -> dict[str, Any]:
    """The metadata of a template whose job has these options, as ``TemplateMetadata`` of the Dataflow API reads it.

    Args:
      options: a class with the class method ``_add_argparse_args(parser)`` of Beam's `PipelineOptions`; the options
        that it adds become parameters, Beam's own are set in the launch environment.
      name: what the console calls the template.
      description: what the template does, a sentence or two.
      streaming: whether the job runs without end.

    Raises:
      TypeError: an option takes no value; a template passes each parameter as ``--name=value``.
    """
    metadata: dict[str, Any] = {"name": name, "description": description, "streaming": streaming}
    if streaming:
        # The job drops duplicates itself and names outputs by cell: either mode gives the same rows.
        metadata |= {
            "supportsAtLeastOnce": True,
            "supportsExactlyOnce": True,
            "defaultStreamingMode": "EXACTLY_ONCE",
        }
    return metadata | {"parameters": [_parameter(options, group, action) for group, action in _actions(options)]}


def batch_template() -> dict[str, Any]:
    """The metadata of the batch template, from `pipelines.options.StreamerOptions`."""
    return template_metadata(
        StreamerOptions,
        name="Data Streamer (batch)",
        description="Decodes, de-duplicates and classifies IoT connectivity events and usage records, and delivers "
        "them to streams and a warehouse of Parquet tables, with a ledger that proves that nothing was lost.",
    )


def render(metadata: dict[str, Any]) -> str:
    """The text of the metadata file."""
    return json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"


def _actions(options: type[Any]) -> Iterator[tuple[str | None, argparse.Action]]:
    parser = argparse.ArgumentParser(add_help=False)
    options._add_argparse_args(parser)
    unnamed = {"positional arguments", "options"}
    for group in parser._action_groups:
        for action in group._group_actions:
            if action.dest not in LOCAL:
                yield (None if group.title in unnamed else group.title), action


def _parameter(options: type[Any], group: str | None, action: argparse.Action) -> dict[str, Any]:
    if action.nargs == 0 or not action.option_strings:
        raise TypeError(
            f"{options.__module__}.{options.__name__}: {'/'.join(action.option_strings) or action.dest} cannot be a "
            "template parameter, which is passed as --name=value; give the option a value (a choice of yes and no)"
        )
    known = PARAMETERS.get(action.dest, Parameter())
    parameter: dict[str, Any] = {
        "name": action.dest,
        "label": known.label or action.dest.replace("_", " ").capitalize(),
        "helpText": (action.help or "") % {"default": action.default, "prog": "the job"},
        "isOptional": not (action.required or known.required),
        "paramType": known.kind,
    }
    if action.choices is not None:
        parameter |= {"paramType": "ENUM", "enumOptions": [{"value": str(choice)} for choice in action.choices]}
    elif action.type in (int, float):
        parameter["paramType"] = "NUMBER"
    if known.regex is not None:
        parameter["regexes"] = [known.regex]
    if action.default is not None:
        parameter["defaultValue"] = str(action.default)
    if group is not None:
        parameter["groupName"] = group
    return parameter


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the metadata file, or with ``--check`` only compare it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m templates.metadata", description="Write templates/metadata.json from the options of the job."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the file differs")
    chosen = parser.parse_args(arguments)
    text = render(batch_template())
    if FILE.exists() and FILE.read_text("utf-8") == text:
        return 0
    if chosen.check:
        print("templates/metadata.json differs from pipelines/options.py; run: python -m templates.metadata")
        return 1
    FILE.write_text(text, "utf-8")
    print("wrote templates/metadata.json")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
