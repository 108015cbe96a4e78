"""Destination type ``webhook``: HTTP requests to your own server, or to anybody's."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import polars as pl
import pyarrow as pa
from isal import igzip
from pydantic import Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from schemas.destinations import DestinationOptions, SecretError, SecretReference
from transforms.deliver import text
from transforms.deliver.answer import Answer
from transforms.deliver.destination import StreamDefinition
from transforms.deliver.failures import Failure
from transforms.deliver.push.batch import Batch, Limits
from transforms.deliver.push.http import HttpClient
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
_KEY_PREFIX = "whsec_"

HeaderText = Annotated[str, StringConstraints(pattern=r"^[\t\x20-\x7e\x80-\xff]*$")]


class WebhookOptions(PushOptions):
    """HTTP requests to a server of yours or of a third party."""

    type: Literal["webhook"] = Field(default="webhook", description="Type of the destination.")
    url: str = Field(
        description="Where to: https://… (http://… only to this machine or a private network).",
        examples=["https://example.com/iot/events"],
    )
    method: Literal["POST", "PUT", "PATCH"] = Field(default="POST", description="Method of the requests.")
    headers: Mapping[str, HeaderText | SecretReference] = Field(
        default={},
        description="Headers of your own. Values that are secret are given by reference: {env: NAME}.",
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
    timeout: float = Field(default=20, ge=15, le=30, description="Seconds to wait for the answer.")
    certificates: str | None = Field(
        default=None, min_length=1, description="File of certificate authorities to trust instead of the usual ones."
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PydanticCustomError("url", "must be https://HOST/PATH")
        if parts.username or parts.password:
            raise PydanticCustomError("url", "must not hold a user or password: use the header Authorization")
        return url

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: Mapping[str, str | SecretReference]) -> Mapping[str, str | SecretReference]:
        for name, value in headers.items():
            if not _HEADER.fullmatch(name):
                raise PydanticCustomError("header", f"{name!r} is no name of a header")
            if name.lower() in _OWN_HEADERS:
                raise PydanticCustomError("header", f"{name} is set by the destination itself")
            if isinstance(value, str) and _SECRET_HEADERS.search(name):
                raise PydanticCustomError("header", f"{name} is a secret: give it by reference, {{env: NAME}}")
        return headers


class WebhookDestination(PushedDestination[WebhookOptions]):
    """Sends batches of records as JSON to a server.

    A request holds a JSON array of up to ``batch.size`` records (1 to 10,000, default 3,000), also where it holds only
    one; with ``size: 1`` it is the bare object. Success is a status of 2xx; redirects are not followed. The header
    ``webhook-id`` is a digest of the ids of the records: a retry of the same batch has the same.

    Guarantee: at least once, in order within a shard. A receiver drops repeats by ``webhook-id``, or by the records'
    own ids. Time-outs, 429 and 5xx are tried again with back-off (``Retry-After`` is heeded); 413 halves the batch;
    400, 409 and 422 mean that a record is at fault, which is found by halving and becomes a dead letter; 401, 403, 404,
    410 and other statuses turn the stream to error, and its records stay pending. `audit` can check receipts only.

    With ``signing_keys``, requests are signed by Standard Webhooks (www.standardwebhooks.com): ``webhook-timestamp``,
    and ``webhook-signature`` = ``v1,`` + base64 of HMAC-SHA256 over ``id.timestamp.body``, one for each key.
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
        """Resolve headers and keys."""
        options = self.options
        self._client = HttpClient(options.timeout, options.certificates)
        self._headers = {
            name: value.resolve() if isinstance(value, SecretReference) else value
            for name, value in options.headers.items()
        }
        self._keys = [_key(reference) for reference in options.signing_keys]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def limits(self, stream: StreamDefinition) -> Limits:
        """By the stream's batch."""
        return Limits(stream.batch.size or DEFAULT_SIZE, _BODY, _RECORD, overhead=_OVERHEAD[self.options.envelope])

    def send(self, batch: Batch) -> Answer:
        """One request."""
        single = batch.stream.batch.size == 1
        texts = batch.texts if self.options.envelope == "none" else cloud_events(batch)
        body = texts[0].encode() if single else text.json_array(texts)
        headers = {"Content-Type": _CONTENT_TYPES[self.options.envelope, single], **self._headers}
        if self.options.compression == "gzip":
            body = igzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        headers |= self._signed(batch.digest, body)
        return self._client.request(self.options.method, self.options.url, body, headers)

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
        return self._client.reach(self.options.url)


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
    times = pl.Series(batch.rows.column(column).cast(pa.timestamp("us"))).dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")
    frame = pl.DataFrame({"id": batch.ids, "time": times, "data": batch.texts})
    fixed = f'"specversion":"1.0","type":"iot.connectivity.{batch.content}","source":"/streams/{batch.stream.name}"'
    time_of = pl.when(pl.col("time").is_null()).then(pl.lit("")).otherwise(pl.format(',"time":"{}"', "time"))
    event = pl.concat_str(
        pl.lit("{" + fixed + ',"id":"'), pl.col("id"), pl.lit('"'), time_of,
        pl.lit(',"datacontenttype":"application/json","data":'), pl.col("data"), pl.lit("}"),
    )  # fmt: skip
    return frame.select(event.alias("event")).to_series()


def _key(reference: SecretReference) -> bytes:
    """The bytes of a signing key, which is base64, with or without the prefix ``whsec_``."""
    try:
        return base64.b64decode(reference.resolve().removeprefix(_KEY_PREFIX), validate=True)
    except binascii.Error:
        raise SecretError(f"the signing key in {reference} is no base64: expected {_KEY_PREFIX}…") from None
