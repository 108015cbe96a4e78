"""The published records through the whole job: none is a dead letter, each is classified as its text and type say."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.details import SECRET_MARK
from tests.end_to_end import jobs, runs
from tests.transforms.classify.test_samples import CLASSES, EXPECTED
from warehouse.audit import audit

USAGE = {
    "emnify-docs-05-data": ("data", "MB", "0.219933", "0.0018851200", "EUR", "DE"),
    "emnify-docs-06-sms": ("sms", "SMS", "1.000000", "0.0700000000", "EUR", "DE"),
}


def _pretty(directory: Path, feed: str) -> str:
    (directory / feed).mkdir()
    for name, record in jobs.samples(feed).items():
        (directory / feed / f"{name}.json").write_text(json.dumps(record, indent=4, ensure_ascii=False))
    return f"{directory}/{feed}/*"


def _array(directory: Path, feed: str) -> str:
    path = directory / f"{feed}.json"
    path.write_text(json.dumps(list(jobs.samples(feed).values()), indent=2))
    return str(path)


def _lines(directory: Path, feed: str) -> str:
    return str(jobs.write_lines(directory / f"{feed}.ndjson", list(jobs.samples(feed).values())))


def _gzip(directory: Path, feed: str) -> str:
    path = directory / f"{feed}.ndjson.gz"
    path.write_bytes(gzip.compress(Path(_lines(directory, feed)).read_bytes()))
    return str(path)


@pytest.fixture(scope="module", params=[_pretty, _lines, _array, _gzip], ids=lambda make: make.__name__.strip("_"))
def output(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run over the published records, in one form of file; both are streams in shape emnify too."""
    directory = tmp_path_factory.mktemp("samples")
    make = request.param
    streams = jobs.write_streams(
        directory / "streams.yaml",
        *({"name": feed, "content": feed, "shape": "emnify", "format": "ndjson"} for feed in runs.RECORD_TABLES),
    )
    feeds = {feed: make(directory, feed) for feed in runs.RECORD_TABLES}
    jobs.run(directory / "output", streams=streams, **feeds)
    return directory / "output"


def test_none_is_a_dead_letter(output: Path) -> None:
    assert runs.rows(output, "dead_letters") == []
    for feed in runs.RECORD_TABLES:
        assert runs.ask(output, f"SELECT count(*) FROM {feed}") == [(len(jobs.samples(feed)),)]
    assert audit(output).ok


def test_events_are_classified(output: Path) -> None:
    names = {record["id"]: name.removeprefix("emnify-openapi-") for name, record in jobs.samples("events").items()}
    found = runs.ask(output, f"SELECT event_id, {', '.join(CLASSES)} FROM events")
    assert {names[number]: tuple(classes) for number, *classes in found} == EXPECTED


def test_usage_is_normalised(output: Path) -> None:
    names = {record["id"]: name for name, record in jobs.samples("usage").items()}
    found = runs.ask(
        output,
        "SELECT usage_id, traffic_type, unit, volume_total::VARCHAR, cost::VARCHAR, currency, country_iso FROM usage",
    )
    assert {names[number]: tuple(values) for number, *values in found} == USAGE


def test_the_samples_come_out_in_the_current_rendering(output: Path) -> None:
    for feed in runs.RECORD_TABLES:
        received = [_current(jobs.load(json.dumps(record))) for record in jobs.samples(feed).values()]
        _compare(received, _delivered(output, feed))


def test_simulated_records_come_out_as_they_went_in(tmp_path: Path) -> None:
    """Records of the current stream with odd values, unknown fields and very large ids; secrets apart."""
    runs.feed(
        tmp_path / "feed", devices=60, days=1, seed=21, duplicates=0, malformed=0, empty=0, odd=0.2, gzipped=0.1,
        renderings={"current": 1.0},
    )  # fmt: skip
    streams = jobs.write_streams(
        tmp_path / "streams.yaml",
        *({"name": feed, "content": feed, "shape": "emnify", "format": "ndjson"} for feed in runs.RECORD_TABLES),
    )
    feeds = {feed: f"{tmp_path}/feed/{feed}/*/*" for feed in runs.RECORD_TABLES}
    jobs.run(tmp_path / "output", streams=streams, **feeds)
    for feed in runs.RECORD_TABLES:
        received = [
            jobs.load(line) for path in sorted((tmp_path / "feed" / feed).rglob("*.*")) for line in _content(path)
        ]
        assert len(received) > 1000
        _compare(received, _delivered(tmp_path / "output", feed))


def _current(record: dict[str, Any]) -> dict[str, Any]:
    """The record as the current stream spells it: published events are of the REST rendering, one of the legacy one."""
    if "event_type" not in record:
        return record
    severity, source = record["event_severity"], record["event_source"]
    source.setdefault("description", source.pop("name", None))
    return {
        **record,
        "alert": bool(record["alert"]),
        "event_severity": {**severity, "description": severity["description"].upper()},
    }


def _delivered(output: Path, stream: str) -> list[dict[str, Any]]:
    return [
        jobs.load(line)
        for path in sorted((output / "streams" / stream).rglob("*"))
        if path.is_file()
        for line in _content(path)
    ]


def _content(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    yield from (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).splitlines()


def _compare(received: list[dict[str, Any]], delivered: list[dict[str, Any]]) -> None:
    assert len(delivered) == len(received)
    by_id = {int(record["id"]): record for record in delivered}
    for record in received:
        assert jobs.plain(by_id[int(record["id"])]) == jobs.plain(_without_secrets(record))


_SECRET_FIELDS = ("activationKey", "token")


def _without_secrets(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(item, key) for key, item in value.items()}
    if name in _SECRET_FIELDS:
        return "***"
    assert not (isinstance(value, str) and SECRET_MARK in value), "a secret that this test does not know"
    return value
