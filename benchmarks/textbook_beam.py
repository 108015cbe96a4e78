"""The same job as a textbook has it: one record an element, plain Beam, as a good engineer writes it in an afternoon.

    python -m benchmarks.textbook_beam --events=GLOB --usage=GLOB --output=DIR

It decodes, drops duplicates by id, classifies by type and text, aggregates per device and hour, and writes Parquet,
the streams of ``examples/streams.yaml`` and what it could not read. It does less than the job: fewer columns, no
reasons, no conflicts, no ledger. Its results are not compared; its time per record is.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from schemas.event_types import EVENT_TYPES
from schemas.lookups import COUNTRY_ISO

Record = dict[str, Any]

MALFORMED = "malformed"
_REJECTED = re.compile("rejected|denied|refused|not allowed|fail")
_SEVERITIES = ("INFO", "WARN", "CRITICAL")

EVENT_SCHEMA = pa.schema([
    ("hour", pa.timestamp("us")), ("event_id", pa.int64()), ("event_time", pa.timestamp("us")),
    ("event_type_id", pa.int32()), ("category", pa.string()), ("severity", pa.string()), ("outcome", pa.string()),
    ("description", pa.string()), ("organisation_id", pa.int64()), ("organisation_name", pa.string()),
    ("endpoint_id", pa.int64()), ("endpoint_name", pa.string()), ("imei", pa.string()), ("sim_id", pa.int64()),
    ("iccid", pa.string()), ("operator_name", pa.string()), ("country_iso", pa.string()),
])  # fmt: skip
USAGE_SCHEMA = pa.schema([
    ("hour", pa.timestamp("us")), ("usage_id", pa.int64()), ("start_time", pa.timestamp("us")),
    ("end_time", pa.timestamp("us")), ("traffic_type", pa.string()), ("volume_rx", pa.decimal128(38, 6)),
    ("volume_tx", pa.decimal128(38, 6)), ("volume_total", pa.decimal128(38, 6)), ("cost", pa.decimal128(38, 10)),
    ("currency", pa.string()), ("organisation_id", pa.int64()), ("endpoint_id", pa.int64()), ("sim_id", pa.int64()),
    ("iccid", pa.string()), ("operator_id", pa.int64()), ("operator_name", pa.string()), ("country_iso", pa.string()),
    ("tariff_id", pa.int64()),
])  # fmt: skip
SUM_SCHEMA = pa.schema([
    ("hour", pa.timestamp("us")), ("organisation_id", pa.int64()), ("endpoint_id", pa.int64()),
    ("traffic_type", pa.string()), ("currency", pa.string()), ("volume_total", pa.decimal128(38, 6)),
    ("cost", pa.decimal128(38, 10)), ("records", pa.int64()),
])  # fmt: skip
COUNT_SCHEMA = pa.schema([
    ("hour", pa.timestamp("us")), ("organisation_id", pa.int64()), ("endpoint_id", pa.int64()),
    ("category", pa.string()), ("severity", pa.string()), ("outcome", pa.string()), ("events", pa.int64()),
])  # fmt: skip


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return (time.astimezone(UTC) if time.tzinfo else time).replace(tzinfo=None)


def _hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


def _id(record: Record) -> int:
    number = int(record["id"])
    if not 0 <= number < 2**63:
        raise ValueError(f"id {number} has more than 64 bits")
    return number


def event(record: Record) -> Record:
    """A received event as a row."""
    time, kind = _time(record["timestamp"]), EVENT_TYPES.get(int(record["event_type"]["id"]))
    text, severity = (record["description"] or "").lower(), int(record["event_severity"]["id"])
    endpoint, sim = record["endpoint"] or {}, record["sim"] or {}
    detail = record["detail"] if isinstance(record["detail"], dict) else {}
    outcome = kind.outcome if kind else "not_applicable"
    if outcome == "attempt":
        outcome = "rejected" if _REJECTED.search(text) else "accepted"
    return {
        "hour": _hour(time), "event_id": _id(record), "event_time": time,
        "event_type_id": int(record["event_type"]["id"]), "category": kind.category if kind else "other",
        "severity": _SEVERITIES[severity], "outcome": outcome, "description": record["description"],
        "organisation_id": record["organisation"]["id"], "organisation_name": record["organisation"]["name"],
        "endpoint_id": int(endpoint["id"]) if endpoint else None, "endpoint_name": endpoint.get("name"),
        "imei": endpoint.get("imei"), "sim_id": sim.get("id"), "iccid": sim.get("iccid"),
        "operator_name": detail.get("name"), "country_iso": COUNTRY_ISO.get(detail.get("country", {}).get("mcc")),
    }  # fmt: skip


def usage(record: Record) -> Record:
    """A received usage record as a row."""
    end, volume, operator = _time(record["end_timestamp"]), record["volume"], record["operator"]
    endpoint, sim, cost = record["endpoint"] or {}, record["sim"] or {}, record["cost"]
    return {
        "hour": _hour(end), "usage_id": _id(record), "start_time": _time(record["start_timestamp"]),
        "end_time": end, "traffic_type": record["traffic_type"]["description"].lower(),
        "volume_rx": Decimal(volume["rx"]), "volume_tx": Decimal(volume["tx"]),
        "volume_total": Decimal(volume["total"]), "cost": None if cost is None else Decimal(cost),
        "currency": record["currency"]["code"], "organisation_id": record["organisation"]["id"],
        "endpoint_id": int(endpoint["id"]) if endpoint else None, "sim_id": sim.get("id"), "iccid": sim.get("iccid"),
        "operator_id": operator["id"], "operator_name": operator["name"],
        "country_iso": COUNTRY_ISO.get(operator["country"]["mcc"]), "tariff_id": record["tariff"]["id"],
    }  # fmt: skip


class Parse(beam.DoFn):
    """Lines to rows; a line that is no record goes to the output `MALFORMED`."""

    def __init__(self, row: Any) -> None:
        self._row = row

    def process(self, line: bytes) -> Iterator[Any]:
        try:
            # parse_float: money must not become a float
            yield self._row(json.loads(line, parse_float=str))
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, IndexError, RecursionError):
            yield beam.pvalue.TaggedOutput(MALFORMED, line)


class SumUsage(beam.CombineFn):
    """Sums of volume and cost, and the number of records."""

    def create_accumulator(self) -> tuple[Decimal, Decimal, int]:
        return Decimal(0), Decimal(0), 0

    def add_input(self, sums: tuple[Decimal, Decimal, int], row: Record) -> tuple[Decimal, Decimal, int]:
        return sums[0] + row["volume_total"], sums[1] + (row["cost"] or 0), sums[2] + 1

    def merge_accumulators(self, parts: Iterable[tuple[Decimal, Decimal, int]]) -> tuple[Decimal, Decimal, int]:
        volumes, costs, counts = zip(*parts, strict=True)
        return sum(volumes, Decimal(0)), sum(costs, Decimal(0)), sum(counts)

    def extract_output(self, sums: tuple[Decimal, Decimal, int]) -> tuple[Decimal, Decimal, int]:
        return sums


def _distinct(rows: beam.PCollection, key: str) -> beam.PCollection:
    return (
        rows
        | beam.WithKeys(lambda row: row[key])
        | beam.GroupByKey()
        | beam.Map(lambda group: next(iter(group[1])))
    )  # fmt: skip


def _key(row: Record, names: Iterable[str]) -> tuple[Any, ...]:
    """The hour, as text since Beam has no deterministic coder of times, and the values of other columns."""
    return row["hour"].isoformat(), *(row[name] for name in names)


def _row(schema: pa.Schema, hour: str, *values: Any) -> Record:
    return dict(zip(schema.names, (datetime.fromisoformat(hour), *values), strict=True))


def _line(row: Record) -> str:
    return json.dumps(row, default=str)


def _csv(row: Record) -> str:
    return ",".join('"' + str(value).replace('"', '""') + '"' if value is not None else "" for value in row.values())


def build(pipeline: beam.Pipeline, event_files: str, usage_files: str, output: str) -> None:
    """Adds the job to a pipeline."""

    def read(name: str, files: str, row: Any) -> Any:
        lines = pipeline | f"Read {name}" >> beam.io.ReadFromText(files, coder=beam.coders.BytesCoder())
        parsed = lines | f"Parse {name}" >> beam.ParDo(Parse(row)).with_outputs(MALFORMED, main="rows")
        _ = parsed[MALFORMED] | f"Dead letters of {name}" >> beam.io.WriteToText(
            f"{output}/dead_letters/{name}", coder=beam.coders.BytesCoder()
        )
        return parsed.rows

    def parquet(name: str, rows: beam.PCollection, schema: pa.Schema) -> None:
        _ = rows | f"Write {name}" >> beam.io.WriteToParquet(f"{output}/warehouse/{name}", schema)

    events = read("events", event_files, event) | "Distinct events" >> beam.ptransform_fn(_distinct)("event_id")
    used = read("usage", usage_files, usage) | "Distinct usage" >> beam.ptransform_fn(_distinct)("usage_id")
    parquet("events", events, EVENT_SCHEMA)
    parquet("usage", used, USAGE_SCHEMA)

    keys = ("organisation_id", "endpoint_id", "traffic_type", "currency")
    sums = (
        used
        | "Key usage" >> beam.Map(lambda row: (_key(row, keys), row))
        | "Sum usage" >> beam.CombinePerKey(SumUsage())
        | "Sums" >> beam.Map(lambda found: _row(SUM_SCHEMA, *found[0], *found[1]))
    )
    parquet("device_usage_hourly", sums, SUM_SCHEMA)
    kinds = ("organisation_id", "endpoint_id", "category", "severity", "outcome")
    counts = (
        events
        | "Key events" >> beam.Map(lambda row: _key(row, kinds))
        | "Count events" >> beam.combiners.Count.PerElement()
        | "Counts" >> beam.Map(lambda found: _row(COUNT_SCHEMA, *found[0], found[1]))
    )
    parquet("device_events_hourly", counts, COUNT_SCHEMA)

    warnings = events | "Warnings" >> beam.Filter(lambda row: row["severity"] != "INFO" or row["outcome"] == "rejected")
    data = sums | "Data usage" >> beam.Filter(lambda row: row["traffic_type"] == "data")
    _ = warnings | "As JSON" >> beam.Map(_line) | beam.io.WriteToText(f"{output}/streams/warnings")
    _ = used | "As CSV" >> beam.Map(_csv) | "Archive" >> beam.io.WriteToText(f"{output}/streams/usage-archive")
    parquet("streams-device-usage", data, SUM_SCHEMA)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.textbook_beam", description=__doc__.splitlines()[0])
    parser.add_argument("--events", required=True, metavar="GLOB")
    parser.add_argument("--usage", required=True, metavar="GLOB")
    parser.add_argument("--output", required=True, metavar="DIR")
    given, rest = parser.parse_known_args()
    options = PipelineOptions(rest, save_main_session=False)
    with beam.Pipeline(runner="FnApiRunner", options=options) as pipeline:
        build(pipeline, given.events, given.usage, given.output)


if __name__ == "__main__":
    from benchmarks import textbook_beam  # classes of __main__ would be pickled by value

    textbook_beam.main()
