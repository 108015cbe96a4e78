"""Destination type ``pubsub``: messages of a topic in Google Cloud Pub/Sub."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import polars as pl
import pyarrow as pa
from pydantic import Field

from schemas.destinations import DestinationOptions
from schemas.tables import TABLES
from transforms.dead_letters import scrub
from transforms.deliver.answer import Answer
from transforms.deliver.destination import StreamDefinition
from transforms.deliver.failures import Failure, FailureKind, MissingExtraError, SetupError
from transforms.deliver.push.batch import Batch, Limits
from transforms.deliver.push.options import PushOptions
from transforms.deliver.push.pushed import PushedDestination
from transforms.deliver.sample import sample_rows
from transforms.deliver.shapes import json_lines

MOST_MESSAGES, MOST_BYTES = 1_000, 10_000_000
"""Of a publish request; a message has as many bytes at most (Pub/Sub: Quotas and limits, Resource limits)."""

_ATTRIBUTES = 768
"""Bytes that surround a message at most: attributes, ordering key, and their lengths. No attribute is near the limits
of Pub/Sub (100 of them, names of 256 bytes, values of 1,024 bytes, ordering key of 1,024 bytes): the longest is the
record id, of a stream's name (63), a table's and a number or digest."""
_REQUEST = 1_024
"""Bytes of a request beside its messages at most: the topic's name, and attributes of a message that holds a batch."""

_OF_COLUMNS = (
    ("type_id", "event_type_id"),
    ("severity", "severity"),
    ("category", "category"),
    ("organisation", "organisation_id"),
    ("device", "endpoint_id"),
)
"""Attributes of a message and the columns that they come from."""

_SAID = 300
"""Characters of what Pub/Sub says about a message that are told."""

_RECONNECT = (("grpc.initial_reconnect_backoff_ms", 500), ("grpc.max_reconnect_backoff_ms", 5_000))
"""Otherwise a channel waits up to two minutes before it connects again, and fails all requests until then."""


class PubSubOptions(PushOptions):
    """Messages of a topic in Google Cloud Pub/Sub."""

    type: Literal["pubsub"] = Field(default="pubsub", description="Type of the destination.")
    project: str = Field(
        pattern=r"^[a-z][a-z0-9.:-]*$",
        max_length=100,
        description="Project of the topic.",
        examples=["example-project"],
    )
    topic: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$",
        description="Topic, which must be there; the worker's account needs roles/pubsub.publisher on it.",
        examples=["iot-events"],
    )
    message: Literal["record", "batch"] = Field(
        default="record", description="What a message holds: one record, or a batch of them."
    )
    ordering: bool | None = Field(
        default=None,
        description="Whether messages have an ordering key: of records their device's, of batches the stream's name. "
        "Pub/Sub takes 1 MB/s for a key. Default: true for records, false for batches.",
    )
    endpoint: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9.-]+(:\d+)?$",
        description="Address of the service instead of the global one. Subscribers get messages in order only where "
        "all of a key are published in one region: a regional address sees to that.",
        examples=["europe-west3-pubsub.googleapis.com:443"],
    )
    timeout: float = Field(default=20, ge=1, le=60, description="Seconds to wait for the answer.")

    @property
    def is_ordered(self) -> bool:
        """Whether messages have an ordering key."""
        return self.message == "record" if self.ordering is None else self.ordering


