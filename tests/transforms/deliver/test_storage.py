"""Files appear whole, under names that a second attempt replaces; a sweep takes only what is the writer's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import xxhash

from tests.transforms.deliver.support import HOUR
from transforms.deliver import storage


def test_publish_makes_directories_and_describes_the_file(tmp_path: Path) -> None:
    stored = storage.publish(f"{tmp_path}/a/b/part.bin", b"abc", 3)
    assert Path(stored.path).read_bytes() == b"abc"
    assert stored == storage.StoredFile(
        f"{tmp_path}/a/b/part.bin", 3, 3, f"xxh3_128:{xxhash.xxh3_128_hexdigest(b'abc')}"
    )


def test_publish_again_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    storage.publish(f"{tmp_path}/part.bin", b"a longer content")
    storage.publish(f"{tmp_path}/part.bin", b"short")
    assert (tmp_path / "part.bin").read_bytes() == b"short"
    assert os.listdir(tmp_path) == ["part.bin"]


def test_a_refused_publication_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "part.bin").mkdir()
    with pytest.raises(IsADirectoryError):
        storage.publish(f"{tmp_path}/part.bin", b"x")
    assert os.listdir(tmp_path) == ["part.bin"]


def test_a_killed_publication_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.publish(f"{tmp_path}/part-w-0-0.bin", b"old")
    monkeypatch.setattr(os, "replace", _killed)
    monkeypatch.setattr(storage, "remove", lambda path: False)  # a killed process does not clean up
    with pytest.raises(KeyboardInterrupt):
        storage.publish(f"{tmp_path}/part-w-0-0.bin", b"new")
    monkeypatch.undo()
    assert (tmp_path / "part-w-0-0.bin").read_bytes() == b"old"
    (left,) = (name for name in os.listdir(tmp_path) if name.startswith(storage.TEMPORARY))
    assert storage.sweep(str(tmp_path), "w", {f"{tmp_path}/part-w-0-0.bin"}) == [f"{tmp_path}/{left}"]
    assert os.listdir(tmp_path) == ["part-w-0-0.bin"]


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_sweep_takes_unlisted_files_of_the_writer_only(tmp_path: Path) -> None:
    names = [
        "warehouse/usage/dt=2021-11-15/hh=20/part-job-0-0.parquet",
        "warehouse/usage/dt=2021-11-15/hh=20/part-job-0-1.parquet",
        "warehouse/usage/dt=2021-11-15/hh=20/part-job-2-0-0.parquet",
        "warehouse/usage/part-job-0.parquet",
        "warehouse/usage/part-job-2-0.parquet",
        "warehouse/usage/dt=2021-11-15/hh=20/.tmp-0123456789ab-part-job-0-3.parquet",
        "streams/a/dt=2021-11-15/hh=20/part-job-0-0.ndjson.gz",
        "warehouse/_meta.json",
    ]
    for name in names:
        storage.publish(f"{tmp_path}/{name}", b"")
    removed = storage.sweep(str(tmp_path), "job", {f"{tmp_path}/{names[0]}"})
    assert sorted(removed) == sorted(f"{tmp_path}/{names[at]}" for at in (1, 3, 5, 6))


def test_a_sweep_of_nothing_is_no_error(tmp_path: Path) -> None:
    assert storage.sweep(f"{tmp_path}/never", "w", set()) == []


def test_names_say_writer_cell_and_pane() -> None:
    assert storage.hour_directory(HOUR) == "dt=2021-11-15/hh=20"
    assert storage.part_name("w", 3, 7, "csv") == "part-w-3-7.csv"


@pytest.mark.parametrize(
    ("output", "path", "listed"),
    [("/out", "/out/a/b", "a/b"), ("/out/", "/out/a", "a"), ("/out", "/outside/a", "/outside/a"),
     ("gs://b/out", "gs://b/out/a", "a"), ("/out", "gs://b/a", "gs://b/a")],
)  # fmt: skip
def test_paths_are_listed_relative_where_they_lie_below(output: str, path: str, listed: str) -> None:
    assert storage.relative(output, path) == listed
    assert storage.absolute(output, listed) == path
