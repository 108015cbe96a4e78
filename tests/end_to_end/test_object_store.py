"""Feeds, streams file, output and a stream's own path in object stores: the same rows and bytes as on a disk."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import google.auth
import pytest
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from google.auth.credentials import AnonymousCredentials

from pipelines import commands
from tests.end_to_end import jobs, runs
from tests.servers.aws import aws_emulator
from tests.servers.storage import storage_emulator
from warehouse.remote import local_copy

BUCKET = "acme-iot"
PLACES = {"source_file", "ingest_time", "id", "published_time"}
"""Columns that name the input file, or when it was written."""


_HOUR = re.compile(rb"2026-\d\d-\d\d[T ](\d\d):")
_HOURS = {b"22", b"23", b"00", b"01"}


class Store:
    """An object store with a feed in it, and what one local run made of the same feed.

    Attributes:
      root: URL of the bucket.
      local: the output directory of the local run.
      printed: what the run into ``output`` printed.
    """

    def __init__(self, scheme: str, local: Path, feed: Path) -> None:
        self.root, self.local = f"{scheme}://{BUCKET}", local
        for path in sorted(feed.rglob("*")):
            if path.is_file():
                self.put(f"raw/{path.relative_to(feed)}", path.read_bytes())
        self.days = sorted(path.name for path in (feed / "events").iterdir())
        self.printed = self.run("output")

    def put(self, name: str, content: bytes) -> None:
        with FileSystems.create(f"{self.root}/{name}", compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write(content)

    def read(self, name: str) -> bytes:
        with FileSystems.open(f"{self.root}/{name}", compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return bytes(file.read())

    def below(self, directory: str) -> dict[str, bytes]:
        """The objects below a directory by their relative name."""
        prefix = f"{self.root}/{directory}/"
        (match,) = FileSystems.match([f"{prefix}**"])
        names = [found.path.removeprefix(self.root + "/") for found in match.metadata_list]
        return {name.removeprefix(f"{directory}/"): self.read(name) for name in names}

    def streams(self, output: str, state: str = "running") -> str:
        listed = streams(f"{self.root}/partner/{output}", state)
        self.put("streams.yaml", json.dumps({"streams": listed}).encode())
        return f"{self.root}/streams.yaml"

    def run(self, output: str, day: str = "*", state: str = "running") -> str:
        done = jobs.start(
            f"--events={self.root}/raw/events/{day}/*", f"--usage={self.root}/raw/usage/{day}/*",
            f"--streams={self.streams(output, state)}", f"--output={self.root}/{output}",
        )  # fmt: skip
        assert done.code == 0, done.text
        return done.text


def streams(partner: str, state: str = "running") -> list[dict[str, Any]]:
    """Three streams of the output directory, and one with a path of its own."""
    files = {"type": "files"}
    return [
        {"name": "archive", "content": "usage", "format": "parquet", "destination": files},
        {"name": "warnings", "content": "events", "shape": "emnify", "filter": {"min_severity": "WARN"},
         "destination": files},
        {"name": "sums", "content": "device_usage_hourly", "destination": {"type": "warehouse"}},
        {"name": "partner", "content": "usage", "shape": "csv", "format": "csv", "filter": {"traffic_type": "data"},
         "state": state, "destination": {"type": "files", "path": partner}},
    ]  # fmt: skip


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hours about a midnight of a small feed with all that reads back from it: duplicates, conflicts, dead letters.

    Few hours: a store takes much longer for an object than for its records.
    """
    directory = tmp_path_factory.mktemp("feed")
    runs.feed(
        directory, devices=20, days=2, seed=5, duplicates=0.05, conflicts=0.02, malformed=0.02, late=0.1, shuffled=0.5
    )
    for path in directory.glob("*/*/*"):
        if path.name.startswith("rest"):  # arrays over many lines
            path.unlink()
            continue
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rb") as file:
            lines = [line for line in file if (time := _HOUR.search(line)) is None or time[1] in _HOURS]
        with opened(path, "wb") as file:
            file.writelines(lines)
    return directory


