"""Data streams as emnify's management API has them (v2, ``/api/v2/data_stream``), read as stream definitions of ours.

All connection types and fields of its OpenAPI document of 2023 are known. Secrets are not taken over: each becomes a
reference to an environment variable, whose name is given back. Any header may be a secret, whatever its name, and so
may be an address with a query, a user or a part that looks like a token; emnify itself masks all headers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from schemas.definition import did_you_mean

USAGE, EVENTS, BOTH = 1, 2, 3
PAUSED, ERROR = 2, 3
_KEEN = "https://api.keen.io/3.0/projects/{project_id}/events/{collection_name}"
_MASKED = re.compile(r"\*{3,}")
"""What emnify's answers have in place of a secret."""
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[^/]{16,}")
"""A part of a path that looks like a token: who knows the address may send to it."""


@dataclass
class Converted:
    """What became of emnify's definitions.

    Attributes:
      streams: our definitions, as plain values of a streams file.
      variables: environment variable → what has to be stored there.
      notes: what a person should know, one sentence each.
      mistakes: what could not be read, with its place.
    """

    streams: list[dict[str, Any]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)


def convert(payload: Any) -> Converted:
    """Reads one data stream of emnify's, or a list of them as its API answers."""
    found = Converted()
    listed = payload if isinstance(payload, list) else [payload]
    for at, given in enumerate(listed):
        place = f"[{at}]" if isinstance(payload, list) else "$"
        if isinstance(given, dict):
            _Stream(given, place, found).convert()
        else:
            found.mistakes.append(f"{place}: must be an object with name, data_stream_type and destination")
    return found


