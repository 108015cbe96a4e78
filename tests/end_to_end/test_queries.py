"""Each question that the warehouse must answer, by its one query, against the feed counted by hand and the truth."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import jobs, runs
from warehouse.queries import QUERIES, queries_page
from warehouse.sql import query

WEEK = (datetime(2026, 10, 26, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
LIMIT_TYPES = {11, 12, 18, 19, 20, 21, 60, 61, 63, 64, 65}


@dataclass(frozen=True)
class Site:
    """A feed without dirt as JSON records, what the simulator says of it, and the output of a run over it."""

    truth: dict[str, Any]
    events: list[dict[str, Any]]
    usage: list[dict[str, Any]]
    output: Path

    def ask(self, name: str, *changes: tuple[str, str]) -> list[tuple[Any, ...]]:
        """Rows of a query, with other dates or ids in it."""
        sql = QUERIES[name]
        for old, new in changes:
            assert old in sql
            sql = sql.replace(old, new)
        return query(self.output, sql).rows


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    directory = tmp_path_factory.mktemp("queries")
    truth = runs.feed(
        directory / "feed", devices=150, days=2, seed=4, start="2026-10-30", duplicates=0, malformed=0, empty=0, odd=0,
        late=0.05, renderings={"current": 1.0},
    )  # fmt: skip
    globs = {feed: f"{directory}/feed/{feed}/*/*" for feed in runs.RECORD_TABLES}
    jobs.run(directory / "output", **globs)
    events, usage = (list(_records(directory / "feed" / feed)) for feed in runs.RECORD_TABLES)
    return Site(truth, events, usage, directory / "output")


def _records(directory: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(directory.rglob("*.*")):
        data = path.read_bytes()
        for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines():
            if line:
                yield jobs.load(line)


def time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def unit(record: dict[str, Any]) -> str:
    return {5: "MB", 6: "SMS"}[record["traffic_type"]["id"]]


def test_the_page_is_written_from_the_queries() -> None:
    assert (runs.REPOSITORY / "docs" / "queries.md").read_text() == queries_page()


def test_cost_per_device(site: Site) -> None:
    wanted: defaultdict[int, Decimal] = defaultdict(Decimal)
    for record in site.usage:
        place = record["operator"]["country"]["mcc"]
        if place == "222" and record["currency"]["code"] == "EUR" and time(record["end_timestamp"]) < WEEK[1]:
            wanted[record["endpoint"]["id"]] += Decimal(record["cost"] or 0)
    found = {device: cost or 0 for device, _, cost in site.ask("cost_per_device", ("2026-11-01", "2026-11-02"))}
    assert found == wanted and len(found) > 3
    italy = [row for row in site.truth["usage"]["by_country"] if (row["country_iso"], row["currency"]) == ("IT", "EUR")]
    total = sum(Decimal(row["cost"] or 0) for row in italy)
    assert sum(found.values()) == total
    october = {device: cost for device, _, cost in site.ask("cost_per_device")}
    assert 0 < sum(october.values()) <= total


def test_limits_passed(site: Site) -> None:
    rows = site.ask("limits_passed")
    wanted = sorted(
        (time(record["timestamp"]), record["endpoint"]["id"])
        for record in site.events
        if _passes_a_limit(record) and record.get("endpoint") and WEEK[0] <= time(record["timestamp"]) < WEEK[1]
    )
    assert sorted((moment, device) for moment, device, *_ in rows) == wanted and len(wanted) > 3
    assert {device for _, device in wanted} >= set(map(int, site.truth["limits"]["event_types_by_endpoint"]))
    for moment, device, _, limit, percent, *_, used, name in rows:
        assert limit is not None
        assert percent is None or 0 <= percent <= 100
        if used is not None:
            month = datetime(moment.year, moment.month, 1, tzinfo=UTC)
            volumes = [
                Decimal(record["volume"]["total"])
                for record in site.usage
                if record["endpoint"]["id"] == device
                and unit(record) == name
                and month <= time(record["end_timestamp"]) <= moment
            ]
            assert used == sum(volumes)
    assert any(row[6] is not None for row in rows)


def _passes_a_limit(record: dict[str, Any]) -> bool:
    number, text = record["event_type"]["id"], record["description"]
    return number in LIMIT_TYPES or number == 0 and "throttling" in text


def test_usage_by_network(site: Site) -> None:
    wanted: defaultdict[tuple[Any, ...], list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0)])
    for record in site.usage:
        operator = record["operator"]
        row = wanted[operator["country"]["mcc"], operator["name"], record["tariff"]["ratezone"]["name"], unit(record)]
        row[0] += Decimal(record["volume"]["total"])
        row[1] += 1
    codes = dict(query(site.output, "SELECT DISTINCT mcc, country_iso FROM usage").rows)
    found = {row[:4]: list(row[4:]) for row in site.ask("usage_by_network")}
    assert found == {(codes[mcc], *key): sums for (mcc, *key), sums in wanted.items()}


def test_why_offline(site: Site) -> None:
    ends = [
        (time(record["timestamp"]), record["endpoint"]["id"])
        for record in site.events
        if record["event_type"]["id"] in (15, 16)
    ]
    moment, device = max(ends)
    rows = site.ask("why_offline", ("1001", str(device)))
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
    (row,) = [row for row in rows if row[0] == moment and row[6] == "offline"]
    assert (row[3], row[4]) == ("location_purged", "connectivity")


def test_rejections(site: Site) -> None:
    wanted: defaultdict[datetime, int] = defaultdict(int)
    for record in site.events:
        if "rejected" in record["description"].lower():
            wanted[time(record["timestamp"]).replace(minute=0, second=0, microsecond=0)] += 1
    rows = site.ask("rejections")
    found: defaultdict[datetime, int] = defaultdict(int)
    for _, hour, reason, number in rows:
        assert reason is not None
        found[hour] += number
    assert found == wanted
    assert sum(found.values()) == site.truth["events"]["by_outcome"]["rejected"]
    assert any(operator for operator, *_ in rows)


def test_hours_final(site: Site) -> None:
    hours = {hour for feed in site.truth["feeds"].values() for hour in feed["hours"]}
    assert site.ask("hours_final") == [(time(hour), True, 0) for hour in sorted(hours)]


def test_hours_changed(site: Site) -> None:
    finished = json.loads((site.output / "run.json").read_text())["finished"]
    moment = datetime.fromtimestamp(finished / 1e6, UTC)
    before, after = (f"{moment + timedelta(hours=step):%Y-%m-%d %H:%M:%S}" for step in (-1, 1))
    rows = site.ask("hours_changed", ("2026-10-28 12:00:00", before))
    found = {(feed, hour): records for hour, feed, _, records in rows}
    assert found == {
        (name, time(hour)): records
        for name, feed in site.truth["feeds"].items()
        for hour, records in feed["hours"].items()
    }
    assert site.ask("hours_changed", ("2026-10-28 12:00:00", after)) == []


def test_sessions(site: Site) -> None:
    truth = site.truth["sessions"]
    rows = site.ask("sessions")
    closed = [row for row in rows if row[4]]
    assert len(closed) == truth["deleted"]
    assert sum(row[3] for row in closed) == truth["seconds"]
    assert sum(row[6] for row in closed if row[6] is not None) == Decimal(truth["volume_total"])
    used: defaultdict[str, Decimal] = defaultdict(Decimal)
    for record in site.usage:
        if record["session_id"] and unit(record) == "MB":
            used[record["session_id"]] += Decimal(record["volume"]["total"])
    assert {row[0]: row[5] for row in rows if row[5] is not None} == used


def test_failed_logins(site: Site) -> None:
    found: defaultdict[tuple[str, str], int] = defaultdict(int)
    for user, address, reason, attempts, _ in site.ask("failed_logins"):
        assert reason is not None
        found[user, address] += attempts
    assert found == {(row["user"], row["source_ip"]): row["events"] for row in site.truth["failed_logins"]}
    assert len(found) > 3
