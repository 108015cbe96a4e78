"""Names that a page, a query, a CSV file or a path could stumble over, through job, report, audit and commands."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines import commands
from tests.end_to_end import jobs, runs
from warehouse.audit import audit

NAMES = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    'O\'Brien "quoted"; DROP TABLE events; --',
    "line\nfeed\r\n\ttab",
    "\u202eright to left\u202c \u0000"[:-1],
    "x" * 20_000,
    "🚜 Ünïcödé 東京 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "{{ 7 * 7 }} {% raw %} ${HOME} $(id) `id`",
    "[red]markup[/red] [/]",
    "=cmd|' /C calc'!A0",
    "../../etc/passwd",
    "",
    "null",
)


def _records(kind: str, sample: str) -> list[dict[str, Any]]:
    found = []
    for number, name in enumerate(NAMES):
        record = copy.deepcopy(jobs.samples(kind)[sample])
        record["id"] = 5_000 + number
        record["endpoint"] |= {"id": 100 + number, "name": name, "tags": name}
        record["organisation"] = {"id": 900 + number, "name": name}
        found.append(record)
    return found


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hostile")
    rejected = {
        "event_severity": {"id": 1, "description": "WARN"},
        "description": "Location update rejected from VLR 1 (<script>alert(4)</script>) for IMSI 1. Because.",
    }
    events = _records("events", "emnify-openapi-03-create-pdp-context")
    events += [
        {**record, **rejected, "id": record["id"] + 100, "event_type": {"id": 1, "description": NAMES[number]}}
        for number, record in enumerate(_records("events", "emnify-openapi-18-quota-threshold-reached"))
    ]
    streams = jobs.write_streams(
        directory / "streams.yaml",
        {"name": "events", "title": NAMES[0], "content": "events"},
        {"name": "usage", "title": "{{ 7 * 7 }}", "content": "usage", "format": "csv", "shape": "csv"},
        {
            "name": "of-one", "content": "device_usage_hourly", "format": "avro",
            "filter": {"endpoint": NAMES[3]},
        },
        {
            "name": "broken", "content": "events",
            "destination": {"type": "files", "path": f"{directory}/feed.ndjson/<script>alert(5)"},
        },
    )  # fmt: skip
    jobs.run(
        directory / "<b> & more, {x}", code=3, streams=streams, report=True,
        events=jobs.write_lines(directory / "feed.ndjson", [*events, b"<script>alert(6)</script>"]),
        usage=jobs.write_lines(directory / "usage.ndjson", _records("usage", "emnify-docs-05-data")),
    )  # fmt: skip
    return directory / "<b> & more, {x}"


def test_names_are_kept_as_they_are(output: Path) -> None:
    for table in ("usage", "device_usage_hourly"):
        found = runs.ask(output, f"SELECT DISTINCT endpoint_name, organisation_name FROM {table}")
        assert {tuple(row) for row in found} == {(name, name) for name in NAMES}
    assert audit(output).ok


def test_the_report_is_no_way_in(output: Path) -> None:
    page = (output / "report.html").read_text()
    for number in range(1, 7):
        assert f"<script>alert({number})" not in page
    assert "<img src=x" not in page
    assert "x" * 5_000 not in page
    assert "{{ 7 * 7 }}" in page and ">49<" not in page


def test_csv_holds_line_feeds_and_quotes(output: Path) -> None:
    (path,) = (path for path in (output / "streams" / "usage").rglob("*") if path.is_file())
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert {row["endpoint_name"] for row in rows} == set(NAMES)


def test_lines_are_records(output: Path) -> None:
    paths = [path for path in (output / "streams" / "events").rglob("*") if path.is_file()]
    lines = [line for path in paths for line in gzip.decompress(path.read_bytes()).split(b"\n") if line]
    assert sorted(json.loads(line)["endpoint_name"] for line in lines) == sorted(2 * NAMES)


def test_a_filter_on_a_name(output: Path) -> None:
    found = runs.ask(output, "SELECT sum(delivered)::INT FROM ledger WHERE stream = 'of-one'")
    assert found == [(1,)]


@pytest.mark.parametrize("place", range(len(NAMES)))
def test_commands_show_them(output: Path, place: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["device", str(output), str(100 + place)]) == 0
    assert (
        commands.main(["sql", str(output), f"SELECT endpoint_name FROM usage WHERE endpoint_id = {100 + place}"]) == 0
    )
    assert "1 row" in capsys.readouterr().out
