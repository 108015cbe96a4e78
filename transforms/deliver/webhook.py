"""Destination type ``webhook``: HTTP requests to your own server, or to anybody's."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import polars as pl
import pyarrow as pa
from isal import igzip
from pydantic import Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError

from schemas.destinations import DestinationOptions, SecretError, SecretReference
from transforms.deliver import text
from transforms.deliver.answer import Answer
from transforms.deliver.destination import StreamDefinition
from transforms.deliver.failures import Failure, FailureKind, SetupError
from transforms.deliver.push.batch import Batch, Limits
from transforms.deliver.push.http import HttpClient, origin, secrets_of, told, wrong_address
from transforms.deliver.push.options import PushOptions
from transforms.deliver.push.pushed import PushedDestination

DEFAULT_SIZE, MOST = 3_000, 10_000
"""Records in a request, as emnify's webhook has them."""

_BODY, _RECORD = 50_000_000, 10_000_000
"""Most bytes of a body and of a record: servers seldom take more."""

_SECRET_HEADERS = re.compile(r"authorization|cookie|token|secret|password|api-?key|signature", re.IGNORECASE)
_OWN_HEADERS = ("content-type", "content-encoding", "content-length", "host", "webhook-id", "webhook-timestamp",
                "webhook-signature", "transfer-encoding", "connection")  # fmt: skip
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_TEXT = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_KEY_PREFIX, _KEY_BYTES = "whsec_", range(24, 65)
"""How a signing key is written, and its sizes (Standard Webhooks, specification 1.0)."""


class WebhookOptions(PushOptions):
    """HTTP requests to a server of yours or of a third party."""

    type: Literal["webhook"] = Field(default="webhook", description="Type of the destination.")
    url: str | SecretReference = Field(
        description="Where to: https://… (http://… only to this machine or a private network). An address that is a "
        "secret itself is given by reference: {env: NAME}.",
        examples=["https://example.com/iot/events"],
    )
    method: Literal["POST", "PUT", "PATCH"] = Field(default="POST", description="Method of the requests.")
    headers: Mapping[str, SecretStr | SecretReference] = Field(
        default={},
        description="Headers of your own; their values are never shown. Those that are secret are given by reference: "
        "{env: NAME}.",
        examples=[{"Authorization": {"env": "WEBHOOK_AUTHORIZATION"}, "X-Team": "fleet"}],
    )
    signing_keys: tuple[SecretReference, ...] = Field(
        default=(),
        max_length=2,
        description="Keys for signatures by Standard Webhooks (whsec_…); two while a key is being replaced.",
    )
    envelope: Literal["none", "cloudevents"] = Field(
        default="none", description="cloudevents: each record as the data of a CloudEvent 1.0, batches as JSON batches."
    )
    compression: Literal["none", "gzip"] = Field(default="none", description="Compression of the body.")
    timeout: float = Field(default=20, ge=15, le=30, description="Most seconds that a request and its answer take.")
    certificates: str | None = Field(
        default=None, min_length=1, description="File of certificate authorities to trust instead of the usual ones."
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | SecretReference) -> str | SecretReference:
        wrong = None if isinstance(url, SecretReference) else wrong_address(url)
        if wrong is not None:
            raise PydanticCustomError("url", "{wrong}", {"wrong": wrong})
        return url

    @field_validator("headers")
    @classmethod
    def _check_headers(
        cls, headers: Mapping[str, SecretStr | SecretReference]
    ) -> Mapping[str, SecretStr | SecretReference]:
        for name, value in headers.items():
            wrong = None
            if not _HEADER.fullmatch(name):
                wrong = "is no name of a header"
            elif name.lower() in _OWN_HEADERS:
                wrong = "is set by the destination itself"
            elif isinstance(value, SecretStr) and _SECRET_HEADERS.search(name):
                wrong = "is a secret: give it by reference, {env: NAME}"
            elif isinstance(value, SecretStr) and not _HEADER_TEXT.fullmatch(value.get_secret_value()):
                wrong = "has a value that no header can have: line ends, or characters beyond Latin-1"
            if wrong is not None:
                raise PydanticCustomError("header", "{name} {wrong}", {"name": name, "wrong": wrong})
        return headers


