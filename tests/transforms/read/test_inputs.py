"""Which files are read, and the writer that they make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems

from transforms.read import InputError, expand_inputs, writer_id


def test_globs_of_both_feeds(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "u.csv"):
        (tmp_path / name).write_text(name)
    os.utime(tmp_path / "a.json", (1_000_000_000, 1_000_000_000.5))
    files = expand_inputs(f"{tmp_path}/*.json, {tmp_path}/a*", f"{tmp_path}/u.csv")
    assert [(file.feed, os.path.basename(file.path), file.size) for file in files] == [
        (0, "a.json", 6),
        (0, "b.json", 6),
        (1, "u.csv", 5),
    ]
    assert files[0].ingest_time == 1_000_000_000_500_000


def test_the_same_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path / "a.json")
    monkeypatch.chdir(tmp_path)
    assert len(expand_inputs(f"a.json,./a.json,{tmp_path}/*.json", "a.json")) == 1


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError) as caught:
        expand_inputs(f"{tmp_path}/none*,{tmp_path}/a.json,{tmp_path}", f"{tmp_path}/nothing.csv,odd://x/y")
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        f"--events={tmp_path}/none*",
        f"--events={tmp_path}",
        f"--usage={tmp_path}/nothing.csv",
        "--usage=odd://x/y",
    ]


@pytest.mark.parametrize("text", [None, "", " , "])
def test_no_feed(text: str | None) -> None:
    with pytest.raises(InputError, match="no feed"):
        expand_inputs(text, None)


def test_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = FileMetadata(str(tmp_path / "gone.json"), 10, 0.0)
    monkeypatch.setattr(FileSystems, "match", lambda globs: [type("Result", (), {"metadata_list": [gone]})])
    with pytest.raises(InputError, match=r"gone\.json cannot be read"):
        expand_inputs("x*", None)


def test_writer_depends_on_feed_and_content_only(tmp_path: Path) -> None:
    contents = {"a": b"x" * 3_000_000, "b": b"y", "c": b"x" * 2_999_999 + b"z"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    a, b, c = (expand_inputs(f"{tmp_path}/{name}", None) for name in contents)
    assert writer_id(a + b) == writer_id(b + a) != writer_id(a)
    assert len({writer_id(a), writer_id(c), writer_id(b), writer_id(a + a)}) == 4
    assert writer_id(expand_inputs(None, f"{tmp_path}/a")) != writer_id(a)
    assert len(writer_id(a)) == 16
    (tmp_path / "moved").write_bytes(contents["a"])
    assert writer_id(expand_inputs(f"{tmp_path}/moved", None)) == writer_id(a)
