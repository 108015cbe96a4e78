"""Pushed streams over several runs: what could not be delivered comes later, once, and in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import commands
from tests.end_to_end import jobs, runs
from tests.servers.http import Answer, Receiver, Request, always, receiver
from warehouse.audit import audit

DOWN = always(Answer(503))


class Site:
    """Feeds of two days, a receiver, and an output directory."""

    def __init__(self, directory: Path, feed: Path, server: Receiver) -> None:
        self.directory, self.feed, self.server, self.output = directory, feed, server, directory / "output"
        self.first, self.second = sorted(path.name for path in (feed / "events").iterdir())

    def streams(self, state: str = "running") -> Path:
        pushed = {"type": "webhook", "url": f"{self.server.address}/events", "retry": {"attempts": 1}}
        return jobs.write_streams(
            self.directory / "streams.yaml",
            {"name": "pushed", "content": "events", "destination": pushed, "batch": {"size": 30}, "state": state},
        )

    def run(self, day: str, code: int = 0, state: str = "running") -> str:
        events = f"{self.feed}/events/{day}/*"
        return jobs.run(self.output, "--no_report", streams=self.streams(state), code=code, events=events)

    def deliver(self, code: int = 0) -> None:
        assert commands.main(["deliver", str(self.output), "--streams", str(self.streams())]) == code

    def pending(self) -> int:
        ((count,),) = runs.ask(self.output, "SELECT sum(pending)::INT FROM ledger WHERE stage = 'stream'")
        return int(count)

    def arrived(self) -> list[int]:
        return [event["event_id"] for request in self.server.accepted() for event in json.loads(request.body)]

    def hours(self) -> dict[int, tuple[str, str, int]]:
        """Hour, writer and pane of every event: what waits is delivered in this order."""
        rows = runs.ask(self.output, "SELECT event_id, hour::VARCHAR, writer, pane FROM events")
        return {number: (hour, writer, pane) for number, hour, writer, pane in rows}


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("feed")
    runs.feed(directory, devices=12, days=2, seed=8)
    return directory


@pytest.fixture
def site(feed: Path, tmp_path: Path) -> Iterator[Site]:
    with receiver() as server:
        yield Site(tmp_path, feed, server)


def check_all_arrived_in_order(site: Site) -> None:
    arrived, hours = site.arrived(), site.hours()
    assert sorted(arrived) == sorted(hours)
    assert [hours[number] for number in arrived] == sorted(hours.values())
    assert site.pending() == 0 and not list((site.output / "pending").rglob("*.arrow"))
    assert audit(site.output).ok


def test_down_in_two_runs_and_delivered_when_it_is_back(site: Site) -> None:
    site.server.script = DOWN
    site.run(site.first, code=3)
    first = site.pending()
    assert first == len(site.hours()) > 0
    text = site.run(site.second, code=3)
    assert "answered 503" in text and site.pending() == len(site.hours()) > first
    site.deliver(code=3)
    assert site.pending() == len(site.hours()) and site.arrived() == [] and audit(site.output).ok
    site.server.script = always(Answer())
    site.deliver()
    check_all_arrived_in_order(site)


@pytest.mark.slow
def test_back_during_the_second_run_nothing_is_overtaken(site: Site) -> None:
    """Down when the run begins, with what waits; up when the run's own records would be sent: they wait, too."""
    site.server.script = DOWN
    site.run(site.first, code=3)
    asked = len(site.server.requests)
    site.server.script = lambda number, request: Answer(503 if number == asked + 1 else 200)
    text = site.run(site.second, code=3)
    assert site.arrived() == [] and "answered 503" in text
    site.deliver()
    check_all_arrived_in_order(site)


@pytest.mark.slow
def test_what_waits_comes_before_what_is_new(site: Site) -> None:
    site.server.script = DOWN
    site.run(site.first, code=3)
    waited = site.hours()
    site.server.script = always(Answer())
    site.run(site.second)
    arrived = site.arrived()
    assert set(arrived[: len(waited)]) == set(waited) and sorted(arrived) == sorted(site.hours())
    assert site.pending() == 0 and audit(site.output).ok


@pytest.mark.slow
def test_paused_then_running(site: Site) -> None:
    site.run(site.first, state="paused")
    site.run(site.second, state="paused")
    assert site.server.requests == [] and site.pending() == len(site.hours())
    site.deliver()
    check_all_arrived_in_order(site)


@pytest.mark.slow
@pytest.mark.parametrize("taken", [3, 7])
def test_failing_in_the_middle_of_what_waits(site: Site, taken: int) -> None:
    """Each delivery gets so many requests through: parts are delivered in part, and their rest waits on."""
    site.run(site.first, state="paused")
    for _ in range(100):
        asked = len(site.server.requests)

        def script(number: int, request: Request, asked: int = asked) -> Answer:
            return Answer(200 if number <= asked + taken else 503)

        site.server.script = script
        before = site.pending()
        site.deliver(code=3 if before > 30 * taken else 0)
        assert audit(site.output).ok
        if site.pending() == 0:
            break
        assert site.pending() == before - 30 * taken
    check_all_arrived_in_order(site)


@pytest.mark.slow
def test_the_same_run_again_after_a_part_was_delivered(site: Site) -> None:
    """The records of the run are delivered anew, and nothing of what waited stays."""
    site.run(site.first, state="paused")
    site.server.script = lambda number, request: Answer(200 if number <= 2 else 503)
    site.deliver(code=3)
    site.server.script = always(Answer())
    site.run(site.first)
    arrived = site.arrived()
    assert sorted(arrived[60:]) == sorted(site.hours()) and set(arrived) == set(site.hours())
    assert site.pending() == 0 and not list((site.output / "pending").rglob("*.arrow")) and audit(site.output).ok
