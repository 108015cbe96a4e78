"""Where files of streams lie: templates of directories with places in braces."""

from __future__ import annotations

import string

from pydantic_core import PydanticCustomError

from transforms.deliver import storage
from transforms.deliver.parts import Part

PLACES = ("stream", "date", "hour", "content", "writer", "bucket", "pane")
"""What a template may contain in braces."""

ABOUT = (
    "May contain {stream}, {date} (YYYY-MM-DD), {hour} (HH), {content}, {writer}, {bucket} and {pane}; dt={date} and "
    "hh={hour} are added where date or hour is missing."
)
"""The places, for descriptions of options."""


def check_places(template: str) -> None:
    """Finds what is wrong with the places of a template.

    Raises:
      PydanticCustomError: a name that is no place, a brace without its counterpart, or a format.
    """
    known = ", ".join(f"{{{name}}}" for name in PLACES)
    try:
        found = list(string.Formatter().parse(template))
    except ValueError as error:
        raise PydanticCustomError("path", "has a brace without its counterpart; write {{ for a brace") from error
    for _, name, form, conversion in found:
        if name is not None and name not in PLACES:
            raise PydanticCustomError("path", f"{{{name}}} is none of {known}")
        if form or conversion:
            raise PydanticCustomError("path", "takes names in braces only, without a format")


def complete(template: str) -> str:
    """The template with dt={date} and hh={hour} added, where they are missing: a file's name does not tell its hour."""
    names = {name for _, name, _, _ in string.Formatter().parse(template)}
    missing = [f"{key}={{{name}}}" for key, name in (("dt", "date"), ("hh", "hour")) if name not in names]
    return storage.join(template, *missing)


def of_stream(template: str, stream: str, content: str) -> str:
    """The template with what differs from stream to stream filled in."""
    return template.replace("{stream}", stream).replace("{content}", content)


def root(template: str, stream: str, content: str) -> str:
    """The directory above the first part of a stream's template that differs from file to file."""
    fixed, brace, _ = of_stream(template, stream, content).partition("{")
    return fixed.rsplit("/", 1)[0] if brace else fixed.rstrip("/")


def directory(template: str, part: Part) -> str:
    """The directory of a part."""
    return template.format(
        stream=part.stream, date=storage.date_of(part.hour), hour=storage.hour_of(part.hour), content=part.table,
        writer=part.writer, bucket=part.bucket, pane=part.pane,
    )  # fmt: skip
