"""Destination type ``kinesis``: records of a data stream in Amazon Kinesis."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schemas.destinations import DestinationOptions
from transforms.deliver import aws
from transforms.deliver.answer import Answer
from transforms.deliver.aws import AwsOptions
from transforms.deliver.destination import StreamDefinition
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.push.batch import Batch, Limits
from transforms.deliver.push.options import PushOptions
from transforms.deliver.push.pushed import PushedDestination

MOST_RECORDS, MOST_BYTES, MOST_RECORD_BYTES = 500, 5_000_000, 1 << 20
"""Of a request, and of a record with its key (Amazon Kinesis API reference, PutRecords; of streams that
are not set up for larger records)."""

_KEY = 40
"""Bytes of a partition key at most: ``organisation-`` and a number of 64 bits. Kinesis takes 256 characters."""


class KinesisOptions(AwsOptions, PushOptions):
    """Records of a data stream in Amazon Kinesis."""

    type: Literal["kinesis"] = Field(default="kinesis", description="Type of the destination.")
    stream_name: str = Field(
        pattern=r"^[A-Za-z0-9_.-]{1,128}$",
        description="Data stream, which must be there; needs kinesis:PutRecords, and kinesis:DescribeStreamSummary for "
        "the look before a run.",
        examples=["iot-events"],
    )
    timeout: float = Field(default=20, ge=1, le=60, description="Seconds to wait for the answer.")


class KinesisDestination(PushedDestination[KinesisOptions]):
    """Puts records into a data stream: each is one JSON object, its partition key the device's id (``organisation-ID``
    of an event without device).

    Guarantee: at least once. A Kinesis record carries nothing beside its data, so there is no delivery id: a consumer
    drops repeats by the record's own id in its data. Records of a device go to one shard of the data stream, in order,
    with one exception: where Kinesis takes only some records of a request (throttling of a shard), those that it did
    not take are put again by themselves, behind later ones of that request.

    Limits: 500 records and 5 MB a request, 1 MiB a record, keys included (Amazon Kinesis API reference, PutRecords); a
    longer record is a dead letter. Throttling (of a shard: 1,000 records and 1 MB a second) and internal failures are
    tried again with back-off, single records alone; refused rights, a missing data stream and missing or refused
    credentials turn the stream to error.

    Credentials are the worker's own, or those of ``role_arn``, which is assumed with ``external_id`` and again before
    its credentials end. Records are not aggregated: consumers need no Kinesis Producer Library.
    """

    options_model: ClassVar[type[DestinationOptions]] = KinesisOptions
    extra: ClassVar[str | None] = aws.EXTRA

    @classmethod
    def validate(cls, stream: StreamDefinition) -> list[str]:
        """A batch that is too large, beside what every pushing destination checks."""
        mistakes = super().validate(stream)
        if (stream.batch.size or 0) > MOST_RECORDS:
            mistakes.append(f"takes 1 to {MOST_RECORDS} records in a request: lower batch.size")
        return mistakes

    def setup(self) -> None:
        """Make the client; nothing is asked yet."""
        options = self.options
        self._where = f"Kinesis data stream {options.stream_name}"
        self._client = aws.session_client(
            "kinesis", options.region, options.role_arn, options.external_id, options.endpoint, options.timeout
        )
        self._errors = aws.client_errors()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def limits(self, stream: StreamDefinition) -> Limits:
        """Those of Kinesis, and the stream's batch."""
        return Limits(stream.batch.size or MOST_RECORDS, MOST_BYTES, MOST_RECORD_BYTES - _KEY, overhead=_KEY)

    def send(self, batch: Batch) -> Answer:
        """One PutRecords."""
        records = [
            {"Data": text.encode(), "PartitionKey": key} for text, key in zip(batch.texts, batch.keys, strict=True)
        ]
        try:
            answer = self._client.put_records(StreamName=self.options.stream_name, Records=records)
        except self._errors as error:
            return Answer(aws.of_client_error(self._where, error))
        results = answer.get("Records", ())
        if len(results) != len(batch):
            # Something else that answers in its place, or a connection that was cut.
            wrong = f"{self._where}: an answer that is none of PutRecords, or a part of one"
            return Answer(Failure(FailureKind.TRANSIENT, wrong, "deliver what is pending"))
        if answer["FailedRecordCount"] == 0:
            shards = sorted({result["ShardId"] for result in results})
            return Answer(said=f"put into {', '.join(shards[:3])}" + ", …" * (len(shards) > 3))
        failures = {
            place: aws.of_code(self._where, result["ErrorCode"], result.get("ErrorMessage", ""))
            for place, result in enumerate(results)
            if result.get("ErrorCode")
        }
        return Answer(failures=failures)

    def preflight(self, stream: StreamDefinition, output: str) -> Failure | None:
        """Whether the data stream is there and active. Whether records may be put shows with the first request only."""
        del stream, output
        try:
            answer = self._client.describe_stream_summary(StreamName=self.options.stream_name)
        except self._errors as error:
            return aws.of_client_error(self._where, error)
        status = answer.get("StreamDescriptionSummary", {}).get("StreamStatus")
        if status in ("ACTIVE", "UPDATING"):
            return None
        kind = FailureKind.TRANSIENT if status == "CREATING" else FailureKind.MISCONFIGURED
        return Failure(kind, f"{self._where}: is not active: {status}", "wait until it is, or name another")
