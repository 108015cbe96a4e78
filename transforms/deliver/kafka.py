"""Destination type ``kafka``: records of a topic in Apache Kafka."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from schemas.definition import mistake
from schemas.destinations import DestinationOptions, SecretReference
from transforms.deliver.answer import Answer
from transforms.deliver.destination import StreamDefinition
from transforms.deliver.failures import Failure, FailureKind, SetupError
from transforms.deliver.push import producer
from transforms.deliver.push.batch import Batch, Limits
from transforms.deliver.push.options import PushOptions
from transforms.deliver.push.pushed import PushedDestination

DEFAULT_SIZE, BATCH_BYTES = 5_000, 16_000_000
"""Records and bytes whose reports are awaited together; the client cuts them into requests by partition."""

_SERVER = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}")


class KafkaOptions(PushOptions):
    """Records of a topic in Apache Kafka."""

    type: Literal["kafka"] = Field(default="kafka", description="Type of the destination.")
    bootstrap_servers: str = Field(
        description="Brokers to ask for the others: HOST:PORT, several with commas between.",
        examples=["broker-1.example.com:9093,broker-2.example.com:9093"],
    )
    topic: str = Field(
        pattern=r"^[A-Za-z0-9._-]{1,249}$", description="Topic, which must be there.", examples=["iot-events"]
    )
    security_protocol: Literal["SASL_SSL", "SSL", "SASL_PLAINTEXT", "PLAINTEXT"] = Field(
        default="SASL_SSL",
        description="Whether the connection is encrypted (…SSL) and a user is named (SASL_…).",
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="How the password is shown to the brokers; of SASL_… only."
    )
    username: str | None = Field(
        default=None, min_length=1, description="User, of SASL_… only.", examples=["data-streamer"]
    )
    password: SecretReference | None = Field(
        default=None, description="Password of the user.", examples=[{"env": "KAFKA_PASSWORD"}]
    )
    certificates: str | None = Field(
        default=None,
        min_length=1,
        description="File (PEM) of certificate authorities to trust instead of the usual ones; of …SSL only.",
    )
    client_certificate: str | None = Field(
        default=None, min_length=1, description="File (PEM) of a certificate to show to the brokers; of …SSL only."
    )
    client_key: str | None = Field(
        default=None, min_length=1, description="File (PEM) of the private key of client_certificate."
    )
    client_key_password: SecretReference | None = Field(default=None, description="Password of client_key.")
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none", description="Compression of the requests."
    )
    max_record_bytes: int = Field(
        default=1_000_000,
        ge=10_000,
        le=100_000_000,
        description="Most bytes of a record with key and headers, and of what is sent to a partition at once; at most "
        "the topic's max.message.bytes.",
    )
    timeout: float = Field(default=30, ge=2, le=300, description="Seconds to wait for the reports of a batch.")

    @field_validator("bootstrap_servers")
    @classmethod
    def _check_servers(cls, servers: str) -> str:
        if not all(_SERVER.fullmatch(server) for server in servers.split(",")):
            raise PydanticCustomError("servers", "must be HOST:PORT, several with commas and no blanks between")
        return servers

    @classmethod
    def mistakes_across(cls, given: Mapping[str, Any]) -> list[InitErrorDetails]:
        """Credentials that are missing, or that would not be used."""
        mistakes = super().mistakes_across(given)
        protocol = str(given.get("security_protocol", "SASL_SSL"))
        for name in ("username", "password"):
            if protocol.startswith("SASL_") and not given.get(name):
                mistakes.append(mistake((name,), f"is missing: {protocol} needs it"))
        unused = [] if protocol.startswith("SASL_") else ["sasl_mechanism", "username", "password"]
        if not protocol.endswith("SSL"):
            unused += ["certificates", "client_certificate", "client_key", "client_key_password"]
        mistakes += [
            mistake((name,), f"is not used with {protocol}: leave it out") for name in unused if given.get(name)
        ]
        if bool(given.get("client_certificate")) != bool(given.get("client_key")):
            mistakes.append(mistake(("client_key",), "must be given together with client_certificate"))
        return mistakes


class KafkaDestination(PushedDestination[KafkaOptions]):
    """Produces records to a topic of Apache Kafka.

    A record's value is its JSON text in the stream's shape, its key the device (its endpoint's id, else
    ``organisation-<id>``), which murmur2, the partitioner of Kafka's own clients, puts into a partition. Its headers:
    ``record_id`` (the delivery id), ``stream``, ``kind`` (event, usage, or the aggregate table), ``content`` (the
    table) and, where the record has them, ``type_id`` and ``severity``. Its timestamp is the time of sending, by
    which brokers remove what is old; when the thing happened is in the record.

    Guarantee: at least once, and in order for each key. The producer is idempotent (acks=all): its own retries within
    an attempt, while brokers restart or leaders change, neither double nor reorder. Only where an attempt runs out of
    ``timeout`` with requests under way, or a process is killed and run again, can a record lie there twice, with the
    same ``record_id``. A receiver that drops repeats by it has each key's records once and in order.

    Failures: what passes by itself (no broker, no leader, not enough replicas, throttling) is tried again; an unknown
    topic, a missing right or a refused user turn the stream to error; a record that the topic refuses (too large,
    invalid) is found by halving, becomes a dead letter, and the others go on in order. `audit` can check receipts only.
    Before a run it is asked whether the topic is there and, where brokers tell rights (DescribeTopics), whether the
    user may write to it.

    Limits: a record has ``max_record_bytes`` at most, with key and headers, 1 MB by default as in Kafka (broker
    configuration, message.max.bytes). Where the topic's own max.message.bytes is lower, lower this option, too, as
    preflight asks: otherwise each batch is halved until its pieces fit, with a new producer for each. Topics are never
    created. Each lane that sends has a producer, with connections to each broker, of its own.
    """

    options_model: ClassVar[type[DestinationOptions]] = KafkaOptions
    extra: ClassVar[str | None] = producer.EXTRA

    def setup(self) -> None:
        """Resolve secrets and make the first producer; it connects by itself."""
        options = self.options
        settings: dict[str, Any] = {
            "bootstrap.servers": options.bootstrap_servers,
            "security.protocol": options.security_protocol,
            "compression.type": options.compression,
        }
        if options.username is not None and options.password is not None:
            settings |= {
                "sasl.mechanism": options.sasl_mechanism,
                "sasl.username": options.username,
                "sasl.password": options.password.resolve(),
            }
        files = {
            "ssl.ca.location": options.certificates,
            "ssl.certificate.location": options.client_certificate,
            "ssl.key.location": options.client_key,
        }
        settings |= {name: readable(path) for name, path in files.items() if path is not None}
        if options.client_key_password is not None:
            settings["ssl.key.password"] = options.client_key_password.resolve()
        self._topic = producer.Topic(options.topic, settings, options.timeout, options.max_record_bytes)

    def close(self) -> None:
        """Close the connections."""
        self._topic.close()

    def limits(self, stream: StreamDefinition) -> Limits:
        """By the stream's batch and the option `max_record_bytes`."""
        return limits(stream, self.options.max_record_bytes)

    def send(self, batch: Batch) -> Answer:
        """One attempt: produce all, await all reports."""
        return self._topic.send(batch)

    def preflight(self, stream: StreamDefinition, output: str) -> Failure | None:
        """Whether the topic is there, may be written to, as far as brokers tell rights, and takes what is sent at
        once.
        """
        del stream, output
        failure = self._topic.preflight() or self._topic.check_right()
        if failure is None and self.options.compression == "none":
            failure = self._topic.check_size(self.options.max_record_bytes)
        return failure


def limits(stream: StreamDefinition, record_bytes: int) -> Limits:
    """How much is sent before its reports are awaited, of records of so many bytes at most."""
    size = stream.batch.size or DEFAULT_SIZE
    return Limits(size, BATCH_BYTES, record_bytes - producer.OVERHEAD, overhead=producer.OVERHEAD)


def readable(path: str) -> str:
    """The path of a file that can be read.

    Raises:
      SetupError: it cannot.
    """
    if not os.access(path, os.R_OK):
        failure = Failure(FailureKind.MISCONFIGURED, f"{path} cannot be read on this worker", "check path and rights")
        raise SetupError(failure)
    return path