class _Stream:
    """One of emnify's streams on its way."""

    def __init__(self, given: Mapping[str, Any], place: str, found: Converted):
        self._given, self._place, self._found = given, place, found
        self._title = str(given.get("name") or given.get("id") or f"stream {place}")
        self.name = self._free_name(re.sub(r"[^a-z0-9]+", "-", self._title.lower()).strip("-")[:55] or "stream")

    def _free_name(self, wanted: str) -> str:
        taken = {stream["name"] for stream in self._found.streams}
        return next(name for name in (wanted, *(f"{wanted}-{n}" for n in range(2, 10_000))) if name not in taken)

    def mistake(self, path: str, text: str) -> None:
        self._found.mistakes.append(f"{self._place}.{path}: {text}")

    def note(self, text: str) -> None:
        self._found.notes.append(f"{self.name}: {text}")

    def secret(self, name: str, what: str, given: Any) -> dict[str, str]:
        """A reference to an environment variable of this secret's own.

        Args:
          name: what the variable is called, after the stream.
          what: what has to be stored there.
          given: the secret as emnify gave it; a note says so where that is masked.
        """
        wanted = re.sub(r"[^A-Z0-9]+", "_", f"{self.name}_{name}".upper())
        names = (wanted, *(f"{wanted}_{number}" for number in range(2, 10_000)))
        variable = next(name for name in names if name not in self._found.variables)
        self._found.variables[variable] = what
        if _MASKED.search(str(given)):
            self.note(f"the file has asterisks in place of what belongs in {variable}: emnify masks its secrets")
        return {"env": variable}

    def number(self, given: Mapping[str, Any], name: str) -> int | None:
        """A whole number of the credentials; None where there is none, or what there is is a mistake."""
        value = given.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value, re.ASCII):
            return int(value)
        self.mistake(f"destination.credentials.{name}", f"expected a whole number, not {value!r}")
        return None

    def convert(self) -> None:
        """Adds the stream's definition; two where it carries both events and usage."""
        kinds = self._kinds()
        destination, batch = self._destination()
        if destination is None or not kinds:
            return
        csv = self._format() == "csv"
        for content in kinds:
            stream: dict[str, Any] = {"name": self.name if len(kinds) == 1 else f"{self.name}-{content}"}
            stream |= {"title": self._title, "content": content}
            if content == "events" and self._given.get("filters"):
                stream["filter"] = self._given["filters"]
            stream |= {"format": "csv", "shape": "csv"} if csv else {"format": "json", "shape": "emnify"}
            stream["destination"] = destination
            if batch:
                stream["batch"] = batch
            if self._id_of("status") == PAUSED:
                stream["state"] = "paused"
            self._found.streams.append(stream)
        self._notes(kinds)

    def _notes(self, kinds: Sequence[str]) -> None:
        if len(kinds) == 2:
            self.note("carried events and usage together; it became two streams")
        if "events" not in kinds and self._given.get("filters"):
            self.note("its filters were left out: emnify filters events only")
        if self._id_of("relation_resolution") not in (None, 3):
            self.note("relation_resolution has no counterpart: filter by organisation where records of others arrive")
        if self._id_of("status") == ERROR:
            self.note("was in error at emnify; it is defined as running")

    def _id_of(self, name: str) -> int | None:
        """The id of a look-up value: ``{"id": 2, …}`` or the number itself."""
        value = self._given.get(name)
        value = value.get("id") if isinstance(value, dict) else value
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def _kinds(self) -> tuple[str, ...]:
        kinds = {USAGE: ("usage",), EVENTS: ("events",), BOTH: ("events", "usage")}
        number = self._id_of("data_stream_type")
        if number not in kinds:
            self.mistake("data_stream_type", "expected 1 (usage), 2 (events) or 3 (both)")
            return ()
        return kinds[number]

    def _format(self) -> str:
        target = self._given.get("destination")
        return str(target.get("format") or "").lower() if isinstance(target, dict) else ""

    def _destination(self) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        target = self._given.get("destination")
        if not isinstance(target, dict):
            self.mistake("destination", "must be an object with connection_type and credentials")
            return None, {}
        kind, credentials = target.get("connection_type"), target.get("credentials")
        if isinstance(kind, dict):  # as look-ups answer it
            kind = kind.get("description") or kind.get("name")
        if not isinstance(kind, str) or kind not in _TYPES:
            hint = did_you_mean(str(kind), list(_TYPES)) or ""
            self.mistake("destination.connection_type", f"{kind!r} is none of {', '.join(_TYPES)}{hint}")
            return None, {}
        required, read = _TYPES[kind]
        given = credentials if isinstance(credentials, dict) else {}
        missing = [name for name in required if given.get(name) in (None, "")]
        for name in missing:
            self.mistake(f"destination.credentials.{name}", f"missing; {kind} needs it")
        return (None, {}) if missing else read(self, given)


_Read = Callable[["_Stream", Mapping[str, Any]], tuple[dict[str, Any], dict[str, Any]]]


