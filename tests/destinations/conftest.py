from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.destinations.bench import Benches
from tests.destinations.site import Site
from tests.end_to_end import runs


@pytest.fixture(scope="package")
def benches() -> Iterator[Benches]:
    """The benches; each server is started once, and stopped behind the last of these tests: what waits takes time of
    the processor, too.
    """
    opened = Benches()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated day: some thousand records, with duplicates, malformed and late ones."""
    directory = tmp_path_factory.mktemp("feed")
    runs.feed(directory, devices=60, days=1, seed=5)
    return directory


@pytest.fixture(scope="session")
def day(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The day in a warehouse, without streams."""
    site = Site(feed, tmp_path_factory.mktemp("day"))
    site.run(None)
    return site


@pytest.fixture(scope="session")
def morning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first hours of a simulated day, as one file of each feed: a run takes its time for each hour."""
    directory = tmp_path_factory.mktemp("morning")
    runs.feed(directory / "day", devices=120, days=1, seed=5, renderings={"current": 1.0}, rerendered=0.0, gzipped=0.0)
    for kind in runs.RECORD_TABLES:
        files = sorted((directory / "day" / kind).glob("*/*"))
        lines = [line for file in files for line in file.read_bytes().splitlines(keepends=True)]
        early = directory / kind / "early" / "morning.ndjson"
        early.parent.mkdir(parents=True)
        early.write_bytes(b"".join(line for line in lines if not _LATER.search(line)))
    return directory


_LATER = re.compile(rb'"(timestamp|end_timestamp)":"[^"]*[T ](0[6-9]|1\d|2\d):')


@pytest.fixture
def site(morning: Path, tmp_path: Path) -> Site:
    """The morning, to be run."""
    return Site(morning, tmp_path / "output")


@pytest.fixture
def whole_day(feed: Path, tmp_path: Path) -> Site:
    """The day, to be run."""
    return Site(feed, tmp_path / "output")
