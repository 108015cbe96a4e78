"""Streams that fail or are paused: nothing is lost, the others go on, and what waits is delivered once and in order."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipelines import commands
from pipelines.waiting import deliver_waiting
from tests.end_to_end import jobs, runs
from transforms.deliver import pending
from transforms.ledger.settle import settle
from transforms.route.definitions import load_streams
from warehouse.audit import audit


class Site:
    """Feeds of two days, a target that can be broken and mended, and an output directory."""

    def __init__(self, directory: Path, feed: Path) -> None:
        self.directory, self.feed = directory, feed
        self.output, self.target = directory / "output", directory / "target"
        self.first, self.second = sorted(path.name for path in (feed / "events").iterdir())

    def streams(self, state: str = "running", **more: dict[str, Any]) -> Path:
        outside = {"type": "files", "path": f"{self.target}/{{stream}}"}
        return jobs.write_streams(
            self.directory / "streams.yaml",
            {"name": "good", "content": "events"},
            {"name": "outside-usage", "content": "usage", "format": "csv", "shape": "csv", "destination": outside},
            {
                "name": "outside-sums", "content": "device_usage_hourly", "format": "parquet", "destination": outside,
                "filter": {"traffic_type": "data"},
            },
            {"name": "outside-counts", "content": "device_events_hourly", "destination": outside},
            {"name": "warnings", "content": "events", "filter": {"min_severity": "WARN"}, "state": state},
        )  # fmt: skip

    def inside(self, state: str = "running") -> Path:
        """Streams that deliver below the output directory only, so that it can be copied."""
        return jobs.write_streams(
            self.directory / "streams.yaml",
            {"name": "good", "content": "events"},
            {"name": "warnings", "content": "events", "filter": {"min_severity": "WARN"}, "state": state},
        )

    def broken(self) -> None:
        """Tests may run as root, whom no rights stop: a file stands where the directory should be."""
        self.target.write_text("a file")

    def mend(self) -> None:
        self.target.unlink()

    def run(self, day: str, streams: Path, code: int = 0) -> str:
        feeds = {feed: f"{self.feed}/{feed}/{day}/*" for feed in runs.RECORD_TABLES}
        return jobs.run(self.output, streams=streams, code=code, **feeds)

    def waiting(self) -> list[str]:
        root = self.output / "pending"
        return sorted({path.relative_to(root).parts[0] for path in root.rglob("*.arrow")})

    def pending(self) -> dict[str, int]:
        return dict(
            runs.ask(self.output, "SELECT stream, sum(pending)::INT FROM ledger WHERE stage = 'stream' GROUP BY 1")
        )

    def delivered(self) -> dict[str, int]:
        return dict(
            runs.ask(self.output, "SELECT stream, sum(delivered)::INT FROM ledger WHERE stage = 'stream' GROUP BY 1")
        )

    def files(self) -> dict[str, bytes]:
        roots = (self.output / "streams", self.target)
        return {str(path): path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()}


OUTSIDE = ["outside-counts", "outside-sums", "outside-usage"]


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("feed")
    runs.feed(directory, devices=12, days=2, seed=8)
    return directory


@pytest.fixture
def site(feed: Path, tmp_path: Path) -> Site:
    return Site(tmp_path, feed)


@pytest.fixture(scope="module")
def whole(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files, by their path within the site, that a run of the first day delivers where nothing fails."""
    site = Site(tmp_path_factory.mktemp("whole"), feed)
    site.run(site.first, site.streams())
    return _within(site)