class PubSubDestination(PushedDestination[PubSubOptions]):
    """Publishes records as messages of a topic.

    With ``message: record`` a message's data is one record as JSON. Its attributes, by which subscriptions can filter:
    ``record_id`` (the delivery id), ``kind`` (event, usage, or the aggregate table), ``content`` (the table),
    ``stream``, and, where the record has them, ``type_id``, ``severity``, ``category``, ``organisation`` and
    ``device``.

    With ``message: batch`` its data is a batch of up to ``batch.size`` records (default 1,000), as lines of JSON or,
    with ``format: json``, as an array. Its attributes are ``batch_id`` (a digest of the records' delivery ids),
    ``records`` (how many), ``kind``, ``content`` and ``stream``.

    Guarantee: at least once. Pub/Sub keeps every copy of a message that was published twice. A subscriber drops repeats
    by ``record_id``, which is the same however often a record is published. ``batch_id`` is that of the same records
    only: a run that is interrupted may cut its batches elsewhere, so subscribers of batches drop repeats by the own ids
    of the records.

    With ``ordering``, subscriptions that have message ordering on get the messages of a device (or the batches of a
    stream) in the order of publication. What is published again after a failure comes again, behind what came before.

    Limits: 1,000 messages and 10 MB a request, 10 MB a message (Pub/Sub: Quotas and limits); a longer record is a dead
    letter. Requests are tried again on time-outs, UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED and INTERNAL;
    INVALID_ARGUMENT (of a topic's schema, for instance) means that a record is at fault, which is found by halving;
    NOT_FOUND, PERMISSION_DENIED and UNAUTHENTICATED turn the stream to error. Where the topic has a schema, a run looks
    before it starts whether that takes JSON, and warns where it does not take the record of ``data-streamer test``.

    Credentials are the worker's own (application default credentials). PUBSUB_EMULATOR_HOST is heeded.
    """

    options_model: ClassVar[type[DestinationOptions]] = PubSubOptions
    extra: ClassVar[str | None] = "gcp"

    @classmethod
    def validate(cls, stream: StreamDefinition) -> list[str]:
        """More records than messages in a request, beside what every pushing destination checks."""
        mistakes = super().validate(stream)
        options = stream.destination
        each = isinstance(options, PubSubOptions) and options.message == "record"
        if each and (stream.batch.size or 0) > MOST_MESSAGES:
            mistakes.append(f"takes 1 to {MOST_MESSAGES:,} messages in a request: lower batch.size")
        return mistakes

    def setup(self) -> None:
        """Make the client; nothing is asked yet."""
        try:
            from google.api_core.exceptions import GoogleAPICallError
            from google.auth.exceptions import GoogleAuthError
            from google.pubsub_v1.types import PublishRequest
        except ImportError:
            raise MissingExtraError("google-cloud-pubsub", "gcp") from None
        self._topic = f"projects/{self.options.project}/topics/{self.options.topic}"
        self._where = f"Pub/Sub topic {self._topic}"
        self._call_error, self._request = GoogleAPICallError, PublishRequest
        try:
            self._client = _client(self.options.endpoint)
        except GoogleAuthError as error:
            kind = FailureKind.TRANSIENT if error.retryable else FailureKind.MISCONFIGURED
            failure = f"{self._where}: no credentials ({type(error).__name__})"
            raise SetupError(Failure(kind, failure, _CREDENTIALS)) from None

    def close(self) -> None:
        """Close the channel."""
        self._client.transport.close()

    def limits(self, stream: StreamDefinition) -> Limits:
        """Those of Pub/Sub, and the stream's batch."""
        size = stream.batch.size or MOST_MESSAGES
        room = MOST_BYTES - _REQUEST
        if self.options.message == "batch":
            return Limits(size, room, room - 4, overhead=2)
        return Limits(size, room, room - _ATTRIBUTES, overhead=_ATTRIBUTES)

    def send(self, batch: Batch) -> Answer:
        """One publish request."""
        # Protocol buffers' own messages: the client's typed ones take ten times as long to make.
        request = self._request.pb(self._request(topic=self._topic))
        if self.options.message == "batch":
            self._add_batch(request.messages, batch)
        else:
            self._add_records(request.messages, batch)
        try:
            answer = self._client.publish(self._request.wrap(request), retry=None, timeout=self.options.timeout)
        except self._call_error as error:
            return Answer(of_call_error(self._where, error))
        return Answer(said=f"published as {', '.join(answer.message_ids[:3])}" + "…" * (len(answer.message_ids) > 3))

    def _add_records(self, messages: Any, batch: Batch) -> None:
        fixed, columns = _fixed_attributes(batch), attributes_of(batch)
        keys = batch.keys if self.options.is_ordered else [""] * len(batch)
        datas = batch.texts.cast(pl.Binary).to_list()
        for data, key, *values in zip(datas, keys, *columns.values(), strict=True):
            attributes = messages.add(data=data, ordering_key=key).attributes
            for name, value in fixed.items():
                attributes[name] = value
            for name, value in zip(columns, values, strict=True):
                if value is not None:
                    attributes[name] = value

    def _add_batch(self, messages: Any, batch: Batch) -> None:
        data = batch.array() if batch.stream.format == "json" else batch.lines()
        attributes = {"batch_id": batch.digest, "records": str(len(batch)), **_fixed_attributes(batch)}
        messages.add(
            data=data, ordering_key=batch.stream.name if self.options.is_ordered else "", attributes=attributes
        )

    def preflight(self, stream: StreamDefinition, output: str) -> Failure | None:
        """Whether the topic is there, has a schema that fits, and may be published to."""
        del output
        timeout = self.options.timeout
        unseen = misfit = None
        try:
            topic = self._client.get_topic(topic=self._topic, retry=None, timeout=timeout)
        except self._call_error as error:
            unseen = of_call_error(self._where, error)
            if _status(error) != "PERMISSION_DENIED":
                return unseen
        else:
            misfit = self._misfit(stream, topic.schema_settings)
            if misfit is not None and misfit.kind is FailureKind.MISCONFIGURED:
                return misfit
        # Who may publish need not be allowed to look at the topic.
        wanted = {"resource": self._topic, "permissions": [_PUBLISH]}
        try:
            granted = self._client.test_iam_permissions(request=wanted, retry=None, timeout=timeout).permissions
        except self._call_error as error:
            # Emulators do not know rights.
            return unseen or misfit if _status(error) == "UNIMPLEMENTED" else of_call_error(self._where, error)
        if _PUBLISH in granted:
            return misfit
        return Failure(FailureKind.MISCONFIGURED, f"{self._where}: no right to publish ({_PUBLISH})", _GRANT)

    def _misfit(self, stream: StreamDefinition, settings: Any) -> Failure | None:
        """Why messages do not fit the topic's schema; None also where that cannot be told."""
        where = f"{self._where}: its schema {settings.schema}"
        if not settings.schema:
            return None
        if settings.schema == _DELETED:
            return Failure(FailureKind.MISCONFIGURED, f"{where} was deleted", "take the schema from the topic")
        if settings.encoding.name == "BINARY":
            return Failure(
                FailureKind.MISCONFIGURED, f"{where} takes binary messages, and these are JSON", "set encoding=json"
            )
        asked = {
            "parent": f"projects/{self.options.project}", "name": settings.schema, "encoding": settings.encoding,
            "message": self._sample(stream),
        }  # fmt: skip
        schemas = _schema_client(self.options.endpoint)
        try:
            schemas.validate_message(request=asked, retry=None, timeout=self.options.timeout)
        except self._call_error as error:
            if _status(error) != "INVALID_ARGUMENT":
                return None  # who may publish need not be allowed to ask
            # Other records may fit, those with more fields for instance: the run is only warned.
            said = of_call_error(where, error).error
            return Failure(FailureKind.TRANSIENT, f"{said} (to the record of data-streamer test)", _FIT)
        finally:
            schemas.transport.close()
        return None

    def _sample(self, stream: StreamDefinition) -> bytes:
        """What the message of a sample record holds."""
        rows = sample_rows(stream.content)
        batch = Batch(stream, stream.content, rows, json_lines(stream.shape, stream.content, rows))
        messages = self._request.pb(self._request()).messages
        (self._add_batch if self.options.message == "batch" else self._add_records)(messages, batch)
        return bytes(messages[0].data)


