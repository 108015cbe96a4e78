"""The job and a plain SQL version of it agree row by row: a second opinion on decoding, classification and sums."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from benchmarks import sides
from benchmarks.compare import compare
from benchmarks.feeds import Feed, feed

RECORDS = 5_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Feed:
    return feed(tmp_path_factory.mktemp("feed"), RECORDS)


@pytest.fixture(scope="module")
def outputs(data: Feed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("output")
    sides.ours(data, directory / "ours", 1)
    sides.peer(data, directory / "peer")
    return directory / "ours", directory / "peer"


def test_results_are_equal(data: Feed, outputs: tuple[Path, Path]) -> None:
    counts, differences = compare(*outputs)
    assert not differences, "\n".join(map(str, differences))
    assert counts["events"] + counts["usage"] > 0.9 * data.lines


def test_difference_is_found(outputs: tuple[Path, Path], tmp_path: Path) -> None:
    ours, changed = outputs[0], tmp_path / "changed"
    shutil.copytree(ours, changed)
    part = next((changed / "warehouse" / "usage").rglob("*.parquet"))
    rows = f"SELECT * REPLACE (cost + 0.0000000001 AS cost) FROM read_parquet('{part}')"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({rows}) TO '{part}.new' (FORMAT parquet)")
    Path(f"{part}.new").replace(part)
    _, differences = compare(ours, changed)
    assert {(difference.table, difference.side) for difference in differences} == {("usage", "ours"), ("usage", "peer")}


def test_streams_select_rows(data: Feed, tmp_path: Path) -> None:
    streams = sides.many_streams(tmp_path / "streams.yaml", data.organisations, 3)
    sides.ours(data, tmp_path / "output", 1, streams)
    assert sides.selected_rows(tmp_path / "output") > 0
