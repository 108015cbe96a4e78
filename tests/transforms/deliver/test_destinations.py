"""What becomes of a part: delivered, or pending with error and remedy; a fault of the run's own disk is raised."""

from __future__ import annotations

import errno
import gzip
import importlib.util
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tests.transforms.deliver.support import HOUR, Stream, part_of, rows_of
from transforms.deliver import failures, layout, registry, spool, storage
from transforms.deliver.destination import Destination
from transforms.deliver.document import example
from transforms.deliver.files import FilesDestination, FilesOptions
from transforms.deliver.null import NullOptions
from transforms.deliver.warehouse import WarehouseOptions, write_table_part

CELL = "dt=2021-11-15/hh=20"


def stream_to(path: str | None, **changes: Any) -> Stream:
    return Stream(destination=FilesOptions(type="files", path=path), **changes)


def destination_of(stream: Stream) -> Destination[Any]:
    return registry.DESTINATIONS[stream.destination.type](stream.destination)


def store(stream: Stream, output: Path, pane: int = 0) -> Any:
    rows = rows_of(stream.content, {}, {})
    return destination_of(stream).store(part_of(stream.name, stream.content, pane), rows, stream, str(output))


def test_files_lie_by_stream_and_hour(tmp_path: Path) -> None:
    receipt = store(Stream(), tmp_path)
    (file,) = receipt.files
    assert file.path == f"streams/archive/{CELL}/part-0123456789abcdef-0-0.ndjson.gz"
    data = (tmp_path / file.path).read_bytes()
    assert (file.row_count, file.bytes, file.checksum) == (2, len(data), storage.checksum(data))
    assert len(gzip.decompress(data).splitlines()) == 2
    assert (receipt.delivered, receipt.pending, receipt.error, receipt.spooled) == (2, 0, None, None)


def test_the_same_part_again_replaces_itself(tmp_path: Path) -> None:
    assert store(Stream(), tmp_path).files == store(Stream(), tmp_path).files
    assert len(list(storage.list_files(str(tmp_path)))) == 1


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    receipt = destination_of(Stream()).store(part_of(), rows_of("usage"), Stream(), str(tmp_path))
    assert receipt.delivered == 0 and not list(storage.list_files(str(tmp_path)))


@pytest.mark.parametrize(
    ("template", "directory"),
    [
        ("{base}/dt={date}/hh={hour}", f"{CELL}"),
        ("{base}/{stream}/{date}", "archive/2021-11-15/hh=20"),
        ("{base}", CELL),
        ("{base}/{content}/{hour}/", "usage/20/dt=2021-11-15"),
    ],
)
def test_an_own_path_always_tells_cells_apart(tmp_path: Path, template: str, directory: str) -> None:
    target, output = tmp_path / "target", tmp_path / "out"
    stream = stream_to(template.replace("{base}", str(target)), format="csv", shape="csv")
    (file,) = store(stream, output).files
    assert file.path == f"{target}/{directory}/part-0123456789abcdef-0-0.csv"
    (root,) = destination_of(stream).roots(stream, str(output))
    assert Path(file.path).is_relative_to(root) and Path(root).is_relative_to(target)


@pytest.mark.parametrize(
    ("path", "says"),
    [("gs://b/{day}", "{day} is none of {stream}, {date}"), ("a/{date", "brace"), ("ftp://b/c", "gs://BUCKET"),
     ("gs://", "gs://BUCKET"), ("a/{date:%Y}", "without a format")],
)  # fmt: skip
def test_a_wrong_path_is_found_at_once(path: str, says: str) -> None:
    with pytest.raises(ValidationError) as error:
        FilesOptions(type="files", path=path)
    assert says in str(error.value)


def test_a_target_that_is_a_file_leaves_records_pending(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("in the way")
    stream = stream_to(f"{tmp_path}/target/{{stream}}")
    receipt = store(stream, tmp_path / "out")
    assert (receipt.delivered, receipt.pending, receipt.files) == (0, 2, [])
    assert receipt.error == (
        f"cannot write to {tmp_path}/target/archive/{CELL}/part-0123456789abcdef-0-0.ndjson.gz: Not a directory"
    )
    assert "move it away" in receipt.remedy
    assert receipt.spooled.path == "pending/archive/0/20211115T20-0123456789abcdef-0-0.arrow"
    assert destination_of(stream).preflight(stream, str(tmp_path)).kind is failures.FailureKind.MISCONFIGURED


def test_a_read_only_file_system_leaves_records_pending(tmp_path: Path) -> None:
    receipt = store(stream_to("/proc/nowhere"), tmp_path)
    assert receipt.pending == 2 and receipt.error is not None and receipt.remedy is not None


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EROFS, "mount"), (errno.EACCES, "right"), (errno.ENOSPC, "space")]
)
def test_a_refusing_disk_of_another_is_the_destinations_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    stream = stream_to(f"{tmp_path}/target")
    fail_below(monkeypatch, f"{tmp_path}/target", number)
    receipt = store(stream, tmp_path / "out")
    assert receipt.pending == 2 and words in receipt.remedy and os.strerror(number) in receipt.error