def attributes_of(batch: Batch) -> dict[str, Sequence[str | None]]:
    """Attributes that differ by record, by name: a text for each record, or None where it has no such attribute."""
    columns: dict[str, Sequence[str | None]] = {"record_id": batch.ids}
    names = TABLES[batch.table].schema.names
    for attribute, column in _OF_COLUMNS:
        if column in names:
            columns[attribute] = batch.rows.column(column).cast(pa.string()).to_pylist()
    return columns


def _fixed_attributes(batch: Batch) -> dict[str, str]:
    return {"kind": batch.content, "content": batch.table, "stream": batch.stream.name}


def _client(endpoint: str | None) -> Any:
    """A client of topics."""
    from google.pubsub_v1.services.publisher import PublisherClient
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

    return connected(PublisherClient, PublisherGrpcTransport, endpoint)


def _schema_client(endpoint: str | None) -> Any:
    """A client of schemas."""
    from google.pubsub_v1.services.schema_service import SchemaServiceClient
    from google.pubsub_v1.services.schema_service.transports import SchemaServiceGrpcTransport

    return connected(SchemaServiceClient, SchemaServiceGrpcTransport, endpoint)


def connected(client: Any, transport: Any, endpoint: str | None = None) -> Any:
    """A client of Pub/Sub that connects again soon after a failure; of the emulator, where the environment names one.

    Args:
      client: a class of google-cloud-pubsub.
      transport: the class of its transport by gRPC.
      endpoint: host of the service; None: Google's.

    Raises:
      google.auth.exceptions.GoogleAuthError: there are no credentials.
    """
    import grpc
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials

    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if emulator:
        channel = grpc.insecure_channel(emulator, [*_CHANNEL, *_RECONNECT])
        return client(transport=transport(channel=channel, credentials=AnonymousCredentials()))

    def secure_channel(host: str, *, options: Sequence[tuple[str, int]], **others: Any) -> grpc.Channel:
        return transport.create_channel(host, options=[*options, *_RECONNECT], **others)

    connecting = functools.partial(transport, channel=secure_channel)
    return client(transport=connecting, client_options=ClientOptions(api_endpoint=endpoint))


