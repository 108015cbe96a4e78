"""Stream definitions: what a user asks for. A stream is data: it is pickled to workers and never changes the graph.

A stream selects rows of one table (its content) by a filter, renders them in a shape and a format, and delivers them to
a destination. Options belong to the destination types (``transforms/deliver``); `stream_file_model` joins them into one
union that ``destination.type`` tells apart.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args

from pydantic import Field, SerializeAsAny, create_model, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from schemas.definition import Definition, mistake, none_of
from schemas.destinations import DestinationOptions
from schemas.filters import Filter, content_mistakes
from schemas.masks import MaskEntry
from schemas.masks import content_mistakes as mask_mistakes
from schemas.tables import STREAM_CONTENTS

Content = Literal["events", "usage", "device_usage_hourly", "device_events_hourly"]
Format = Literal["ndjson", "json", "csv", "parquet", "avro"]
Shape = Literal["table", "emnify", "csv"]
State = Literal["running", "paused"]

JSON_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
SLUG = r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$"

_FORMATS: tuple[str, ...] = get_args(Format)

SHAPES: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "table": (STREAM_CONTENTS, _FORMATS, "the columns of the content's table"),
    "emnify": (("events", "usage"), ("ndjson", "json"), "the nested record of emnify's current stream"),
    "csv": (("events", "usage"), _FORMATS, "the columns of emnify's CSV files"),
}
"""Shape → contents that have it, formats that can hold it, and what it is."""


class Batch(Definition):
    """How many records a pushing destination takes in one request; each destination has its own defaults and limits."""

    size: int | None = Field(default=None, ge=1, le=100_000, description="Most records in one request.")
    seconds: float | None = Field(
        default=None, gt=0, le=900, description="Longest time that a live job waits for a batch to fill, in seconds."
    )


class Stream(Definition):
    """One stream.

    Two streams are the same if their names are: the name is in paths, in the ledger, and in delivery ids. Renaming a
    stream makes a new one.
    """

    name: str = Field(description="Identity of the stream: a slug of lower-case letters, digits, - and _ (at most 63).")
    title: str | None = Field(default=None, max_length=200, description="What the report calls it; default: the name.")
    content: Content = Field(description="What it carries: events, usage, or the name of an aggregate table.")
    filter: Filter = Field(default=Filter(), description="Which rows it takes; all by default.")
    format: Format = Field(default="ndjson", description="Encoding of the rows.")
    shape: Shape = Field(
        default="table",
        description=f"Layout of a row: {'; '.join(f'{shape}: {about}' for shape, (_, _, about) in SHAPES.items())}.",
    )
    destination: SerializeAsAny[DestinationOptions] = Field(description="Where it delivers.")
    state: State = Field(
        default="running", description="running, or paused: records are kept pending and delivered when it runs again."
    )
    batch: Batch = Field(default=Batch(), description="Sizes of requests.")
    mask: tuple[MaskEntry, ...] = Field(default=(), description="Personal data that it hides, after the filter.")

    @field_validator("name", mode="before")
    @classmethod
    def _read_name(cls, given: Any) -> str:
        if not isinstance(given, str) or not re.fullmatch(SLUG, given):
            raise PydanticCustomError(
                "slug", "must be 1 to 63 lower-case letters, digits, - and _, with a letter or digit at both ends"
            )
        return given

    @field_validator("destination", mode="before")
    @classmethod
    def _read_null_type(cls, given: Any) -> Any:
        # In YAML, `type: null` is no text, yet it is the name of a destination type.
        if isinstance(given, Mapping) and given.get("type", "") is None:
            return {**given, "type": "null"}
        return given

    @field_validator("content", "format", "shape", "state", mode="before")
    @classmethod
    def _read_word(cls, given: Any, info: Any) -> Any:
        words = cls.model_fields[info.field_name].annotation.__args__  # type: ignore[union-attr]
        if given not in words:
            raise none_of(given, words)
        return given

    @classmethod
    def mistakes_across(cls, given: Mapping[str, Any]) -> list[InitErrorDetails]:
        """What the content cannot have, and what the shape cannot be."""
        content, shape = given.get("content"), given.get("shape", "table")
        if content not in STREAM_CONTENTS:
            return []
        found = content_mistakes(content, given.get("filter"), ("filter",))
        found += mask_mistakes(content, given.get("mask"), ("mask",))
        if isinstance(shape, str) and shape in SHAPES:
            contents, formats, _ = SHAPES[shape]
            written = given.get("format", "ndjson")
            if content not in contents:
                found.append(mistake(("shape",), f"{shape!r} is for {', '.join(contents)}; use table for {content}"))
            elif written not in formats and written in SHAPES["table"][1]:
                found.append(mistake(("shape",), f"{shape!r} needs format {' or '.join(formats)}, not {written}"))
        return found


class Report(Definition):
    """What the report shows."""

    mask: tuple[MaskEntry, ...] = Field(default=(), description="Personal data that the report hides, as of a stream.")

    @classmethod
    def mistakes_across(cls, given: Mapping[str, Any]) -> list[InitErrorDetails]:
        """Fields that are named twice."""
        return mask_mistakes(None, given.get("mask"), ("mask",))


class StreamsFile(Definition):
    """A file of streams."""

    streams: tuple[Stream, ...] = Field(description="The streams, in any order.")
    report: Report = Field(default=Report(), description="What the report shows.")

    @classmethod
    def mistakes_across(cls, given: Mapping[str, Any]) -> list[InitErrorDetails]:
        """Names given twice."""
        listed = given.get("streams")
        if not isinstance(listed, (list, tuple)):
            return []
        first: dict[str, int] = {}
        found = []
        for at, stream in enumerate(listed):
            name = stream.get("name") if isinstance(stream, Mapping) else getattr(stream, "name", None)
            if not isinstance(name, str):
                continue
            if name in first:
                text = f"{name!r} is the name of streams[{first[name]}] too: a name is the stream's identity"
                found.append(mistake(("streams", at, "name"), text))
            first.setdefault(name, at)
        return found


def read_streams(given: Any, options: Mapping[str, type[DestinationOptions]], reasons: tuple[str, ...]) -> list[Stream]:
    """Streams from the content of a file.

    Args:
      given: the file's content as plain values.
      options: the options model of each destination type.
      reasons: the reasons that events can have.

    Raises:
      pydantic.ValidationError: with all mistakes.
    """
    read = stream_file_model(tuple(options.items())).model_validate(given, context={"reasons": reasons})
    # The models that know the destinations are made at run time and cannot be pickled by name; `Stream` can.
    return [
        Stream.model_construct(each.model_fields_set, **{name: getattr(each, name) for name in Stream.model_fields})
        for each in read.streams
    ]


@functools.cache
def stream_file_model(options: tuple[tuple[str, type[DestinationOptions]], ...]) -> type[StreamsFile]:
    """`StreamsFile` whose destinations are one of the given types, told apart by ``type``."""
    models = tuple(model for _, model in options)
    union: Any = Annotated[Union[models], Field(discriminator="type")] if len(models) > 1 else models[0]  # noqa: UP007
    destination = Stream.model_fields["destination"].description
    stream = create_model(
        "Stream", __base__=Stream, __doc__=Stream.__doc__, destination=(union, Field(description=destination))
    )
    streams = StreamsFile.model_fields["streams"].description
    listed: Any = tuple[stream, ...]  # type: ignore[valid-type]
    return create_model(
        "StreamsFile", __base__=StreamsFile, __doc__=StreamsFile.__doc__, streams=(listed, Field(description=streams))
    )


def streams_schema(options: Mapping[str, type[DestinationOptions]]) -> dict[str, Any]:
    """JSON Schema (2020-12) of a streams file, for editors: keys with descriptions, closed lists as enums."""
    schema = stream_file_model(tuple(options.items())).model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    definitions["EmnifyFilter"] = {
        "description": "emnify's own form: all items must hold, of an or group one.",
        "type": "array",
        "items": {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"field": {"enum": ["event_type_id", "alert"]}, "value": {}},
                    "required": ["field", "value"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {"or": {"$ref": "#/$defs/EmnifyFilter", "minItems": 1}},
                    "required": ["or"],
                    "additionalProperties": False,
                },
            ]
        },
    }
    properties = definitions["Stream"]["properties"]
    described = properties["filter"]["description"]
    forms = [{"$ref": "#/$defs/Filter"}, {"$ref": "#/$defs/EmnifyFilter"}]
    properties["filter"] = {"anyOf": forms, "description": described}
    properties["name"]["pattern"] = SLUG
    return {"$schema": JSON_SCHEMA_DIALECT, **schema, "title": "Streams of the Data Streamer"}
