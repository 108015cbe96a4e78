"""The same rows, however often, in how many processes, and in whatever pieces a feed is run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.end_to_end import runs
from warehouse.audit import audit


@pytest.fixture(scope="module")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of a feed without conflicts: which copy of a conflict stays depends on what is committed first."""
    directory = tmp_path_factory.mktemp("feeds")
    runs.feed(directory, devices=30, days=2, seed=5, duplicates=0.05, late=0.1, shuffled=0.5)
    return directory


@pytest.fixture(scope="module")
def once(feeds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one undisturbed run."""
    output = tmp_path_factory.mktemp("once") / "output"
    runs.run(f"{feeds}/{{feed}}/*/*", output)
    return output


@pytest.mark.parametrize(
    "options",
    [("--direct_runner_bundle_repeat=3",), ("--processes=2",)],
    ids=["every bundle three times", "two processes"],
)
def test_same_rows_and_files(feeds: Path, once: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    runs.run(f"{feeds}/{{feed}}/*/*", tmp_path / "output", *options, apart=True)
    assert runs.state(tmp_path / "output") == runs.state(once)
    assert runs.stream_bytes(tmp_path / "output") == runs.stream_bytes(once)


def test_a_second_run_replaces_its_own_output(feeds: Path, once: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    shutil.copytree(once, output)
    runs.run(f"{feeds}/{{feed}}/*/*", output)
    assert runs.state(output) == runs.state(once)
    assert runs.stream_bytes(output) == runs.stream_bytes(once)
    assert audit(output).ok


def test_a_narrower_filter_leaves_nothing_of_the_wider_one(feeds: Path, once: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    shutil.copytree(once, output)
    narrow = tmp_path / "streams.yaml"
    narrow.write_text(
        "streams:\n  - {name: warnings, content: events, filter: {category: sim_order}, destination: {type: files}}\n"
    )
    runs.run(f"{feeds}/{{feed}}/*/*", output, streams=narrow)
    assert {path.split("/")[0] for path in runs.stream_bytes(output)} == {"warnings"}
    assert audit(output).ok


def test_day_by_day_equals_both_days_at_once(feeds: Path, once: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    for day in sorted(path.name for path in (feeds / "events").iterdir()):
        runs.run(f"{feeds}/{{feed}}/{day}/*", output)
    for table in runs.RECORD_TABLES:
        assert runs.rows(output, table, runs.LINEAGE) == runs.rows(once, table, runs.LINEAGE)
    for sums in (
        "SELECT hour, endpoint_id, organisation_id, unit, currency, country_iso, sum(volume_rx), sum(volume_tx), "
        "sum(cost), sum(records), sum(unpriced_records) FROM device_usage_hourly GROUP BY ALL ORDER BY ALL",
        "SELECT hour, endpoint_id, organisation_id, event_type_id, outcome, reason, sum(events), sum(alerts), "
        "min(first_time), max(last_time) FROM device_events_hourly GROUP BY ALL ORDER BY ALL",
    ):
        assert runs.ask(output, sums) == runs.ask(once, sums)
    assert audit(output).ok


def test_the_first_day_again_after_the_second_changes_nothing(feeds: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    first, second = sorted(path.name for path in (feeds / "events").iterdir())
    for day in (first, second):
        runs.run(f"{feeds}/{{feed}}/{day}/*", output)
    before = runs.state(output)
    runs.run(f"{feeds}/{{feed}}/{first}/*", output)
    assert runs.state(output) == before