class _Content(NamedTuple):
    """What a request carries: the batch's id, its JSON text, that as it travels, and its type."""

    name: str
    plain: bytes
    body: bytes
    type: str


class WebhookDestination(PushedDestination[WebhookOptions]):
    """Sends batches of records as JSON to a server.

    A request holds a JSON array of up to ``batch.size`` records (1 to 10,000, default 3,000), also where it holds only
    one; with ``size: 1`` it is the bare object. Success is a status of 2xx; redirects are not followed. The header
    ``webhook-id`` is a digest of the ids of the records: a retry of the same batch has the same.

    Guarantee: at least once, in order within a shard. A receiver drops repeats by ``webhook-id``, or by the records'
    own ids: a request whose answer was lost is sent again. Time-outs, 429 and 5xx are tried again with back-off
    (``Retry-After`` is heeded), and the lane sends nothing else until then; 413 halves the batch; 400, 409 and 422 mean
    that a record is at fault, which is found by halving and becomes a dead letter; 401, 403, 404, 410 and other
    statuses turn the stream to error, and its records stay pending. `audit` can check receipts only.

    With ``signing_keys``, requests are signed by Standard Webhooks (www.standardwebhooks.com): ``webhook-timestamp``,
    and ``webhook-signature`` = ``v1,`` + base64 of HMAC-SHA256 over ``id.timestamp.body``, one for each key. The body
    is the JSON text, also where it travels compressed: verify after decompression, as the usual servers do it.

    Limits: a request ends ``timeout`` seconds after its start (connecting takes 10 s more at most), however slowly the
    server reads or answers. Bodies have at most 50 MB before compression, records 10 MB. Certificates are verified;
    plain http is taken for this machine and private networks only.
    """

    options_model: ClassVar[type[DestinationOptions]] = WebhookOptions

    @classmethod
    def validate(cls, stream: StreamDefinition) -> list[str]:
        """A batch that is too large, beside what every pushing destination checks."""
        mistakes = super().validate(stream)
        if (stream.batch.size or 0) > MOST:
            mistakes.append(f"takes batches of 1 to {MOST:,} records: lower batch.size")
        return mistakes

    def setup(self) -> None:
        """Resolve address, headers and keys."""
        options = self.options
        self._url = _address(options.url)
        self._where = origin(self._url) if isinstance(options.url, SecretReference) else told(self._url)
        self._headers = {"User-Agent": "data-streamer"} | {
            name: _header(name, value) if isinstance(value, SecretReference) else value.get_secret_value()
            for name, value in options.headers.items()
        }
        self._keys = [_key(reference) for reference in options.signing_keys]
        secrets = [self._headers[name] for name, value in options.headers.items() if isinstance(value, SecretReference)]
        if isinstance(options.url, SecretReference):
            secrets += secrets_of(self._url)  # servers repeat the path in their errors
        try:
            self._client = HttpClient(options.timeout, options.certificates, secrets)
        except OSError as error:
            text = f"the certificates in {options.certificates} cannot be read ({type(error).__name__})"
            raise SetupError(Failure(FailureKind.MISCONFIGURED, text, "name a readable PEM file")) from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def limits(self, stream: StreamDefinition) -> Limits:
        """By the stream's batch."""
        return Limits(stream.batch.size or DEFAULT_SIZE, _BODY, _RECORD, overhead=_OVERHEAD[self.options.envelope])

    def prepare(self, batch: Batch) -> _Content:
        """The body and the batch's id."""
        single = batch.stream.batch.size == 1
        texts = batch.texts if self.options.envelope == "none" else cloud_events(batch)
        plain = texts[0].encode() if single else text.json_array(texts)
        body = igzip.compress(plain, 1) if self.options.compression == "gzip" else plain
        return _Content(batch.digest, plain, body, _CONTENT_TYPES[self.options.envelope, single])

    def send(self, batch: Batch) -> Answer:
        """One request."""
        body, headers = self.request(batch)
        return self._client.request(self.options.method, self._url, body, headers, self._where)

    def request(self, batch: Batch) -> tuple[bytes, dict[str, str]]:
        """Body and headers of the request that carries a batch."""
        made = batch.prepared if isinstance(batch.prepared, _Content) else self.prepare(batch)
        headers = {"Content-Type": made.type, **self._headers, **self._signed(made.name, made.plain)}
        if made.body is not made.plain:
            headers["Content-Encoding"] = "gzip"
        return made.body, headers

    def _signed(self, name: str, body: bytes) -> dict[str, str]:
        headers = {"webhook-id": name}
        if self._keys:
            moment = str(int(time.time()))
            headers["webhook-timestamp"] = moment
            content = b".".join((name.encode(), moment.encode(), body))
            digests = [hmac.digest(key, content, hashlib.sha256) for key in self._keys]
            headers["webhook-signature"] = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
        return headers

    def preflight(self, stream: StreamDefinition, output: str) -> Failure | None:
        """Whether the server can be reached, and its certificate is valid. Rights show with the first request only."""
        del stream, output
        return self._client.reach(self._url, self._where)


