"""The destination types. A new one is one new file and one line here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.destinations import DestinationOptions
from transforms.deliver import formats
from transforms.deliver.bigquery import BigQueryDestination
from transforms.deliver.datadog import DatadogDestination
from transforms.deliver.destination import Destination, Kind, StreamDefinition, Waits
from transforms.deliver.eventhubs import EventHubsDestination
from transforms.deliver.files import FilesDestination
from transforms.deliver.gcs import GcsDestination
from transforms.deliver.kafka import KafkaDestination
from transforms.deliver.kinesis import KinesisDestination
from transforms.deliver.null import NullDestination
from transforms.deliver.pubsub import PubSubDestination
from transforms.deliver.s3 import S3Destination
from transforms.deliver.warehouse import WarehouseDestination
from transforms.deliver.webhook import WebhookDestination

DESTINATIONS: dict[str, type[Destination[Any]]] = {
    "bigquery": BigQueryDestination,
    "datadog": DatadogDestination,
    "eventhubs": EventHubsDestination,
    "files": FilesDestination,
    "gcs": GcsDestination,
    "kafka": KafkaDestination,
    "kinesis": KinesisDestination,
    "null": NullDestination,
    "pubsub": PubSubDestination,
    "s3": S3Destination,
    "warehouse": WarehouseDestination,
    "webhook": WebhookDestination,
}
"""Destination types by the name that a stream gives as ``destination.type``."""

STORED = tuple(sorted(name for name, destination in DESTINATIONS.items() if destination.kind is Kind.STORED))
"""Types that are served by cell; each has a branch in the graph."""


def options_models() -> dict[str, type[DestinationOptions]]:
    """The options model of each type: what a streams file is validated with."""
    return {name: destination.options_model for name, destination in DESTINATIONS.items()}


def waits_of(stream: StreamDefinition) -> Waits:
    """How long the records of a stream wait for others in a live job."""
    return DESTINATIONS[stream.destination.type].waits(stream)


def check_streams(streams: Sequence[StreamDefinition]) -> list[tuple[int, str, str]]:
    """Mistakes that only the destinations can see, without touching any target.

    Returns:
      for each: index of the stream, path of the field below it, what is wrong and what to do.
    """
    mistakes: list[tuple[int, str, str]] = []
    taken: dict[str, str] = {}
    for index, stream in enumerate(streams):
        destination = DESTINATIONS[stream.destination.type]
        if destination.packs:
            wrong = formats.check(stream.format, stream.shape, stream.content)
            if wrong is not None:
                mistakes.append((index, "shape", wrong))
        mistakes += [(index, "destination", wrong) for wrong in destination.validate(stream)]
        place = destination.place(stream)
        if place is not None and taken.setdefault(place, stream.name) != stream.name:
            text = f"would write the same files as stream {taken[place]}: put {{stream}} into one of the paths"
            field = "destination.path" if "path" in type(stream.destination).model_fields else "destination"
            mistakes.append((index, field, text))
    return mistakes