def test_a_full_disk_of_the_output_directory_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_below(monkeypatch, f"{tmp_path}/streams", errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        store(Stream(), tmp_path)


def test_a_spool_that_cannot_be_written_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "pending").write_text("in the way")
    with pytest.raises(OSError, match="pending"):
        store(stream_to("/proc/nowhere"), tmp_path)


def fail_below(monkeypatch: pytest.MonkeyPatch, directory: str, number: int) -> None:
    publish = storage.publish

    def refuse(path: str, data: bytes, row_count: int | None = None) -> storage.StoredFile:
        if path.startswith(directory):
            raise OSError(number, os.strerror(number), path)
        return publish(path, data, row_count)

    monkeypatch.setattr(storage, "publish", refuse)


@pytest.mark.parametrize(
    ("path", "module", "extra"), [("gs://b/x", "google.cloud.storage", "gcp"), ("s3://b/x", "boto3", "aws")]
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, module: str, extra: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name))
    receipt = store(stream_to(path), tmp_path)
    assert receipt.pending == 2
    assert module in receipt.error and receipt.remedy == f"pip install -e '.[{extra}]'"


class StoreError(Exception):
    def __init__(self, code: int | None) -> None:
        super().__init__("secret=hunter2")
        self.code = code


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, failures.FailureKind.MISCONFIGURED), (404, failures.FailureKind.MISCONFIGURED),
     (429, failures.FailureKind.TRANSIENT), (503, failures.FailureKind.TRANSIENT),
     (None, failures.FailureKind.TRANSIENT)],
)  # fmt: skip
def test_errors_of_object_stores_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int | None, kind: failures.FailureKind
) -> None:
    def refuse(path: str, data: bytes) -> None:
        raise StoreError(status)

    monkeypatch.setattr(failures, "missing_client", lambda path: None)
    monkeypatch.setattr(storage, "_write_remote", refuse)
    receipt = store(stream_to("gs://b/x"), tmp_path)
    assert receipt.pending == 2 and "hunter2" not in receipt.error
    assert failures.of_remote_error("gs://b/x", StoreError(status)).kind is kind


def test_a_paused_stream_keeps_its_records_without_an_error(tmp_path: Path) -> None:
    receipt = store(Stream(state="paused"), tmp_path)
    assert (receipt.delivered, receipt.pending, receipt.error) == (0, 2, None)
    assert list(spool.waiting(str(tmp_path))) == ["archive"]


def test_a_stream_that_succeeds_again_forgets_what_it_had_spooled(tmp_path: Path) -> None:
    store(Stream(state="paused"), tmp_path)
    assert store(Stream(), tmp_path).delivered == 2
    assert spool.waiting(str(tmp_path)) == {}


def test_null_counts_and_writes_nothing(tmp_path: Path) -> None:
    receipt = store(Stream(destination=NullOptions(type="null")), tmp_path)
    assert receipt.delivered == 2 and receipt.files == [] and not list(storage.list_files(str(tmp_path)))


def test_warehouse_makes_a_table_of_the_stream(tmp_path: Path) -> None:
    (file,) = store(Stream(destination=WarehouseOptions(type="warehouse")), tmp_path).files
    assert file.path == f"warehouse/streams_archive/{CELL}/part-0123456789abcdef-0-0.parquet"
    assert pq.read_table(tmp_path / file.path).num_rows == 2


def test_table_parts_with_and_without_an_hour(tmp_path: Path) -> None:
    with_hour = write_table_part(str(tmp_path), "usage", HOUR, 3, "w", 7, rows_of("usage", {}))
    without = write_table_part(str(tmp_path), "usage", None, 3, "w", 0, rows_of("usage"))
    assert with_hour.path == f"warehouse/usage/{CELL}/part-w-3-7.parquet"
    assert (without.path, without.row_count) == ("warehouse/usage/part-w-0.parquet", 0)
    assert pq.read_table(tmp_path / without.path).schema.names == rows_of("usage").schema.names


def test_two_streams_with_one_path_are_a_mistake() -> None:
    shared = [stream_to("gs://b/x", name="a"), stream_to("gs://b/x", name="b")]
    ((index, field, text),) = registry.check_streams(shared)
    assert (index, field) == (1, "destination.path") and "stream a" in text
    assert (
        registry.check_streams([stream_to("gs://b/{stream}", name="a"), stream_to("gs://b/{stream}", name="b")]) == []
    )
    assert registry.check_streams([Stream(name="a"), Stream(name="b")]) == []


@pytest.mark.parametrize("name", registry.DESTINATIONS)
def test_every_type_is_registered_under_its_own_name(name: str) -> None:
    destination = registry.DESTINATIONS[name]
    assert destination.options_model.model_fields["type"].default == name
    assert "Guarantee:" in (destination.__doc__ or "")
    options = destination.options_model.model_validate(example(name)["destination"])
    assert pickle.loads(pickle.dumps(options)) == options


def test_places_of_a_path_are_documented() -> None:
    described = FilesOptions.model_fields["path"].description or ""
    assert all(f"{{{place}}}" in described for place in layout.PLACES)
    assert FilesDestination.recountable and json.dumps(FilesOptions.model_json_schema())