@pytest.fixture(scope="module")
def first_day_paused(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = Site(tmp_path_factory.mktemp("paused"), feed)
    text = site.run(site.first, site.inside("paused"))
    assert "paused" in text and site.waiting() == ["warnings"]
    assert site.pending()["warnings"] > 0 and audit(site.output).ok
    assert not (site.output / "streams" / "warnings").exists()
    return site.output


@pytest.fixture
def paused(feed: Path, first_day_paused: Path, tmp_path: Path) -> Site:
    """A site with the first day in it, one of its two streams paused."""
    site = Site(tmp_path, feed)
    shutil.copytree(first_day_paused, site.output)
    return site


def _within(site: Site) -> dict[str, bytes]:
    return {path.removeprefix(str(site.directory)): content for path, content in site.files().items()}


def test_a_stream_that_fails_stops_no_other(site: Site, whole: dict[str, bytes]) -> None:
    site.broken()
    text = site.run(site.first, site.streams(), code=3)
    for name in OUTSIDE:
        assert f"stream {name}: cannot write to" in text
    assert "a file is where a directory should be: move it away" in " ".join(text.split())
    assert site.waiting() == OUTSIDE
    waits = site.pending()
    assert all(waits[name] > 0 for name in OUTSIDE) and waits["good"] == waits["warnings"] == 0
    assert {path: data for path, data in whole.items() if "/streams/" in path} == _within(site)
    assert audit(site.output).ok
    run = {stream["name"]: stream for stream in json.loads((site.output / "run.json").read_text())["streams"]}
    assert all(run[name]["error"] and run[name]["remedy"] for name in OUTSIDE)

    # Delivered while it is broken: still pending. Mended: delivered, as if nothing had been wrong.
    streams = str(site.directory / "streams.yaml")
    assert commands.main(["deliver", str(site.output), "--streams", streams]) == 3
    assert site.pending() == waits and audit(site.output).ok
    site.mend()
    assert commands.main(["deliver", str(site.output), "--streams", streams]) == 0
    assert _within(site) == whole
    assert set(site.pending().values()) == {0} and site.waiting() == []
    assert audit(site.output).ok
    assert commands.main(["deliver", str(site.output), "--streams", streams]) == 0

    # The same run again: the deltas of the delivery go with the commit that they belonged to.
    site.run(site.first, site.streams())
    assert _within(site) == whole
    assert set(site.pending().values()) == {0} and audit(site.output).ok


def test_a_paused_stream_is_delivered_first_in_the_next_run(paused: Site, whole: dict[str, bytes]) -> None:
    waits = paused.pending()["warnings"]
    paused.run(paused.second, paused.inside())
    assert paused.waiting() == [] and set(paused.pending().values()) == {0}
    assert paused.delivered()["warnings"] > waits
    found = _within(paused)
    assert {path: found.get(path) for path in whole if "/output/" in path} == _below_output(whole)
    assert audit(paused.output).ok


def _below_output(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if path.startswith("/output/")}


@pytest.mark.slow
def test_a_paused_stream_stays_paused(paused: Site) -> None:
    waits = paused.pending()["warnings"]
    paused.run(paused.second, paused.inside("paused"))
    assert paused.pending()["warnings"] > waits
    assert audit(paused.output).ok
    for state, left in (("paused", paused.pending()["warnings"]), ("running", 0)):
        assert commands.main(["deliver", str(paused.output), "--streams", str(paused.inside(state))]) == 0
        assert paused.pending()["warnings"] == left
        assert audit(paused.output).ok
    assert paused.waiting() == []


@pytest.mark.parametrize("state", ["running", "paused"])
def test_the_same_run_again_leaves_no_stale_pending(paused: Site, whole: dict[str, bytes], state: str) -> None:
    paused.run(paused.first, paused.inside(state))
    assert paused.waiting() == ([] if state == "running" else ["warnings"])
    wanted = {path: data for path, data in _below_output(whole).items() if state == "running" or "/good/" in path}
    assert _within(paused) == wanted
    assert audit(paused.output).ok


@pytest.mark.slow
def test_a_run_that_fails_where_the_last_one_delivered(site: Site, whole: dict[str, bytes]) -> None:
    site.run(site.first, site.streams())
    site.target.rename(site.directory / "gone")
    site.broken()
    site.run(site.first, site.streams(), code=3)
    assert site.waiting() == OUTSIDE
    assert _within(site) == _below_output(whole)
    assert audit(site.output).ok


@pytest.mark.slow
def test_order_of_what_waits(paused: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hour, whichever run they are of: the second day's files hold late records of the first."""
    paused.run(paused.second, paused.inside("paused"))
    taken = []
    take = pending.spool.take
    monkeypatch.setattr(pending.spool, "take", lambda output, part: taken.append(part) or take(output, part))
    deliver_waiting(str(paused.output), load_streams(str(paused.inside())))
    assert len({part.writer for part in taken}) == 2
    assert [part.hour for part in taken] == sorted(part.hour for part in taken)
    assert audit(paused.output).ok


class Killed(BaseException):
    """The process dies."""


@pytest.mark.parametrize("moment", ["before the ledger", "before the spool is emptied"])
def test_a_delivery_that_is_killed_is_repeated(
    paused: Site, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    waits = paused.pending()["warnings"]
    streams = load_streams(str(paused.inside()))

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if moment == "before the ledger":
            pending.deliver_pending(str(paused.output), streams, die)
        else:
            patch.setattr(pending.spool, "discard", die)
            pending.deliver_pending(str(paused.output), streams, partial(settle, str(paused.output)))
    for _ in range(2):
        deliver_waiting(str(paused.output), streams)
        assert paused.waiting() == []
        assert _within(paused) == _below_output(whole)
        assert paused.pending()["warnings"] == 0 and paused.delivered()["warnings"] == waits
        assert audit(paused.output).ok


@pytest.mark.slow
def test_records_of_a_stream_that_is_defined_no_more_stay(paused: Site) -> None:
    waits = paused.pending()["warnings"]
    other = jobs.write_streams(paused.directory / "other.yaml", {"name": "good", "content": "events"})
    paused.run(paused.second, other)
    assert paused.pending()["warnings"] == waits and paused.waiting() == ["warnings"]
    assert audit(paused.output).ok
    assert commands.main(["deliver", str(paused.output), "--streams", str(other)]) == 3
