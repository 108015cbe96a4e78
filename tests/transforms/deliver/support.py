"""Rows of the tables, streams and parts that the tests deliver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.destinations import DestinationOptions
from schemas.streams import Batch
from schemas.tables import TABLES
from transforms.deliver.answer import Answer
from transforms.deliver.destination import Outcome, StreamDefinition
from transforms.deliver.files import FilesOptions
from transforms.deliver.parts import Part
from transforms.deliver.registry import DESTINATIONS
from transforms.deliver.selection import Selection

HOUR = 1_637_006_400_000_000
"""2021-11-15T20:00:00Z in microseconds."""

WRITER = "0123456789abcdef"

USAGE_ROW: dict[str, Any] = {
    "hour": HOUR, "usage_id": 333333333333333, "start_time": HOUR + 1_000_000, "end_time": HOUR + 15_260_000,
    "traffic_type": "data", "unit": "MB", "volume_rx": Decimal("0.172848"), "volume_tx": Decimal("0.047085"),
    "volume_total": Decimal("0.219933"), "cost": Decimal("0.0018851200"), "currency": "EUR", "organisation_id": 12345,
    "organisation_name": "Example Organization", "endpoint_id": 123456789, "endpoint_name": "Example Device",
    "device_ip": "192.0.2.7", "tags": "V1", "imei": "867730051111114", "imei_raw": "8677300511111142",
    "sim_id": 3324192, "iccid": "89883030000080139311", "msisdn": "423663920123456",
    "sim_production_date": HOUR - 86_400_000_000, "imsi": "295050901064821", "imsi_id": 9624042, "operator_id": 5,
    "operator_name": "Telefonica O2", "mcc": "262", "mnc": "07", "country": "Germany", "country_iso": "DE",
    "tariff_id": 1, "tariff_name": "Internal Test Data Plan", "ratezone_id": 2, "ratezone_name": "Area 2",
    "session_id": "722aeb56-c4de-4753-ac23-4f99c1980c5e", "writer": WRITER, "pane": 0, "source_file": "usage.ndjson",
    "byte_offset": 0, "ingest_time": HOUR, "schema_version": 1, "traffic_type_id": 5, "country_id": 74,
    "currency_id": 1, "currency_symbol": "€",
}  # fmt: skip

EVENT_ROW: dict[str, Any] = {
    "hour": HOUR, "event_id": 10582804066, "event_time": HOUR + 1_000_000, "event_type_id": 3,
    "event_type": "Create PDP Context", "event_type_received": "Create PDP Context", "category": "data_connection",
    "severity": "INFO", "severity_inferred": False, "source": "network", "alert": False, "outcome": "accepted",
    "description": "New PDP Context successfully activated.", "organisation_id": 1234,
    "organisation_name": "Example Org", "endpoint_id": 10360462, "endpoint_name": "Demo Endpoint",
    "device_ip": "10.10.10.10", "imei_raw": "1234567890123456", "sim_id": 2434589, "iccid": "8988303000123456789",
    "sim_imsi_id": 6466508, "sim_imsi": "123456789123456", "detail": '{"id":2,"name":"Telekom"}', "writer": WRITER,
    "pane": 0, "source_file": "events.ndjson", "byte_offset": 0, "ingest_time": HOUR, "schema_version": 1,
}  # fmt: skip

AGGREGATE_ROW: dict[str, Any] = {
    "hour": HOUR, "organisation_id": 12345, "endpoint_id": 1, "traffic_type": "data", "unit": "MB", "currency": "EUR",
    "volume_rx": Decimal("0.1"), "volume_tx": Decimal("0.2"), "volume_total": Decimal("0.3"), "cost": Decimal("0.1"),
    "records": 3, "unpriced_records": 0, "writer": WRITER, "pane": 0, "schema_version": 1,
}  # fmt: skip

_BASE = {"usage": USAGE_ROW, "events": EVENT_ROW, "device_usage_hourly": AGGREGATE_ROW}


def rows_of(content: str, *changes: Mapping[str, Any]) -> pa.RecordBatch:
    """One row per change: the content's example row with some columns changed."""
    return pa.RecordBatch.from_pylist([{**_BASE[content], **change} for change in changes], TABLES[content].schema)


@dataclass(frozen=True)
class Stream:
    """The part of a stream's definition that delivering needs."""

    name: str = "archive"
    content: str = "usage"
    format: str = "ndjson"
    shape: str = "table"
    state: str = "running"
    destination: DestinationOptions = FilesOptions(type="files")
    batch: Batch = Batch()


def part_of(
    stream: str = "archive", table: str = "usage", pane: int = 0, hour: int = HOUR, writer: str = WRITER
) -> Part:
    """A part of a stream."""
    return Part(stream, table, hour, 0, writer, pane)


def events(count: int, devices: int = 3, **changes: Any) -> pa.RecordBatch:
    """So many events with the ids from 0 on, of devices in turn."""
    return rows_of(
        "events", *({"event_id": number, "endpoint_id": number % devices, **changes} for number in range(count))
    )


@contextmanager
def opened(stream: StreamDefinition) -> Iterator[Any]:
    """The stream's destination, set up."""
    destination = DESTINATIONS[stream.destination.type](stream.destination)
    destination.setup()
    with closing(destination):
        yield destination


def deliver(stream: StreamDefinition, rows: pa.RecordBatch, output: Path) -> Outcome:
    """Delivers rows as one part."""
    with opened(stream) as destination:
        outcome: Outcome = destination.deliver(
            part_of(stream.name, stream.content), Selection(rows), stream, str(output)
        )
        return outcome


def send(stream: StreamDefinition, rows: pa.RecordBatch) -> Answer:
    """Sends rows as `data-streamer test` does."""
    with opened(stream) as destination:
        answer: Answer = destination.try_out(part_of(stream.name, stream.content), rows, stream, "")
        return answer
