"""Streams to BigQuery through the whole job: again, with another filter, paused, and while BigQuery is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import commands
from tests.end_to_end import jobs, runs
from tests.servers.bigquery import PROJECT, BigQuery, bigquery_emulator
from warehouse.audit import audit

WIDE: dict[str, Any] = {"min_severity": "INFO"}
NARROW: dict[str, Any] = {"category": "sim_order"}


@pytest.fixture(scope="module")
def emulator() -> Iterator[BigQuery]:
    with bigquery_emulator() as running:
        running.create_dataset("iot")
        yield running


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("feed")
    runs.feed(directory, seed=7, devices=8, days=2)
    return directory


class Site:
    """A feed, a table, and an output directory."""

    def __init__(self, emulator: BigQuery, feed: Path, directory: Path, table: str) -> None:
        self.emulator, self.feed, self.directory, self.table = emulator, feed, directory, table
        self.output = directory / "output"

    def streams(self, wanted: dict[str, Any], state: str = "running") -> Path:
        destination = {"type": "bigquery", "project": PROJECT, "dataset": "iot", "table": self.table}
        destination["retry"] = {"attempts": 2, "seconds": 1}  # type: ignore[assignment]
        stream = {"name": "alerts", "content": "events", "filter": wanted, "state": state, "destination": destination}
        return jobs.write_streams(self.directory / "streams.yaml", stream)

    def run(self, wanted: dict[str, Any], *options: str, state: str = "running", code: int = 0) -> str:
        feeds = {name: f"{self.feed}/{name}/*/*" for name in runs.RECORD_TABLES}
        return jobs.run(self.output, *options, streams=self.streams(wanted, state), code=code, **feeds)

    def deliver(self, wanted: dict[str, Any]) -> int:
        return commands.main(["deliver", str(self.output), f"--streams={self.streams(wanted)}"])

    def rows(self) -> list[tuple[Any, ...]]:
        return self.emulator.rows(f"SELECT event_id, writer, hour FROM `{PROJECT}.iot.{self.table}` ORDER BY event_id")

    def selected(self, where: str) -> list[tuple[Any, ...]]:
        return runs.ask(self.output, f"SELECT event_id, writer, hour FROM events WHERE {where} ORDER BY event_id")

    def is_exact(self, where: str) -> None:
        """The table holds what the filter selects of the warehouse, row by row, and the audit has counted it."""
        assert self.rows() == self.selected(where)
        result = audit(self.output)
        assert result.ok, result.lines
        assert any("stream alerts" in line and "recounted" in line for line in result.lines), result.lines


IN_WIDE, IN_NARROW = "severity IN ('INFO', 'WARN', 'CRITICAL')", "category = 'sim_order'"


@pytest.fixture
def site(
    emulator: BigQuery, feed: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Site:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    return Site(emulator, feed, tmp_path, request.node.name)


def test_bundles_and_runs_are_repeated_and_filters_change(site: Site) -> None:
    site.run(WIDE, "--direct_runner_bundle_repeat=3")
    site.is_exact(IN_WIDE)
    site.run(NARROW)
    site.is_exact(IN_NARROW)
    site.run(WIDE)
    site.is_exact(IN_WIDE)


def test_what_waits_replaces_what_the_same_writer_had_delivered(site: Site) -> None:
    site.run(WIDE)
    site.run(NARROW, state="paused")
    assert site.rows() == [], "the last run delivered nothing, and what the run before did is not of it"
    assert audit(site.output).ok
    assert site.deliver(NARROW) == 0
    site.is_exact(IN_NARROW)
    site.run(WIDE)
    site.is_exact(IN_WIDE)


def test_while_bigquery_is_away_rows_wait_and_old_ones_stay(site: Site) -> None:
    site.run(WIDE)
    wide = site.rows()
    site.emulator.process.stop()
    try:
        text = site.run(NARROW, code=3)
        assert "BigQuery table" in text
        assert site.deliver(NARROW) == 3
    finally:
        site.emulator.process.start()
    assert site.rows() == wide
    assert site.deliver(NARROW) == 0
    days = "hour::DATE IN (SELECT hour::DATE FROM events WHERE category = 'sim_order')"
    assert {row[0] for row in site.rows()} == {
        *(row[0] for row in site.selected(IN_NARROW)), *(row[0] for row in site.selected(f"{IN_WIDE} AND NOT {days}")),
    }  # fmt: skip
    site.run(NARROW)
    site.is_exact(IN_NARROW)


def test_the_audit_finds_rows_that_are_gone_or_not_listed(site: Site) -> None:
    site.run(WIDE)
    table = f"`{PROJECT}.iot.{site.table}`"
    site.emulator.client().query_and_wait(f"DELETE FROM {table} WHERE event_id = (SELECT MIN(event_id) FROM {table})")
    result = audit(site.output)
    assert not result.ok
    assert "rows, listed" in str(result.first_difference)
    site.run(WIDE)
    site.is_exact(IN_WIDE)
    one = f"event_id = (SELECT MIN(event_id) FROM {table})"
    site.emulator.client().query_and_wait(f"UPDATE {table} SET load_id = 1 WHERE {one}")
    assert any("is listed by no writer: 1 rows" in line for line in audit(site.output).lines)
