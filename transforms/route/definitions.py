"""Reads stream definitions with all destination types that there are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.file_systems import missing_client
from schemas.masks import MaskEntry
from schemas.reasons import REASONS
from schemas.streams import Report, Stream, streams_schema
from schemas.streams_file import Mistake, StreamsFileError, parse_streams, read_streams_file
from schemas.yaml_source import read_yaml
from transforms.deliver import failures, storage
from transforms.deliver.destination import Kind
from transforms.deliver.registry import DESTINATIONS, check_streams, options_models

__all__ = ["StreamsFileError", "load_report_mask", "load_streams", "streams_json_schema"]


def load_streams(
    path: str, *, reasons: tuple[str, ...] = REASONS, environment: Mapping[str, str] | None = None
) -> list[Stream]:
    """The streams of a file, checked without touching any destination.

    Args:
      path: a YAML file (``docs/streams.md``), local or on any Beam file system.
      reasons: the reasons that events can have; give `schemas.reasons.reason_names` of an operator's own table.
      environment: variables for ``${NAME}``; by default those of the process.

    Raises:
      StreamsFileError: with every mistake, each as ``file:line:column path: message``.
    """
    if storage.is_remote(path):
        return parse_streams(
            _read_remote(path), path, options_models(), check=_check, reasons=reasons, environment=environment
        )
    return read_streams_file(path, options_models(), check=_check, reasons=reasons, environment=environment)


def check_text(text: str, name: str) -> list[Stream]:
    """The streams of a file's text, checked as `load_streams` does.

    Raises:
      StreamsFileError: with every mistake.
    """
    return parse_streams(text, name, options_models(), check=_check, reasons=REASONS)


def load_report_mask(path: str, *, environment: Mapping[str, str] | None = None) -> tuple[MaskEntry, ...]:
    """What the report hides by a streams file in which `load_streams` found no mistake."""
    text = _read_remote(path) if storage.is_remote(path) else Path(path).read_text(encoding="utf-8-sig")
    value = read_yaml(text, path, os.environ if environment is None else environment).value
    return Report.model_validate(value.get("report", {})).mask


def _read_remote(path: str) -> str:
    missing = missing_client(path)
    if missing is not None:
        text = f"needs {missing[0]}, which is not installed: {missing[1]}"
        raise StreamsFileError([Mistake(path, 1, 1, "", text)])
    try:
        return storage.read(path).decode("utf-8-sig")
    except Exception as error:
        status = failures.http_status(error)
        text = f"cannot be read ({type(error).__name__}{f' {status}' if status else ''})"
        raise StreamsFileError([Mistake(path, 1, 1, "", f"{text}; check the address and your permission")]) from error


def streams_json_schema() -> dict[str, Any]:
    """JSON Schema of a streams file, with the options of every destination type."""
    return streams_schema(options_models())


def _check(streams: Sequence[Stream]) -> list[tuple[int, str, str]]:
    mistakes = check_streams(streams)
    for at, stream in enumerate(streams):
        kind = stream.destination.type
        if "batch" in stream.model_fields_set and DESTINATIONS[kind].kind is Kind.STORED:
            mistakes.append((at, "batch", f"{kind} writes by hour and takes no batch: remove it"))
    return mistakes
