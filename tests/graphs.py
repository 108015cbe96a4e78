"""Jobs and graphs to look at: what the tests of the graph and of the job spec share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

from pipelines.data_streamer import build
from pipelines.job import Job, prepare

EVENT = {
    "id": 1,
    "timestamp": "2026-10-03T07:15:00Z",
    "event_type": {"id": 1, "description": "Update location"},
    "event_severity": {"id": 0, "description": "INFO"},
    "event_source": {"id": 0, "description": "Network"},
    "alert": False,
    "description": "New location received",
    "organisation": {"id": 1, "name": "Example"},
    "endpoint": {"id": 7, "name": "meter"},
}
"""One event, enough of a feed to make a job of."""

PICKLED = frozenset({"beam:coder:pickled_python:v1", "beam:coder:deterministic_pickled_python:v1"})
"""Coders whose bytes depend on Python code: none may cross a shuffle, where an updated job would read them."""


def streams_text(count: int) -> str:
    """A streams file of `count` streams that differ in content, filter, format, shape and destination."""
    files, webhook = "{type: files}", "{type: webhook, url: 'https://receiver.example/iot', shards: 2}"
    kinds = (
        ("events", "{min_severity: WARN}", "ndjson", "emnify", files),
        ("usage", "{}", "csv", "csv", files),
        ("device_usage_hourly", "{}", "ndjson", "table", webhook),
        ("device_usage_hourly", "{}", "parquet", "table", files),
        ("events", "{any_of: [{outcome: rejected}, {alert: true}]}", "avro", "table", files),
        ("usage", "{traffic_type: sms}", "json", "table", webhook),
    )
    streams = []
    for number in range(count):
        content, selected, form, shape, destination = kinds[number % len(kinds)]
        streams.append(
            f"  - {{name: stream-{number}, content: {content}, filter: {selected}, format: {form}, shape: {shape}, "
            f"destination: {destination}}}\n"
        )
    return "streams:\n" + "".join(streams)


def local_job(directory: Path, streams: int) -> Job:
    """A job over one event in `directory`, with that many streams; nothing is run."""
    (directory / "events.json").write_text(json.dumps(EVENT) + "\n", "utf-8")
    arguments = [f"--events={directory}/events.json", f"--output={directory}/output"]
    if streams:
        (directory / "streams.yaml").write_text(streams_text(streams), "utf-8")
        arguments.append(f"--streams={directory}/streams.yaml")
    return prepare(arguments)


def pipeline_of(job: Job) -> beam.Pipeline:
    """The job's pipeline; it is not run."""
    pipeline = beam.Pipeline(runner="FnApiRunner")
    build(pipeline, job)
    return pipeline


def labels_of(proto: beam_runner_api_pb2.Pipeline) -> list[str]:
    """The full labels of all steps, sorted. The root of the graph has none that counts."""
    roots = set(proto.root_transform_ids)
    return sorted(step.unique_name for key, step in proto.components.transforms.items() if key not in roots)


def pickled_shuffles(proto: beam_runner_api_pb2.Pipeline) -> list[str]:
    """Steps that group a collection which a pickling coder encodes, with the coder's name."""
    components = proto.components
    return [
        f"{step.unique_name}: {urn}"
        for step in components.transforms.values()
        if step.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn
        for collection in step.inputs.values()
        for urn in _coders_within(components, components.pcollections[collection].coder_id)
        if urn in PICKLED
    ]


def _coders_within(components: beam_runner_api_pb2.Components, coder: str) -> Iterator[str]:
    yield components.coders[coder].spec.urn
    for part in components.coders[coder].component_coder_ids:
        yield from _coders_within(components, part)
