"""Destination type ``datadog``: events as logs, usage as metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec
import polars as pl
import pyarrow as pa
import urllib3
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from schemas.destinations import DestinationOptions, SecretReference
from transforms.dead_letters import scrub
from transforms.deliver.answer import Answer
from transforms.deliver.destination import StreamDefinition
from transforms.deliver.failures import Failure, FailureKind, MissingExtraError, of_http_status
from transforms.deliver.push.batch import Batch, Limits
from transforms.deliver.push.http import of_error, pool_manager, retry_after, told, wrong_address
from transforms.deliver.push.options import PushOptions
from transforms.deliver.push.pushed import PushedDestination

SITES = {
    "US": "datadoghq.com",
    "US3": "us3.datadoghq.com",
    "US5": "us5.datadoghq.com",
    "EU": "datadoghq.eu",
    "US1FED": "ddog-gov.com",
    "AP1": "ap1.datadoghq.com",
    "AP2": "ap2.datadoghq.com",
}
"""Region: its site (Datadog's documentation, "Getting started with Datadog sites")."""

METRICS = {
    "endpoint.volume": "volume_total",
    "endpoint.volume_rx": "volume_rx",
    "endpoint.volume_tx": "volume_tx",
    "endpoint.cost": "cost",
}
"""Metric: the column of usage records that it is made of. The names are those of emnify's integration."""

DIMENSIONS = {
    "organisation": "organisation_name",
    "organisation_id": "organisation_id",
    "endpoint": "endpoint_name",
    "endpoint_id": "endpoint_id",
    "iccid": "iccid",
    "operator": "operator_name",
    "country": "country_iso",
    "tariff": "tariff_name",
    "ratezone": "ratezone_name",
    "session_id": "session_id",
}
"""Tag that a stream may choose: its column of usage records."""

Dimension = Literal[
    "organisation", "organisation_id", "endpoint", "endpoint_id", "iccid", "operator", "country", "tariff", "ratezone",
    "session_id",
]  # fmt: skip

_COUNT = 1
_STATUS = {"INFO": "info", "WARN": "warning", "CRITICAL": "critical"}
_TAG = 200
"""Most characters of a tag (Datadog's documentation, "Getting started with tags")."""

_BODY = 5_000_000
# An entry holds the description twice, and the client writes characters beyond ASCII with three times their bytes.
_LOGS = Limits(records=1_000, bytes=_BODY // 2, record_bytes=1_000_000 // 6, overhead=600)
_POINTS = Limits(records=500, bytes=_BODY, record_bytes=1_000_000)
_TOO_LARGE = Answer(
    Failure(FailureKind.TOO_LARGE, "the request has more than 5 MB", "send smaller batches: batch.size")
)


class DatadogOptions(PushOptions):
    """Datadog: events as logs, usage as metrics."""

    type: Literal["datadog"] = Field(default="datadog", description="Type of the destination.")
    region: Literal["US", "US3", "US5", "EU", "US1FED", "AP1", "AP2"] = Field(
        default="US", description="Datadog's region: the one that your address of Datadog names."
    )
    api_key: SecretReference = Field(
        description="API key, given by reference: {env: NAME}.", examples=[{"env": "DATADOG_API_KEY"}]
    )
    dimensions: tuple[Dimension, ...] = Field(
        default=("organisation", "organisation_id", "endpoint", "endpoint_id", "iccid", "operator", "country"),
        description="Tags of the metrics, beside traffic_type (always) and currency (of costs). Each combination of "
        "values is a time series, which Datadog bills: name only those that you ask for.",
    )
    tags: tuple[str, ...] = Field(
        default=(), description="Tags of your own on every metric and log.", examples=[["env:production"]]
    )
    source: str = Field(default="emnify", min_length=1, description="ddsource of the logs: what chooses a pipeline.")
    service: str | None = Field(default=None, min_length=1, description="service of the logs; default: the stream.")
    timeout: float = Field(default=20, ge=1, le=30, description="Most seconds that a request and its answer take.")
    endpoint: str | None = Field(
        default=None,
        description="Address of a proxy to send to instead of the region's: https://HOST:PORT (http://… only to this "
        "machine or a private network).",
    )

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str | None) -> str | None:
        wrong = None if endpoint is None else wrong_address(endpoint)
        if wrong is not None:
            raise PydanticCustomError("url", "{wrong}", {"wrong": wrong})
        return endpoint


class DatadogDestination(PushedDestination[DatadogOptions]):
    """Sends events to Datadog's logs and usage to its metrics, by its own client.

    **Events** are logs (v2 intake): ``message`` is the description, ``status`` follows from the severity (info,
    warning, critical), ``timestamp`` is the event's time, ``ddsource`` and ``service`` are options, ``event`` holds the
    record in the stream's shape, and ``delivery_id`` its id.

    **Usage** becomes points of the metrics endpoint.volume, endpoint.volume_rx, endpoint.volume_tx (MB, of SMS their
    number: the tag traffic_type tells them apart) and endpoint.cost (tag currency), of type count, at the end time of
    the record (v2 series). Records of a request with the same tags and the same second are added up. Datadog holds
    points as binary fractions of 64 bits.

    Guarantee: at least once, in order within a shard. A log that is sent twice lies there twice, with the same
    ``delivery_id``; of points with the same metric, tags and second Datadog keeps the last (as its documentation has
    it; it cannot be tried without an account), so repeats do not count twice, and two records of one second in
    different requests count once unless a tag tells them apart (``session_id``). `audit` can check receipts only.

    Limits (Datadog's API reference): logs: 1,000 entries and 5 MB a request, 1 MB an entry; a record of more than a
    sixth of that is a dead letter, because an entry may come to six times its bytes, and would be cut. Series: 5 MB a
    request, 500 kB compressed: 500 records are sent together, and halved where Datadog answers 413. **Datadog accepts
    old records and drops them**: logs of more than 18 hours ago, and points of more than one hour ago or ten minutes
    ahead, unless Historical Metrics is enabled for the metric. Bodies travel compressed. 429 waits as long as
    ``X-RateLimit-Reset`` says; 401 and 403 turn the stream to error.
    """

    options_model: ClassVar[type[DestinationOptions]] = DatadogOptions
    extra: ClassVar[str | None] = "datadog"

    @classmethod
    def validate(cls, stream: StreamDefinition) -> list[str]:
        """Contents that have no form in Datadog."""
        mistakes = super().validate(stream)
        if stream.content not in ("events", "usage"):
            mistakes.append(f"takes events (as logs) and usage (as metrics), not {stream.content}")
        return mistakes

    def setup(self) -> None:
        """Resolve the key, make the client."""
        try:
            from datadog_api_client import ApiClient, Configuration, exceptions
        except ImportError:
            raise MissingExtraError("datadog-api-client", "datadog") from None
        self._key = self.options.api_key.resolve()
        self._error: type[Exception] = exceptions.ApiException
        self._client = ApiClient(Configuration())
        # Its own connections follow redirects, try again, and bound no request as a whole.
        self._client.rest_client.pool_manager = pool_manager(self.options.timeout)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def limits(self, stream: StreamDefinition) -> Limits:
        """Those of the intake, or fewer records where the stream wants it."""
        most = _LOGS if stream.content == "events" else _POINTS
        records = min(most.records, stream.batch.size or most.records)
        return Limits(records, most.bytes, most.record_bytes, most.overhead)

    def send(self, batch: Batch) -> Answer:
        """One request."""
        if batch.table == "events":
            body: object = logs(batch, self.options)
            return self._call("POST", self._host("http-intake.logs"), "/api/v2/logs", body)
        body = {"series": series(batch.rows, self.options)}
        return self._call("POST", self._host("api"), "/api/v2/series", body)

    def preflight(self, stream: StreamDefinition, output: str) -> Failure | None:
        """Whether Datadog can be reached, and takes the key."""
        del stream, output
        return self._call("GET", self._host("api"), "/api/v1/validate", None).failure

    def _host(self, name: str) -> str:
        return (self.options.endpoint or f"https://{name}.{SITES[self.options.region]}").rstrip("/")

    def _call(self, method: str, host: str, path: str, body: object) -> Answer:
        where = told(host + path)
        headers = {"DD-API-KEY": self._key, "Accept": "application/json"}
        if body is not None:
            headers |= {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            if len(json.dumps(body)) > _BODY:  # as the client writes it
                return _TOO_LARGE
        try:
            # Not by the client's models: they check each point in Python, and know no attributes of logs.
            response = self._client.call_api(
                path, method, header_params=headers, body=body, host=host, preload_content=False,
                request_timeout=(min(self.options.timeout, 10.0), self.options.timeout),
            )  # fmt: skip
            said = response.data
        except self._error as error:
            return Answer(self._failure(where, error))
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return Answer(of_error(where, error))
        return self._accepted(where, response.status, said)

    def _accepted(self, where: str, status: int, said: bytes) -> Answer:
        words = self._told(said)
        try:
            errors = msgspec.json.decode(said).get("errors") if said else None
        except (msgspec.DecodeError, AttributeError):
            errors = None  # no object: an answer of a proxy, which accepted all the same
        if errors:
            error = f"{where} answered {status}, with errors: {words}"
            return Answer(Failure(FailureKind.REJECTED, error, "see what Datadog says about the record"))
        return Answer(said=f"{status} {words}".strip())

    def _failure(self, where: str, error: Any) -> Failure:
        if not error.status:  # so the client tells that TLS failed; its text may repeat the address
            text = f"{where}: its certificate is not valid or not trusted"
            return Failure(FailureKind.MISCONFIGURED, text, "see which proxy answers instead of Datadog")
        headers: Mapping[str, str] = {name.lower(): value for name, value in (error.headers or {}).items()}
        wait = retry_after(headers.get("x-ratelimit-reset") or headers.get("retry-after"))
        words = error.body if isinstance(error.body, str) else msgspec.json.encode(error.body).decode()
        return of_http_status(where, error.status, self._told(words.encode()), wait)

    def _told(self, said: bytes) -> str:
        masked = scrub(said[:4_096].replace(self._key.encode(), b"***"))
        return " ".join(masked.decode("utf-8", "replace").split())[:300]


def logs(batch: Batch, options: DatadogOptions) -> list[dict[str, Any]]:
    """The entries of events for the intake of logs."""
    rows = batch.rows
    columns = [
        rows.column("event_time").cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_pylist(),
        rows.column("severity").to_pylist(),
        rows.column("description").to_pylist(),
        rows.column("event_type").to_pylist(),
        batch.ids,
        msgspec.json.decode(batch.array()),
    ]
    fixed = {"ddsource": options.source, "service": options.service or batch.stream.name}
    if options.tags:
        fixed["ddtags"] = ",".join(options.tags)
    return [
        {
            "message": message or kind or "",
            "status": _STATUS.get(severity, "info"),
            "timestamp": moment,
            **fixed,
            "delivery_id": name,
            "event": record,
        }
        for moment, severity, message, kind, name, record in zip(*columns, strict=True)
    ]


def series(rows: pa.RecordBatch, options: DatadogOptions) -> list[dict[str, Any]]:
    """The series of usage records: for each metric and combination of tags, its points in order of time."""
    names = ["traffic_type", *dict.fromkeys(options.dimensions)]
    frame = pl.DataFrame(
        {name: pl.Series(rows.column(DIMENSIONS.get(name, name))).cast(pl.String) for name in [*names, "currency"]}
        | {metric: pl.Series(rows.column(column)) for metric, column in METRICS.items()}
    ).with_columns(_seconds(rows))
    found: list[dict[str, Any]] = []
    for metric in METRICS:
        by = [*names, "currency"] if metric == "endpoint.cost" else names
        points = frame.filter(pl.col(metric).is_not_null()).group_by([*by, "seconds"], maintain_order=True)
        summed = points.agg(pl.col(metric).sum().cast(pl.Float64)).sort("seconds", maintain_order=True)
        for *values, seconds, sums in summed.group_by(by, maintain_order=True).agg("seconds", metric).iter_rows():
            found.append({
                "metric": metric,
                "type": _COUNT,
                "points": [{"timestamp": at, "value": value} for at, value in zip(seconds, sums, strict=True)],
                "tags": _tags(by, values, options.tags),
            })  # fmt: skip
    return found


def _seconds(rows: pa.RecordBatch) -> pl.Series:
    """The end of each record, else its start, else its hour, in seconds since 1970."""
    end, start, hour = (pl.Series(rows.column(name).cast(pa.int64())) for name in ("end_time", "start_time", "hour"))
    return (end.fill_null(start).fill_null(hour) // 1_000_000).alias("seconds")


def _tags(names: Sequence[str], values: Sequence[object], own: Sequence[str]) -> list[str]:
    given = [f"{name}:{value}"[:_TAG] for name, value in zip(names, values, strict=True) if value is not None]
    return [*given, *own]
