"""The streams file: reads it, and reports every mistake with its place.

A mistake reads ``streams.yaml:7:22 streams[1].filter.min_severity: 'WARNIGN' is none of INFO, WARN, CRITICAL (did you
mean WARN?)``. All mistakes are found at once, except that a file that is not YAML has one only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from schemas.definition import MISSING, UNKNOWN_KEY
from schemas.destinations import DestinationOptions
from schemas.reasons import REASONS
from schemas.streams import Stream, read_streams
from schemas.yaml_source import Mistake, YamlSource, read_yaml

_AT_KEY = {UNKNOWN_KEY, "content_key"}


class StreamsFileError(Exception):
    """A streams file that cannot be used; the text holds one line per mistake, in the order of the file.

    Attributes:
      mistakes: the mistakes.
    """

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = sorted(set(mistakes))
        super().__init__("\n".join(map(str, self.mistakes)))


Check = Callable[[Sequence[Stream]], list[tuple[int, str, str]]]
"""Finds what only destinations can see: for each mistake the stream's index, the path of the field, what is wrong."""


def read_streams_file(
    path: str,
    options: Mapping[str, type[DestinationOptions]],
    *,
    check: Check | None = None,
    reasons: tuple[str, ...] = REASONS,
    environment: Mapping[str, str] | None = None,
) -> list[Stream]:
    """The streams of a file, in its order.

    Args:
      path: the file; its name as given stands in the messages.
      options: the options model of each destination type.
      check: a further check of the streams that are right so far; it also runs if others are wrong.
      reasons: the reasons that events can have; an operator's own table adds to them.
      environment: variables for ``${NAME}``; by default those of the process.

    Raises:
      StreamsFileError: with every mistake.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = f"is not UTF-8 (byte {error.start}): save it as UTF-8"
        raise StreamsFileError([Mistake(path, 1, 1, "", wrong)]) from error
    except OSError as error:
        raise StreamsFileError([Mistake(path, 1, 1, "", f"cannot be read: {error.strerror}")]) from error
    return parse_streams(text, path, options, check=check, reasons=reasons, environment=environment)


def parse_streams(
    text: str,
    file: str,
    options: Mapping[str, type[DestinationOptions]],
    *,
    check: Check | None = None,
    reasons: tuple[str, ...] = REASONS,
    environment: Mapping[str, str] | None = None,
) -> list[Stream]:
    """As `read_streams_file`, from a text; ``file`` is its name in messages."""
    source = read_yaml(text, file, os.environ if environment is None else environment)
    if source.value is None:
        empty = Mistake(file, 1, 1, "", "is empty: begin with `streams:` and a list of streams")
        raise StreamsFileError(source.mistakes or [empty])
    right: dict[int, Stream] = {}
    mistakes = list(source.mistakes)
    try:
        right = dict(enumerate(read_streams(source.value, options, reasons)))
    except ValidationError as error:
        mistakes += _located(error, source)
        right = _streams_without_mistakes(error, source, options, reasons)
    if check is not None:
        places = list(right)
        for at, field, message in check(list(right.values())):
            location: tuple[str | int, ...] = ("streams", places[at], *field.split("."))
            mistakes += filter(None, [source.mistake(location, message, may_miss=True)])
    if mistakes:
        raise StreamsFileError(mistakes)
    return list(right.values())


def _located(error: ValidationError, source: YamlSource) -> list[Mistake]:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    found = (
        source.mistake(each["loc"], each["msg"], at_key=each["type"] in _AT_KEY, may_miss=each["type"] == MISSING)
        for each in details
    )
    return [each for each in found if each is not None]


def _streams_without_mistakes(
    error: ValidationError,
    source: YamlSource,
    options: Mapping[str, type[DestinationOptions]],
    reasons: tuple[str, ...],
) -> dict[int, Stream]:
    """The streams that the error does not name, by their place in the file."""
    locations = [each["loc"] for each in error.errors(include_url=False, include_context=False, include_input=False)]
    listed = source.value.get("streams") if isinstance(source.value, dict) else None
    if not isinstance(listed, list):
        return {}
    wrong = {location[1] for location in locations if location[:1] == ("streams",) and len(location) > 1}
    places = [at for at in range(len(listed)) if at not in wrong]
    streams = read_streams({"streams": [listed[at] for at in places]}, options, reasons)
    return dict(zip(places, streams, strict=True))
