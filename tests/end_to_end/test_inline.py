"""Workers without a shared disk, as on Dataflow: slices travel through the shuffle, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest

from pipelines.data_streamer import build
from pipelines.job import prepare, write_meta
from pipelines.local import local_options
from tests.end_to_end import runs
from transforms.gather import claims


@pytest.fixture(scope="module")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("feeds")
    runs.feed(
        directory, devices=20, days=1, seed=3, duplicates=0.05, conflicts=0.02, malformed=0.02, late=0.1, shuffled=0.5
    )
    return directory


def arguments(feeds: Path, output: Path) -> list[str]:
    given = [f"--{feed}={feeds}/{feed}/*/*" for feed in runs.RECORD_TABLES]
    return [*given, f"--streams={runs.STREAMS}", f"--output={output}"]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [claims.INLINE_BYTES, 20_000], ids=["usual", "many small claims"])
def test_same_rows_and_files_without_a_shared_disk(
    feeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    spilled, inline = tmp_path / "spilled", tmp_path / "inline"
    runs.run(f"{feeds}/{{feed}}/*/*", spilled)
    monkeypatch.setattr(claims, "INLINE_BYTES", limit)
    job = prepare(arguments(feeds, inline))
    assert job.run.spill is None
    write_meta(job.run)
    pipeline = beam.Pipeline(runner="FnApiRunner", options=local_options(job))
    build(pipeline, job)
    pipeline.run().wait_until_finish()
    assert runs.state(inline) == runs.state(spilled)
    assert runs.stream_bytes(inline) == runs.stream_bytes(spilled)
    assert list(tmp_path.rglob("*.arrow")) == []