def _kinesis(stream: _Stream, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    names = ("stream_name", "region", "role_arn")
    return {"type": "kinesis", **{name: given[name] for name in names}, **_external_id(stream)}, {}


def _external_id(stream: _Stream) -> dict[str, Any]:
    stream.note(
        "the role trusts emnify's account: let it trust yours; give external_id if the trust policy asks for it"
    )
    return {}


def _s3(stream: _Stream, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    target = {"type": "s3", "bucket": given["bucket_name"], "region": given["region"], "role_arn": given["role_arn"]}
    flush_size, rotate_interval = stream.number(given, "flush_size"), stream.number(given, "rotate_interval")
    if flush_size is not None:
        target["flush_size"] = flush_size
    if rotate_interval is not None:
        target["rotate_interval"] = rotate_interval / 1000  # milliseconds at emnify
    return target | _external_id(stream), {}


def _webhook(stream: _Stream, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    url, user = _address(stream, given["url"])
    target: dict[str, Any] = {"type": "webhook", "url": url}
    if given.get("method"):
        target["method"] = str(given["method"]).upper()
    headers = _headers(stream, given.get("headers"))
    if user and not any(name.lower() == "authorization" for name in headers):
        what = "Basic, a space, and USER:PASSWORD of the URL in base64"
        headers["Authorization"] = stream.secret("header_authorization", what, "")
    if headers:
        target["headers"] = headers
    size = stream.number(given, "size")
    return target, {} if size is None else {"size": size}


def _address(stream: _Stream, url: Any) -> tuple[Any, bool]:
    """A webhook's address, by reference where it may be a secret, and whether it has a user or a password."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
    except ValueError:  # such as of an IPv6 address that is none
        parts = urlsplit("")
    if not (isinstance(url, str) and parts.scheme and parts.netloc):
        stream.mistake("destination.credentials.url", "must be https://HOST/PATH")  # not repeated: it may be a secret
        return None, False
    user = "@" in parts.netloc
    if not (user or _is_secret(parts)):
        return url, False
    what = "the URL, without its user and password: they become the header Authorization" if user else "the URL"
    return stream.secret("url", what, url), user


def _is_secret(parts: SplitResult) -> bool:
    random = any(_RANDOM.fullmatch(part) for part in parts.path.split("/"))
    return random or bool(parts.query or parts.fragment or _MASKED.search(parts.netloc + parts.path))


def _headers(stream: _Stream, given: Any) -> dict[str, dict[str, str]]:
    """Headers of emnify's form ``NAME:VALUE``, each by reference. Lines that are none are not repeated."""
    place = "destination.credentials.headers"
    if given is not None and not isinstance(given, list):
        stream.mistake(place, "must be a list of texts NAME:VALUE")
        return {}
    headers: dict[str, dict[str, str]] = {}
    for at, line in enumerate(given or []):
        name, colon, value = line.partition(":") if isinstance(line, str) else ("", "", "")
        name = name.strip()
        if not colon and isinstance(line, str) and _MASKED.fullmatch(name):
            stream.note(f"emnify masked headers[{at}] with its name: add it to the stream's headers")
        elif not colon or not _HEADER.fullmatch(name):
            stream.mistake(f"{place}[{at}]", "must be a text NAME:VALUE")
        elif name.lower() in map(str.lower, headers):
            stream.mistake(f"{place}[{at}]", f"{name} was given before; a header is sent once")
        else:
            headers[name] = stream.secret(f"header_{name}", f"the value of the header {name}", value)
    return headers


def _keen(stream: _Stream, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    stream.note("Keen takes batches on this address under a name: test it, or send single records (batch.size 1)")
    url = _KEEN.format(project_id=given["project_id"], collection_name=given["collection_name"])
    headers = {"Authorization": stream.secret("write_key", "Keen's write key", given["write_key"])}
    size = stream.number(given, "size")
    return {"type": "webhook", "url": url, "headers": headers}, {"size": 1 if size is None else size}


def _datadog(stream: _Stream, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    target = {"type": "datadog", "api_key": stream.secret("api_key", "Datadog's API key", given["api_key"])}
    return target | ({"region": given["region"]} if given.get("region") else {}), {}


def _event_hubs(stream: _Stream, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    what = "the connection string of the event hub, with EntityPath"
    reference = stream.secret("connection_string", what, given["connection_string"])
    return {"type": "eventhubs", "connection_string": reference}, {}


def _pubsub(stream: _Stream, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    stream.note("let the job's service account publish on the topic, instead of emnify's")
    return {"type": "pubsub", "project": given["cps_project"], "topic": given["cps_topic"]}, {}


_TYPES: dict[str, tuple[tuple[str, ...], _Read]] = {
    "AwsKinesis": (("region", "stream_name", "role_arn"), _kinesis),
    "S3": (("region", "bucket_name", "role_arn"), _s3),
    "RestAPI": (("url",), _webhook),
    "KeenIO": (("project_id", "write_key", "collection_name"), _keen),
    "Datadog": (("api_key",), _datadog),
    "EventHubs": (("connection_string",), _event_hubs),
    "PubSub": (("cps_topic", "cps_project"), _pubsub),
}
"""Connection type → credentials that it needs, and how they are read: destination and batch."""
