"""Destination type ``eventhubs``: events of a hub in Azure Event Hubs, through its Kafka endpoint."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field

from schemas.destinations import DestinationOptions, SecretError, SecretReference
from transforms.deliver import kafka
from transforms.deliver.answer import Answer
from transforms.deliver.destination import StreamDefinition
from transforms.deliver.failures import Failure
from transforms.deliver.push import producer
from transforms.deliver.push.batch import Batch, Limits
from transforms.deliver.push.options import PushOptions
from transforms.deliver.push.pushed import PushedDestination

RECORD_BYTES = 1_000_000
"""Most bytes of a record, and of a request: above 1,046,528 Event Hubs closes the connection (Microsoft: Recommended
configurations for Apache Kafka clients, max.request.size; an event has 1 MB at most in all tiers but Dedicated)."""

PORT = 9_093
"""Of the Kafka endpoint of a namespace."""

_DOMAINS = (".servicebus.windows.net", ".servicebus.usgovcloudapi.net", ".servicebus.chinacloudapi.cn")
_EXPECTED = "Endpoint=sb://NAMESPACE.servicebus.windows.net/;SharedAccessKeyName=…;SharedAccessKey=…;EntityPath=HUB"


class EventHubsOptions(PushOptions):
    """Events of a hub in Azure Event Hubs."""

    type: Literal["eventhubs"] = Field(default="eventhubs", description="Type of the destination.")
    connection_string: SecretReference = Field(
        description=f"Connection string with the right to send, as Azure shows it: {_EXPECTED}.",
        examples=[{"env": "EVENTHUBS_CONNECTION_STRING"}],
    )
    topic: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,256}$",
        description="Name of the event hub, where the connection string is that of a namespace and has no EntityPath.",
    )
    endpoint: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9.-]+:\d{1,5}$",
        description="HOST:PORT to connect to instead of port 9093 of the namespace, such as a gateway on the way.",
    )
    certificates: str | None = Field(
        default=None,
        min_length=1,
        description="File (PEM) of certificate authorities to trust instead of the usual ones.",
    )
    compression: Literal["none", "gzip"] = Field(
        default="none", description="Compression of the requests; Event Hubs has it in the tiers Premium and Dedicated."
    )
    timeout: float = Field(default=60, ge=2, le=300, description="Seconds to wait for the reports of a batch.")


class EventHubsDestination(PushedDestination[EventHubsOptions]):
    """Produces records to an event hub of Azure, over Kafka's protocol with TLS at port 9093.

    An event's body is the record's JSON text in the stream's shape, its partition key the device (its endpoint's id,
    else ``organisation-<id>``). Its properties: ``record_id`` (the delivery id), ``stream``, ``kind`` (event, usage, or
    the aggregate table), ``content`` (the table) and, where the record has them, ``type_id`` and ``severity``.

    Guarantee: at least once, and in order for each key, as of destination ``kafka``: the producer is idempotent, and a
    record can lie there twice, with the same ``record_id``, only where an attempt ran out of ``timeout`` with requests
    under way, or a process was killed and run again.

    Failures: what passes by itself, and throttling (Event Hubs delays its answers when the namespace's throughput units
    are used up), is tried again; a connection string that is not accepted, or a hub that is not there, turn the stream
    to error; a refused record becomes a dead letter, the others go on. `audit` can check receipts only.

    Limits: 1 MB for an event with its properties (Microsoft: Azure Event Hubs quotas). The Kafka endpoint needs tier
    Standard or above.
    """

    options_model: ClassVar[type[DestinationOptions]] = EventHubsOptions
    extra: ClassVar[str | None] = producer.EXTRA

    def setup(self) -> None:
        """Resolve and read the connection string and make the first producer; it connects by itself."""
        options = self.options
        secret = options.connection_string.resolve()
        target = read_connection_string(secret, str(options.connection_string), options.topic)
        settings: dict[str, Any] = {
            "bootstrap.servers": options.endpoint or f"{target.host}:{PORT}",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "$ConnectionString",
            "sasl.password": secret,
            "compression.type": options.compression,
            # Azure closes connections that are idle for 240 s (Recommended configurations for Apache Kafka clients).
            "connections.max.idle.ms": 180_000,
            "topic.metadata.refresh.interval.ms": 180_000,
            "metadata.max.age.ms": 180_000,
        }
        if options.certificates is not None:
            settings["ssl.ca.location"] = kafka.readable(options.certificates)
        self._topic = producer.Topic(target.hub, settings, options.timeout, RECORD_BYTES)

    def close(self) -> None:
        """Close the connections."""
        self._topic.close()

    def limits(self, stream: StreamDefinition) -> Limits:
        """By the stream's batch, and those of Event Hubs."""
        return kafka.limits(stream, RECORD_BYTES)

    def send(self, batch: Batch) -> Answer:
        """One attempt: produce all, await all reports."""
        return self._topic.send(batch)

    def preflight(self, stream: StreamDefinition, output: str) -> Failure | None:
        """Whether the hub is there and may be seen. The right to send shows with the first records only."""
        del stream, output
        return self._topic.preflight()


class Target(NamedTuple):
    """What a connection string names.

    Attributes:
      host: of the namespace.
      hub: name of the event hub.
    """

    host: str
    hub: str


def read_connection_string(text: str, where: str, topic: str | None = None) -> Target:
    """Reads a connection string.

    Args:
      text: the connection string.
      where: where it is kept, for errors.
      topic: name of the event hub, where the options give it.

    Raises:
      SecretError: it is none, or not one for this; the message tells the name of what is wrong, never a value.
    """

    def wrong(what: str) -> SecretError:
        return SecretError(f"the connection string in {where} {what}: expected {_EXPECTED}")

    pairs = [part.partition("=") for part in text.strip().split(";") if part.strip()]
    values = {name.strip().lower(): value.strip() for name, _, value in pairs}
    try:
        endpoint = urlsplit(values.get("endpoint", ""))
    except ValueError:
        raise wrong("has an Endpoint that is no URL") from None
    host = endpoint.hostname or ""
    if endpoint.scheme != "sb" or not host.endswith(_DOMAINS):
        raise wrong("has no Endpoint=sb://… of a namespace in Azure")
    if not values.get("sharedaccesssignature"):
        for name in ("SharedAccessKeyName", "SharedAccessKey"):
            if not values.get(name.lower()):
                raise wrong(f"has no {name}")
    entity = values.get("entitypath")
    if entity and topic and entity != topic:
        raise wrong("has an EntityPath that is not the option topic")
    hub = entity or topic
    if not hub:
        raise wrong("has no EntityPath, and the option topic is not given")
    return Target(host, hub)