_CONTENT_TYPES = {
    ("none", False): "application/json",
    ("none", True): "application/json",
    ("cloudevents", False): "application/cloudevents-batch+json",
    ("cloudevents", True): "application/cloudevents+json",
}
_OVERHEAD = {"none": 2, "cloudevents": 400}


def cloud_events(batch: Batch) -> pl.Series:
    """Each record as a CloudEvent 1.0 in JSON: ``id`` is the delivery id, ``type`` ``iot.connectivity.<content>``,
    ``source`` the stream, ``time`` that of the record, ``data`` the record in the stream's shape.
    """
    column = {"events": "event_time", "usage": "end_time"}.get(batch.table, "hour")
    times = pl.Series(batch.rows.column(column).cast(pa.timestamp("us"))).dt.strftime(text.RFC3339)
    frame = pl.DataFrame({"id": batch.ids, "time": times, "data": batch.texts})
    fixed = f'"specversion":"1.0","type":"iot.connectivity.{batch.content}","source":"/streams/{batch.stream.name}"'
    time_of = pl.when(pl.col("time").is_null()).then(pl.lit("")).otherwise(pl.format(',"time":"{}"', "time"))
    event = pl.concat_str(
        pl.lit("{" + fixed + ',"id":"'), pl.col("id"), pl.lit('"'), time_of,
        pl.lit(',"datacontenttype":"application/json","data":'), pl.col("data"), pl.lit("}"),
    )  # fmt: skip
    return frame.select(event.alias("event")).to_series()


def _address(url: str | SecretReference) -> str:
    if isinstance(url, str):
        return url
    found = url.resolve()
    wrong = wrong_address(found)
    if wrong is not None:
        raise SecretError(f"the address in {url} {wrong}")
    return found


def _header(name: str, reference: SecretReference) -> str:
    value = reference.resolve()
    if not _HEADER_TEXT.fullmatch(value):
        raise SecretError(f"the value of header {name} in {reference} has line ends, or characters beyond Latin-1")
    return value


def _key(reference: SecretReference) -> bytes:
    """The bytes of a signing key, which is base64, with or without the prefix ``whsec_``."""
    written = reference.resolve().removeprefix(_KEY_PREFIX)
    try:
        key = base64.b64decode(written + "=" * (-len(written) % 4), validate=True)
    except binascii.Error:
        raise SecretError(f"the signing key in {reference} is no base64: expected {_KEY_PREFIX}…") from None
    if len(key) not in _KEY_BYTES:
        raise SecretError(f"the signing key in {reference} has {len(key)} bytes: expected 24 to 64")
    return key