@pytest.fixture(scope="module")
def local(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run on this machine's disk; its ``partner`` directory is that of the stream ``partner``."""
    directory = tmp_path_factory.mktemp("local")
    file = directory / "streams.yaml"
    file.write_text(json.dumps({"streams": streams(f"{directory}/partner")}))
    jobs.run(directory / "output", events=f"{feed}/events/*/*", usage=f"{feed}/usage/*/*", streams=file)
    return directory / "output"


@pytest.fixture(scope="module")
def cloud_storage(feed: Path, local: Path) -> Iterator[Store]:
    with storage_emulator(BUCKET) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", server.address)
        patch.setattr(google.auth, "default", lambda **_: (AnonymousCredentials(), BUCKET))
        yield Store("gs", local, feed)


@pytest.fixture
def bucket_url() -> Iterator[str]:
    """URL of an empty bucket of S3."""
    with aws_emulator() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        server.create_bucket(BUCKET)
        FileSystems.set_options(PipelineOptions())
        yield f"s3://{BUCKET}"


def rows_of(output: Path, table: str) -> list[tuple[Any, ...]]:
    return runs.rows(output, table, PLACES)


def same_as_local(store: Store, output: str) -> None:
    """Tables row by row; streams byte by byte, where they do not name the input file."""
    with local_copy(f"{store.root}/{output}", whole=True) as copy:
        for table in set(runs.ALL_TABLES) - {"inputs"}:
            assert rows_of(copy, table) == rows_of(store.local, table), table
        assert inputs_of(copy) == inputs_of(store.local)
        found, expected = runs.stream_bytes(copy), runs.stream_bytes(store.local)
        assert list(found) == list(expected)
        assert archive(copy) == archive(store.local)
        named = {path for path in expected if path.startswith("archive/")}
        assert named != set(expected)
        assert [path for path in set(expected) - named if found[path] != expected[path]] == []
    assert store.below(f"partner/{output}") == files_below(store.local.parent / "partner")


def inputs_of(output: Path) -> list[tuple[Any, ...]]:
    return runs.ask(output, "SELECT * EXCLUDE (file), parse_filename(file) FROM inputs ORDER BY ALL")


def archive(output: Path) -> list[tuple[Any, ...]]:
    glob = f"{output}/streams/archive/**/*.parquet"
    names = "source_file, ingest_time"
    with duckdb.connect() as connection:
        return connection.sql(
            f"SELECT * EXCLUDE ({names}) FROM read_parquet('{glob}', filename = false) ORDER BY ALL"
        ).fetchall()


def files_below(directory: Path) -> dict[str, bytes]:
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def command(*arguments: str) -> jobs.Done:
    """What a command of ``data-streamer`` prints, and its exit code."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = commands.main(list(arguments))
    return jobs.Done(code, printed.getvalue())


def test_same_rows_and_streams_as_on_a_disk(cloud_storage: Store) -> None:
    same_as_local(cloud_storage, "output")


def test_the_report_lies_beside_the_tables(cloud_storage: Store) -> None:
    output = f"{cloud_storage.root}/output"
    assert (
        f"report      {output}/report.html" in cloud_storage.printed and "warehouse.duckdb" not in cloud_storage.printed
    )
    assert b"<html" in cloud_storage.read("output/report.html")
    FileSystems.delete([f"{output}/report.html"])
    done = command("report", output)
    assert (done.code, done.text.strip()) == (0, f"{output}/report.html")
    assert b"<html" in cloud_storage.read("output/report.html")


def test_readers_take_the_remote_directory(cloud_storage: Store) -> None:
    output = f"{cloud_storage.root}/output"
    done = command("audit", output)
    assert done.code == 0 and "balanced" in done.text, done.text
    assert "stream partner: " in done.text and "recounted in its files" in done.text
    (rows,) = runs.ask(cloud_storage.local, "SELECT count(*), max(endpoint_id) FROM usage")
    done = command("sql", output, "SELECT count(*) AS n FROM usage", "--format=csv")
    assert done.text == f"n\n{rows[0]}\n"
    done = command("device", output, str(rows[1]))
    assert done.code == 0 and "found by endpoint id" in done.text


def test_the_audit_reads_the_streams_own_path(cloud_storage: Store) -> None:
    name = f"partner/output/{min(cloud_storage.below('partner/output'))}"
    content = cloud_storage.read(name)
    cloud_storage.put(name, content + b"x")
    done = command("audit", f"{cloud_storage.root}/output")
    cloud_storage.put(name, content)
    assert done.code == 1 and f"{cloud_storage.root}/{name} has grown" in done.text


def test_mistakes_about_remote_paths_are_found_before_the_run(cloud_storage: Store) -> None:
    root = cloud_storage.root
    done = jobs.start(
        f"--events={root}/nothing/*",
        f"--streams={root}/none.yaml",
        "--output=gs://no-bucket/x",
    )
    assert done.code == 2
    for text in (
        f"--events={root}/nothing/*: matches no file", f"{root}/none.yaml:1:1", "cannot be read",
        "--output: gs://no-bucket/x cannot be listed", "3 mistakes found; nothing was started.",
    ):  # fmt: skip
        assert text in done.text
    for name in ("audit", "report", "sql", "device"):
        done = command(name, f"{root}/nothing", *{"sql": ["SHOW TABLES"], "device": ["1"]}.get(name, []))
        assert done.code == 2 and "expected an output directory" in done.text, done.text


@pytest.mark.slow
def test_a_second_run_leaves_the_same(cloud_storage: Store) -> None:
    before = cloud_storage.below("output")
    cloud_storage.run("output")
    assert set(cloud_storage.below("output")) == set(before)
    same_as_local(cloud_storage, "output")


@pytest.mark.slow
def test_day_by_day_finds_the_committed_ids(cloud_storage: Store, feed: Path, local: Path, tmp_path: Path) -> None:
    for day in cloud_storage.days:
        cloud_storage.run("daily", day)
        given = {name: f"{feed}/{name}/{day}/*" for name in runs.RECORD_TABLES}
        jobs.run(tmp_path / "daily", **given)
    with local_copy(f"{cloud_storage.root}/daily", whole=True) as copy:
        for table in (*runs.RECORD_TABLES, "dead_letters"):
            assert rows_of(copy, table) == rows_of(tmp_path / "daily", table), table
        for table in runs.RECORD_TABLES:
            assert len(rows_of(copy, table)) == len(rows_of(local, table))
    assert command("audit", f"{cloud_storage.root}/daily").code == 0


@pytest.mark.slow
def test_a_paused_stream_waits_in_the_store_and_is_delivered(cloud_storage: Store) -> None:
    output = f"{cloud_storage.root}/waiting"
    cloud_storage.run("waiting", state="paused")
    assert cloud_storage.below("partner/waiting") == {}
    assert cloud_storage.below("waiting/pending") != {}
    done = command("deliver", output, f"--streams={cloud_storage.streams('waiting', 'paused')}")
    assert done.code == 0 and "paused" in done.text
    done = command("deliver", output, f"--streams={cloud_storage.streams('waiting')}")
    assert done.code == 0, done.text
    assert cloud_storage.below("waiting/pending") == {}
    assert cloud_storage.below("partner/waiting") == files_below(cloud_storage.local.parent / "partner")
    assert command("audit", output).code == 0


@pytest.mark.slow
def test_s3(bucket_url: str, feed: Path, tmp_path: Path) -> None:
    """One hour only: Beam makes a client of S3 for every object, which takes longer than the object."""
    lines = [line for path in sorted(feed.glob("events/*/*")) for line in path.read_bytes().splitlines()]
    events = jobs.write_lines(tmp_path / "events.json", [line for line in lines if b"2026-10-01T22:" in line])
    with FileSystems.create(f"{bucket_url}/raw/events.json", compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(events.read_bytes())
    for output, source in (
        (f"{bucket_url}/output", f"{bucket_url}/raw/*.json"),
        (str(tmp_path / "output"), str(events)),
    ):
        done = jobs.start(f"--events={source}", f"--output={output}")
        assert done.code == 0, done.text
    with local_copy(f"{bucket_url}/output", whole=True) as copy:
        for table in ("events", "device_events_hourly", "dead_letters", "ledger"):
            assert rows_of(copy, table) == rows_of(tmp_path / "output", table), table
        assert rows_of(copy, "events") != []
    assert command("audit", f"{bucket_url}/output").code == 0
