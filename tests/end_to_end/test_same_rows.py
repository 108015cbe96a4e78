"""The same rows in whatever order records come, and in however many buckets of devices they are worked on."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import jobs, runs
from warehouse.audit import audit

pytestmark = pytest.mark.slow

TABLES = (*runs.RECORD_TABLES, "device_usage_hourly", "device_events_hourly")


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A feed with many conflicts, also between devices, and its truth."""
    directory = tmp_path_factory.mktemp("feed")
    truth = runs.feed(
        directory, devices=25, days=1, seed=31, duplicates=0.1, conflicts=0.05, rerendered=0.3, late=0.1, gzipped=0,
        renderings={"current": 0.7, "rest": 0.1, "legacy": 0.1, "csv": 0.1},
    )  # fmt: skip
    return directory, truth


def _run(directory: Path, output: Path, *options: str) -> None:
    jobs.run(output, *options, **{feed: f"{directory}/{feed}/*/*" for feed in runs.RECORD_TABLES})


@pytest.fixture(scope="module")
def once(feed: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("once") / "output"
    _run(feed[0], output)
    return output


def _letters(output: Path) -> list[tuple[Any, ...]]:
    return sorted(runs.ask(output, "SELECT kind, feed, reason, record_id, payload_sha256 FROM dead_letters"), key=repr)


def _sums(output: Path) -> list[tuple[Any, ...]]:
    return runs.ask(
        output,
        "SELECT stage, feed, hour, sum(received), sum(empty), sum(decoded), sum(duplicates), sum(conflicts), "
        "sum(dead_lettered), sum(delivered), bool_or(final) FROM ledger GROUP BY ALL ORDER BY ALL",
    )


def test_conflicts_are_many(once: Path, feed: tuple[Path, dict[str, Any]]) -> None:
    for name, truth in feed[1]["feeds"].items():
        found = runs.ask(once, f"SELECT count(*) FROM dead_letters WHERE kind = 'conflict' AND feed = '{name}'")
        assert found == [(truth["conflicts"],)] and truth["conflicts"] > 20


def test_four_buckets_hold_the_same_rows_as_one(once: Path, feed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    output = tmp_path / "output"
    _run(feed[0], output, "--buckets=4")
    buckets = {path.name.split("-")[2] for path in output.glob("warehouse/events/dt=*/hh=*/*.parquet")}
    assert buckets == {"0", "1", "2", "3"}
    for table in TABLES:
        leave_out = {"pane"} if table in runs.RECORD_TABLES else runs.LINEAGE
        assert runs.rows(output, table, leave_out) == runs.rows(once, table, leave_out), table
    assert runs.rows(output, "dead_letters") == runs.rows(once, "dead_letters")
    assert _sums(output) == _sums(once)
    assert audit(output).ok


def test_shuffled_lines_give_the_same_rows(once: Path, feed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    mixed = tmp_path / "feed"
    shutil.copytree(feed[0], mixed)
    for name in runs.RECORD_TABLES:
        _shuffle(sorted((mixed / name).rglob("*.ndjson")), random.Random(1))
    _run(mixed, tmp_path / "output")
    for table in TABLES:
        assert runs.rows(tmp_path / "output", table, runs.LINEAGE) == runs.rows(once, table, runs.LINEAGE), table
    assert _letters(tmp_path / "output") == _letters(once)
    assert audit(tmp_path / "output").ok


def _shuffle(paths: list[Path], chance: random.Random) -> None:
    """Deals the lines of files out to them anew, in random order."""
    assert len(paths) > 1
    lines = [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]
    chance.shuffle(lines)
    for place, path in enumerate(paths):
        path.write_bytes(b"".join(lines[place :: len(paths)]))
