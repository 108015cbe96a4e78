from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.destinations.bench import Benches
from tests.destinations.site import Site
from tests.end_to_end import runs


@pytest.fixture(scope="session")
def benches() -> Iterator[Benches]:
    """The benches; each server is started once."""
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


@pytest.fixture
def site(feed: Path, tmp_path: Path) -> Site:
    """The day, to be run."""
    return Site(feed, tmp_path / "output")
