"""An output directory that was moved: its views, its proof and its next run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end import jobs, runs
from warehouse.audit import audit
from warehouse.sql import query


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("moved")
    events = jobs.write_lines(directory / "events.ndjson", list(jobs.samples("events").values()))
    streams = jobs.write_streams(directory / "streams.yaml", {"name": "all", "content": "events", "format": "parquet"})
    jobs.run(directory / "before", events=events, streams=streams, report=True)
    (directory / "else where").mkdir()
    return (directory / "before").rename(directory / "else where" / "a [b], c's*")


def test_plain_duckdb_opens_it_from_inside(moved: Path) -> None:
    # A process of its own, since the working directory is one of the process.
    program = (
        "import duckdb; c = duckdb.connect('warehouse.duckdb', read_only=True); "
        "names = [row[0] for row in c.sql('SHOW TABLES').fetchall()]; "
        "counts = {name: c.sql(f'SELECT count(*) FROM {name}').fetchall()[0][0] for name in names}; "
        "print(len(names), counts['events'], counts['ledger'] > 0, counts['usage'])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=moved, capture_output=True, text=True, timeout=60)
    assert done.stdout.split()[1:] == [str(len(jobs.samples("events"))), "True", "0"], done.stderr
    assert int(done.stdout.split()[0]) >= 15


def test_sql_and_audit_find_it(moved: Path) -> None:
    assert query(moved, "SELECT count(*) FROM events").rows == [(len(jobs.samples("events")),)]
    assert audit(moved).ok


def test_a_run_goes_on_in_it(moved: Path) -> None:
    usage = jobs.write_lines(moved.parent / "usage.ndjson", list(jobs.samples("usage").values()))
    jobs.run(moved, usage=usage)
    assert query(moved, "SELECT count(*) FROM usage").rows == [(2,)]
    assert query(moved, "SELECT count(*) FROM events").rows == [(len(jobs.samples("events")),)]
    assert audit(moved).ok


def test_pyarrow_reads_it_with_its_default_settings(moved: Path) -> None:
    import pyarrow.dataset as ds

    assert ds.dataset(str(moved / "warehouse" / "events")).count_rows() == len(jobs.samples("events"))
    assert runs.temporary_files(moved) == []