def of_call_error(where: str, error: Any) -> Failure:
    """The failure that a status of gRPC stands for.

    Args:
      where: what was asked: ``Pub/Sub topic projects/P/topics/T``.
      error: a `google.api_core.exceptions.GoogleAPICallError`. Its text is told only where a message was refused, and
        scrubbed.
    """
    status, said = _status(error), str(error.message or "")
    failure = f"{where}: answered {status}"
    words = " ".join(scrub(said.encode()).decode().split())[:_SAID]
    if status in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED") and any(hint in said.lower() for hint in _LARGE[status]):
        return Failure(FailureKind.TOO_LARGE, f"{failure}: {words}", "send smaller batches: batch.size")
    if status == "INVALID_ARGUMENT":
        return Failure(FailureKind.REJECTED, f"{failure}: {words}", "see what Pub/Sub says about the message")
    if _NO_TOKEN in said and "invalid_" in said:
        # gRPC calls it UNAVAILABLE, too; the words in between may hold the account.
        failure = f"{where}: the server of tokens does not accept the credentials"
        return Failure(FailureKind.MISCONFIGURED, failure, _CREDENTIALS)
    if status in _REMEDIES:
        return Failure(FailureKind.MISCONFIGURED, failure, _REMEDIES[status])
    remedy = "raise the quota, or set a rate" if status == "RESOURCE_EXHAUSTED" else "see that it is up"
    return Failure(FailureKind.TRANSIENT, failure, f"{remedy}, then deliver what is pending", _retry_after(error))


def _status(error: Any) -> str:
    """Name of the status of gRPC: ``NOT_FOUND``."""
    code = error.grpc_status_code
    return "UNKNOWN" if code is None else str(code.name)


def _retry_after(error: Any) -> float | None:
    """Seconds that a detail ``google.rpc.RetryInfo`` asks to wait."""
    delays = [detail.retry_delay for detail in error.details if hasattr(detail, "retry_delay")]
    return delays[0].seconds + delays[0].nanos / 1e9 if delays else None


_PUBLISH = "pubsub.topics.publish"
_GRANT = "grant roles/pubsub.publisher on the topic to the worker's account"
_CREDENTIALS = "give the worker application default credentials of Google Cloud"
_DELETED = "_deleted-schema_"
"""What a topic names where its schema is gone (Pub/Sub: SchemaSettings.schema)."""
_FIT = "see that the schema has the fields of the stream's shape; a message that it does not take is a dead letter"
_NO_TOKEN = "Getting metadata from plugin failed"
_LARGE = {
    "INVALID_ARGUMENT": ("too large", "larger than", "exceeds the limit", "exceeds the maximum"),
    "RESOURCE_EXHAUSTED": ("message larger than max",),  # of gRPC itself; others are quotas
}
_REMEDIES: Mapping[str, str] = {
    "NOT_FOUND": "create the topic, or correct project and topic",
    "PERMISSION_DENIED": _GRANT,
    "UNAUTHENTICATED": _CREDENTIALS,
    "FAILED_PRECONDITION": "see what state and policies the topic, its region and its key have",
    "OUT_OF_RANGE": "check the options of the destination",
    "UNIMPLEMENTED": "correct endpoint: what answers there is no Pub/Sub",
}
"""Statuses of which trying again makes nothing better; all others pass."""

_CHANNEL = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
