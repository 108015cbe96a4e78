"""Object stores, by a Beam file system in memory: final names at once, the same ledger paths, the same spool."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator

import pyarrow as pa
import pytest
from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem

from tests.transforms.deliver.support import WRITER, Stream, part_of, rows_of
from transforms.deliver import failures, spool, storage
from transforms.deliver.files import LANES, FilesDestination, FilesOptions
from transforms.deliver.parquet import parquet_rows
from transforms.deliver.pending import deliver_pending
from transforms.deliver.warehouse import write_table_part
from transforms.gather.cells import Cell
from transforms.keep.compact import merge_parts
from transforms.ledger.counts import FileEntry, Unlisted
from transforms.run import Run

OBJECTS: dict[str, bytes] = {}


class _Object(io.BytesIO):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            OBJECTS[self._path] = self.getvalue()
        super().close()


class MemoryFileSystem(FileSystem):
    """Objects under ``memory://``; a bucket named ``locked`` refuses."""

    @classmethod
    def scheme(cls) -> str:
        return "memory"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join((basepath, *paths))

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        raise BeamIOError("object stores have no directories")

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        yield from (FileMetadata(path, len(data)) for path, data in OBJECTS.items() if path.startswith(dir_or_prefix))

    def create(self, path, mime_type="", compression_type=CompressionTypes.AUTO):  # type: ignore[no-untyped-def]
        assert compression_type == CompressionTypes.UNCOMPRESSED and storage.TEMPORARY not in path
        if path.startswith("memory://locked/"):
            raise _Refused(403)
        return _Object(path)

    def open(self, path, mime_type="", compression_type=CompressionTypes.AUTO):  # type: ignore[no-untyped-def]
        assert compression_type == CompressionTypes.UNCOMPRESSED
        return io.BytesIO(OBJECTS[path])

    def exists(self, path: str) -> bool:
        return path in OBJECTS

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            if path.startswith("memory://locked/"):
                raise _Refused(403)
            del OBJECTS[path]

    copy = rename = size = last_updated = checksum = metadata = None  # type: ignore[assignment]


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__("token=hunter2")
        self.response = type("Response", (), {"status_code": status})()


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    OBJECTS.clear()
    monkeypatch.setitem(failures.FILE_SYSTEMS, "memory", ("io", "memory"))


def test_a_stream_is_published_under_its_final_name() -> None:
    stream = Stream(destination=FilesOptions(type="files", path="memory://bucket/dt={date}/hh={hour}"))
    receipt = FilesDestination(stream.destination).store(part_of(), rows_of("usage", {}, {}), stream, "/out")
    (file,) = receipt.files
    assert file.path == f"memory://bucket/dt=2021-11-15/hh=20/part-{WRITER}-0-0.ndjson.gz"
    assert len(gzip.decompress(OBJECTS[file.path]).splitlines()) == 2
    assert file.checksum == storage.checksum(storage.read(file.path))


def test_an_output_in_an_object_store_spools_and_delivers() -> None:
    output = "memory://bucket/out"
    paused = Stream(state="paused")
    FilesDestination(FilesOptions(type="files")).store(part_of(), rows_of("usage", {}), paused, output)
    assert list(OBJECTS) == [f"{output}/pending/archive/0/20211115T20-{WRITER}-0-0.arrow"]
    (result,) = deliver_pending(output, [Stream()], lambda done: None)
    assert result.delivered == 1 and spool.waiting(output) == {}
    assert [storage.relative(output, path) for path in OBJECTS] == [
        f"streams/archive/dt=2021-11-15/hh=20/part-{WRITER}-0-0.ndjson.gz"
    ]


def test_a_sweep_removes_the_writers_unlisted_objects() -> None:
    for writer in (WRITER, "job"):
        storage.publish(f"memory://bucket/streams/a/{storage.part_name(writer, 0, 0, 'csv')}", b"")
    assert storage.sweep("memory://bucket", WRITER, set()) == [f"memory://bucket/streams/a/part-{WRITER}-0-0.csv"]
    assert [re.sub(r".*/", "", path) for path in OBJECTS] == ["part-job-0-0.csv"]


def test_a_refused_object_is_pending_with_a_remedy(tmp_path: object) -> None:
    stream = Stream(destination=FilesOptions(type="files", path="memory://locked/x"))
    receipt = FilesDestination(stream.destination).store(part_of(), rows_of("usage", {}), stream, str(tmp_path))
    assert receipt.pending == 1
    assert "_Refused 403" in str(receipt.error) and "hunter2" not in str(receipt.error)
    assert receipt.remedy == "give the job's account the right to create objects there"


def test_a_store_is_reached_behind_the_shuffle_and_a_disk_is_not() -> None:
    streams = [
        Stream(destination=FilesOptions(type="files", path=path)) for path in ("memory://bucket/x", "/disk/x", None)
    ]
    assert [FilesDestination.pushes(stream) for stream in streams] == [True, False, False]
    destination = FilesDestination(FilesOptions(type="files", path="memory://bucket/x"))
    shards = [destination.lanes(part_of(hour=hour * 3_600_000_000), rows_of("usage", {}, {})) for hour in range(24)]
    assert len({int(lanes[0]) for lanes in shards}) == LANES and all(lanes[0] == lanes[1] for lanes in shards)


def test_a_store_that_lets_nothing_be_removed_is_told_and_fails_no_run() -> None:
    stream = Stream(destination=FilesOptions(type="files", path="memory://locked/x"))
    OBJECTS["memory://locked/x/old"] = b""
    failure = FilesDestination(stream.destination).sweep(stream, "/out", WRITER, (), {"memory://locked/x/old"})
    assert failure is not None and failure.kind is failures.FailureKind.MISCONFIGURED
    assert failure.error == "cannot remove old files from memory://locked/x/old: _Refused 403"


def test_an_unknown_file_system_is_named() -> None:
    failure = failures.of_missing_file_system("ftp://host/x")
    assert failure is not None and "unknown file system ftp://" in failure.error


def test_parts_of_a_closed_cell_are_merged_in_a_bucket() -> None:
    """Old parts stay until a ledger is published that does not list them."""
    run, cell = Run("memory://bucket/output", WRITER), Cell(0, 1_790_000 * 3_600_000_000, 0)
    rows = rows_of("events", *({"event_id": number} for number in range(5)))
    files = []
    for pane, part in enumerate((rows.slice(0, 2), rows.slice(2, 1), rows.slice(3))):
        stored = write_table_part(run.output, "events", cell.hour, cell.bucket, WRITER, pane, part)
        files.append(FileEntry("events", cell.hour, stored.path, part.num_rows, stored.bytes, stored.checksum))
    *gone, new = merge_parts(run, cell, 7, files[::-1])
    assert gone == [Unlisted(file.path) for file in files]
    assert isinstance(new, FileEntry) and new.row_count == 5
    assert new.path == files[0].path.removesuffix("-0.parquet") + "-7.parquet"
    data = OBJECTS[f"{run.output}/{new.path}"]
    assert (len(data), storage.checksum(data)) == (new.bytes, new.checksum)
    assert parquet_rows(data).equals(pa.Table.from_batches([rows]).cast(parquet_rows(data).schema))
    assert merge_parts(run, cell, 8, [new]) == []
