"""Parts of closed cells are merged: the same rows, once, whatever is killed in between."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.job import write_meta
from schemas.records import FEEDS, HOUR, ID_COLUMN
from schemas.streams import Stream
from tests.transforms.keep.slices import EVENTS, START, USAGE, of_kind, run_in, slice_of, streams_of
from transforms.deduplicate.committed import CommittedIds
from transforms.deduplicate.seen import SeenIds
from transforms.deliver import formats, storage
from transforms.gather.cells import Cell
from transforms.keep import compact as compaction
from transforms.keep.arrivals import Arrivals
from transforms.keep.compact import compact
from transforms.keep.flush import Flushes, flush_cell
from transforms.ledger.books import Books
from transforms.ledger.commit import commit, publish
from transforms.ledger.counts import Count, FileEntry, Group, InputEntry
from transforms.run import Run
from warehouse.audit import audit

STREAMS = streams_of(
    {"name": "sums", "content": "device_usage_hourly", "destination": {"type": "warehouse"}},
    {"name": "archive", "content": "usage", "destination": {"type": "files"}},
)
TABLES = ("events", "usage", "device_events_hourly", "device_usage_hourly", "streams_sums")


class Killed(Exception):
    """Where the process is killed."""


class Desk:
    """A live job's books and directory, without Beam; each slice is flushed at once, as a pane of its own."""

    def __init__(self, directory: Path, streams: list[Stream] = STREAMS):
        self.directory, self.streams = directory, streams
        self.run: Run = run_in(directory)
        self.now = START / 1_000_000 + 60
        self.segment = 0
        self.open()

    def open(self) -> None:
        """Opens the books, as a process does that starts; no other is asked to close them."""
        self.books = Books(self.directory / "books", clock=lambda: self.now)

    def take(self, cell: Cell, ids: list[int]) -> None:
        batch = slice_of(cell, ids)
        number = self.books.next_pane(cell.number)
        entries, keep = Arrivals(self.run, self.streams).take(cell, number, batch, SeenIds())
        assert keep.all()
        feed = FEEDS[cell.kind]
        counted = Count(stage="feed", feed=feed, received=len(ids), decoded=len(ids))
        read = InputEntry(feed, "s", len(ids), 0, cell.hour, cell.hour)
        self.books.commit(Group(("feed", self.segment, 0, 0), [counted, read], 1))
        self.books.commit(Group(("slice", self.segment, 0, 0), entries))
        self.segment += 1
        flushes = Flushes(self.run, self.streams)
        for group in flush_cell(flushes, self.books, cell.number):
            assert self.books.commit(group)
        flushes.close()
        self.books.sync()

    def fill(self) -> None:
        write_meta(self.run)
        for cell in (EVENTS, USAGE):
            for ids in ([1, 2, 3], [4], [5, 6]):
                self.take(cell, ids)
        self.publish()

    def close_cells(self) -> None:
        self.now += 20_000
        self.publish()
        assert all(self.books.is_closed(cell.number) for cell in (EVENTS, USAGE))

    def publish(self) -> None:
        settled = self.books.settled()
        publish(self.run, self.facts, self.streams, settled.entries)
        for path in settled.obsolete:
            storage.remove(storage.absolute(self.run.output, path))

    def restart(self) -> None:
        """Takes up what a process that was killed has left, as a live job does when it starts."""
        self.open()
        commit(self.run, self.facts, self.streams, self.books.settled().entries)
        storage.sweep_temporary(f"{self.run.output}/warehouse")

    @property
    def facts(self) -> list[dict[str, Any]]:
        return [
            {"name": stream.name, "title": None, "content": stream.content, "state": "running",
             "destination": stream.destination.type}
            for stream in self.streams
        ]  # fmt: skip

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """All rows that lie in the directory, listed or not, in the order of the panes."""
        return {
            table: [row for part in self.parts(table) for row in pq.ParquetFile(part).read().to_pylist()]
            for table in TABLES
        }

    def parts(self, table: str) -> list[Path]:
        found = (Path(self.run.output) / "warehouse" / table).rglob("dt=*/**/part-*.parquet")
        return sorted(found, key=lambda part: int(part.stem.split("-")[-1]))

    def assert_balances(self) -> None:
        result = audit(self.run.output)
        assert result.ok, "\n".join(result.lines)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which two cells have three parts of each table."""
    directory = tmp_path_factory.mktemp("filled")
    Desk(directory).fill()
    return directory


@pytest.fixture
def desk(filled: Path, tmp_path: Path) -> Desk:
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    desk = Desk(tmp_path)
    desk.segment = 6
    return desk


def test_parts_of_a_closed_cell_become_one_of_each_table_with_the_same_rows(desk: Desk) -> None:
    desk.close_cells()
    before = desk.rows()
    assert [len(desk.parts(table)) for table in TABLES] == [3] * len(TABLES)
    desk.assert_balances()
    assert compact(desk.run, desk.books, desk.streams) == 3 * len(TABLES)
    desk.publish()
    assert [len(desk.parts(table)) for table in TABLES] == [1] * len(TABLES)
    assert desk.rows() == before
    assert len({row["pane"] for row in before["events"]}) == 3, "each row has the pane that it came with"
    desk.assert_balances()
    for cell in (EVENTS, USAGE):
        assert CommittedIds(desk.run.output, "another").of_cell(cell).tolist() == [1, 2, 3, 4, 5, 6]
    assert compact(desk.run, desk.books, desk.streams) == 0


def test_merged_part_is_written_like_any_other(desk: Desk) -> None:
    desk.close_cells()
    old = pq.ParquetFile(desk.parts("events")[0])
    compact(desk.run, desk.books, desk.streams)
    desk.publish()
    new = pq.ParquetFile(desk.parts("events")[0])
    assert new.schema.equals(old.schema)
    assert new.num_row_groups == 1
    columns = range(old.metadata.num_columns)
    kinds = [[file.metadata.row_group(0).column(index).compression for index in columns] for file in (old, new)]
    assert kinds[0] == kinds[1]


def test_open_cells_and_cells_with_kept_rows_are_left(desk: Desk) -> None:
    before = desk.rows()
    assert compact(desk.run, desk.books, desk.streams) == 0
    desk.close_cells()
    desk.take(EVENTS, [7])  # it is open again
    assert compact(desk.run, desk.books, desk.streams) == 3 * 3, "the tables of usage only"
    desk.publish()
    assert len(desk.parts("events")) == 4
    assert desk.rows()["usage"] == before["usage"]


def test_late_rows_do_not_have_a_large_part_written_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.close_cells()
    compact(desk.run, desk.books, desk.streams)
    desk.publish()
    large = desk.parts("events")
    monkeypatch.setattr(compaction, "LARGER", 2)
    for number in (7, 8):
        desk.take(EVENTS, [number])
    desk.publish()
    desk.close_cells()
    compact(desk.run, desk.books, desk.streams)
    desk.publish()
    assert len(desk.parts("events")) == 2 and set(large) < set(desk.parts("events"))
    assert [row["event_id"] for row in desk.rows()["events"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    desk.assert_balances()


def kill_before_renaming(patch: pytest.MonkeyPatch, desk: Desk) -> None:
    def killed(*_: object) -> None:
        raise Killed

    patch.setattr(compaction, "_replace", killed)
    patch.setattr(storage, "remove", lambda path: True)  # nor does it tidy up


def kill_between_renames(patch: pytest.MonkeyPatch, desk: Desk) -> None:
    replace = os.replace
    names: list[str] = []

    def killed(old: str, new: str) -> None:
        if "/warehouse/" in new and names:
            raise Killed
        names.append(new)
        replace(old, new)

    patch.setattr(os, "replace", killed)
    patch.setattr(storage, "remove", lambda path: True)


def kill_before_the_commit(patch: pytest.MonkeyPatch, desk: Desk) -> None:
    def killed(group: Group) -> bool:
        raise Killed

    patch.setattr(desk.books, "commit", killed)


def kill_before_the_commit_is_durable(patch: pytest.MonkeyPatch, desk: Desk) -> None:
    def killed() -> None:
        raise Killed  # of the log, what the process has not flushed is gone

    patch.setattr(desk.books, "sync", killed)


def kill_before_the_publication(patch: pytest.MonkeyPatch, desk: Desk) -> None:
    def killed() -> None:
        raise Killed

    patch.setattr(desk, "publish", killed)


def kill_before_the_removal(patch: pytest.MonkeyPatch, desk: Desk) -> None:
    def killed(path: str) -> bool:
        raise Killed

    settled = desk.books.settled

    def then_removing_fails() -> Any:
        found = settled()
        patch.setattr(storage, "remove", killed)
        return found

    patch.setattr(desk.books, "settled", then_removing_fails)


@pytest.mark.parametrize(
    "kill",
    [
        kill_before_renaming, kill_between_renames, kill_before_the_commit, kill_before_the_commit_is_durable,
        kill_before_the_publication, kill_before_the_removal,
    ],
)  # fmt: skip
def test_killed_at_any_step_nothing_is_lost_or_doubled(
    desk: Desk, kill: Callable[[pytest.MonkeyPatch, Desk], None]
) -> None:
    desk.close_cells()
    before = desk.rows()
    with pytest.MonkeyPatch.context() as patch:
        kill(patch, desk)
        with pytest.raises(Killed):
            compact(desk.run, desk.books, desk.streams)
            desk.publish()
    desk.restart()
    assert desk.rows() == before
    desk.assert_balances()
    assert CommittedIds(desk.run.output, "another").of_cell(EVENTS).tolist() == [1, 2, 3, 4, 5, 6]
    compact(desk.run, desk.books, desk.streams)  # parts of cells that an earlier process closed
    desk.publish()
    assert [len(desk.parts(table)) for table in TABLES] == [1] * len(TABLES)
    assert desk.rows() == before
    assert list(Path(desk.run.output).rglob(f"{storage.TEMPORARY}*")) == []
    desk.assert_balances()


def test_given_up_where_the_job_is_to_stop(desk: Desk) -> None:
    desk.close_cells()
    before = desk.rows()
    assert compact(desk.run, desk.books, desk.streams, lambda: False) == 0
    assert desk.rows() == before
    assert list(Path(desk.run.output).rglob(f"{storage.TEMPORARY}*")) == []


def test_row_groups_are_filled_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "GROUP_ROWS", 10)
    parts = []
    for number, rows in enumerate((7, 1, 4, 9, 2)):
        parts.append(str(tmp_path / f"{number}.parquet"))
        start = 100 * number
        table = pa.table({"event_id": pa.array(range(start, start + rows), pa.int64())})
        Path(parts[-1]).write_bytes(formats.parquet(table))
    target = str(tmp_path / "merged.parquet")
    assert compaction._write(target, parts, lambda: True) == 23
    file = pq.ParquetFile(target)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [10, 2, 10, 1]
    expected = [row for part in parts for row in pq.ParquetFile(part).read().column(0).to_pylist()]
    assert file.read().column(0).to_pylist() == expected


def test_parts_without_hour_or_of_unknown_streams_are_left(desk: Desk) -> None:
    desk.close_cells()
    archived = [entry.path for entry in of_kind(desk.books.entries, FileEntry) if "archive" in entry.table_or_stream]
    assert len(archived) == 3
    compact(desk.run, desk.books, [])
    desk.publish()
    assert len(desk.parts("streams_sums")) == 3
    assert archived == [
        entry.path for entry in of_kind(desk.books.entries, FileEntry) if "archive" in entry.table_or_stream
    ]


def test_ids_are_those_of_the_hour(desk: Desk) -> None:
    later = Cell(0, START + HOUR, 0)
    desk.take(later, [70])
    desk.take(later, [71])
    desk.close_cells()
    compact(desk.run, desk.books, desk.streams)
    desk.publish()
    assert ID_COLUMN[0] == "event_id"
    assert CommittedIds(desk.run.output, "another").of_cell(later).tolist() == [70, 71]
