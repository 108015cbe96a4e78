from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from schemas.records import HOUR
from transforms.gather.cells import Cell
from transforms.keep.closing import QUIET
from transforms.ledger.books import Books
from transforms.ledger.counts import (
    COUNT_KEY,
    COUNT_SUMS,
    FEED,
    Count,
    Entry,
    FileEntry,
    Flushed,
    Group,
    InputEntry,
    Kept,
    Unlisted,
)  # fmt: skip

SEGMENTS = 5
CELLS = [Cell(0, 1_000 * HOUR, 0), Cell(1, 1_000 * HOUR, 0)]


def groups_of(segment: int) -> list[Group]:
    """The groups of a segment: what its feed brought, slices, and dead letters."""
    slices = segment % 4
    received = InputEntry("events", "s", 10, segment, segment, segment + 1)
    count = Count("feed", "events", received=10, empty=10 - 3 * slices, decoded=3 * slices)
    feed = Group((FEED, segment, 0, 0), [count, received], parts=slices + segment % 2)
    return [
        feed,
        *[slice_group(segment, number) for number in range(slices)],
        *[Group(("dead", segment, 0, 9), [file_entry("dead_letters", f"dead-{segment}")]) for _ in range(segment % 2)],
    ]


def slice_group(segment: int, number: int, cell: Cell = CELLS[0]) -> Group:
    pane = 10 * segment + number
    spooled = file_entry("pending/s", f"pending/s/0/{pane}.arrow")
    counts = [
        Count("cell", "events", hour=cell.hour, pane=0, received=3, duplicates=1, delivered=2),
        Count("stream", "events", "s", cell.hour, 0, received=2, pending=2),
    ]
    kept = Kept(cell.number, pane, f"/kept/{cell.number}-{pane}.arrow", 2)
    return Group(("slice", segment, 0, number), [*counts, kept, spooled])


def file_entry(table: str, path: str, rows: int = 2) -> FileEntry:
    return FileEntry(table, CELLS[0].hour, path, rows, 100, "xxh3_128:0")


def flush_group(cell: Cell, pane: int, numbers: list[int]) -> Group:
    return Group(
        ("flush", cell.number, pane, 0), [Flushed(cell.number, numbers), file_entry("events", f"part-{pane}.parquet")]
    )


def delivery(path: str) -> Group:
    count = Count("stream", "events", "s", CELLS[0].hour, 0, delivered=2, pending=-2)
    return Group(("deliver", 0, 0, 0), [Unlisted(path), count])


class Model:
    """What groups come to, in plain words."""

    def __init__(self, groups: list[Group]) -> None:
        self.keys: set[tuple[Any, ...]] = set()
        self.counts: Counter[tuple[Any, ...]] = Counter()
        self.files: dict[str, FileEntry] = {}
        self.kept: dict[int, Kept] = {}
        self.inputs = 0
        self.held: dict[int, list[Entry]] = {}
        for group in groups:
            self.take(group)

    def take(self, group: Group) -> None:
        """Takes a group; what a segment was not decoded to counts when the segment is done."""
        self.keys.add(group.key)
        step, segment, _, _ = group.key
        held = self.held.setdefault(segment, [])
        if step in (FEED, "dead"):
            held += group.entries
        else:
            self.count(group.entries)
        for entry in group.entries if step == "slice" else ():
            if isinstance(entry, Count) and entry.stage == "cell":
                self.count([Count("feed", entry.feed, received=entry.received, decoded=entry.received)])
                held.append(Count("feed", entry.feed, received=-entry.received, decoded=-entry.received))
        if step in (FEED, "dead", "slice") and self.is_done(segment):
            self.count(self.held.pop(segment))

    def count(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if isinstance(entry, Count):
                key = tuple(getattr(entry, name) for name in COUNT_KEY)
                self.counts.update({(*key, name): getattr(entry, name) for name in COUNT_SUMS})
            elif isinstance(entry, FileEntry):
                self.files[entry.path] = entry
            elif isinstance(entry, Unlisted):
                del self.files[entry.path]
            elif isinstance(entry, Kept):
                self.kept[entry.number] = entry
            elif isinstance(entry, Flushed):
                for number in entry.numbers:
                    del self.kept[number]
            elif isinstance(entry, InputEntry):
                self.inputs += entry.records

    def is_done(self, segment: int) -> bool:
        return self.keys >= {group.key for group in groups_of(segment)}

    def same_as(self, books: Books) -> None:
        sums: Counter[tuple[Any, ...]] = Counter()
        for count in books.counts:
            key = tuple(getattr(count, name) for name in COUNT_KEY)
            sums.update({(*key, name): getattr(count, name) for name in COUNT_SUMS})
        assert sums == self.counts
        received = sum(count.received for count in books.counts if count.stage == "cell")
        assert sum(count.decoded for count in books.counts if count.stage == "feed") == received
        assert books.files == list(self.files.values())
        assert books.kept(CELLS[0].number) == sorted(self.kept.values(), key=lambda kept: kept.number)
        assert sum(entry.records for entry in books.entries if isinstance(entry, InputEntry)) == self.inputs
        assert [books.is_done(segment) for segment in range(SEGMENTS)] == list(map(self.is_done, range(SEGMENTS)))


class KilledAtAnyByte(RuleBasedStateMachine):
    """Whatever is committed, synced, summed up and cut: what counts is what was durable, once."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="books-"))
        self.durable: list[Group] = []
        self.fresh: list[tuple[Group, int]] = []  # with the size of the log behind it
        self.size = 0  # of the log as of the last sync
        self.old: list[Group] = []
        self.told: list[str] = []
        self.panes: set[int] = set()
        self.forgotten: set[int] = set()
        self._open()

    def _open(self) -> None:
        self.books = Books(self.directory, self._forget)
        self.books.on_files(lambda files: self.told.extend(file.path for file in files))
        self.given: set[int] = set()
        self.size = self._written()

    def teardown(self) -> None:
        self.books.close()
        shutil.rmtree(self.directory)

    @property
    def model(self) -> Model:
        return Model([*self.durable, *(group for group, _ in self.fresh)])

    def _forget(self, segment: int) -> None:
        """Only what would survive a kill of this moment may be forgotten."""
        copy = Path(shutil.copytree(self.directory, f"{self.directory}-copy"))
        later = Books(copy)
        assert later.is_done(segment)
        later.close()
        shutil.rmtree(copy)
        self.forgotten.add(segment)

    def _written(self) -> int:
        self.books._log.flush()
        return os.fstat(self.books._log.fileno()).st_size

    def _commit(self, group: Group, new: bool) -> None:
        assert self.books.commit(group) is new
        if new:
            self.fresh.append((group, self._written()))
            self.old.append(group)

    def _synced(self) -> None:
        self.durable += [group for group, _ in self.fresh]
        self.fresh.clear()

    @rule(segment=st.integers(0, SEGMENTS - 1), data=st.data())
    def commit(self, segment: int, data: st.DataObject) -> None:
        group = data.draw(st.sampled_from(groups_of(segment)))
        self._commit(group, group.key not in self.model.keys)

    @rule(some=st.integers(1, 3))
    def flush(self, some: int) -> None:
        numbers = [kept.number for kept in self.books.kept(CELLS[0].number)][:some]
        if numbers:
            pane = self._next_pane()
            self._commit(flush_group(CELLS[0], pane, numbers), True)

    @precondition(lambda self: any(path.startswith("pending") for path in self.model.files))
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        waiting = [path for path in self.model.files if path.startswith("pending")]
        self._commit(delivery(data.draw(st.sampled_from(waiting))), True)

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        counting = [group for group in self.old if self._counts(group)]
        if counting:
            self._commit(data.draw(st.sampled_from(counting)), False)

    def _counts(self, group: Group) -> bool:
        return group in self.durable or any(group == fresh for fresh, _ in self.fresh)

    @rule()
    def ask_for_a_number(self) -> None:
        self._next_pane()

    def _next_pane(self) -> int:
        number = self.books.next_pane(CELLS[0].number)
        used = {entry.number for group in self._groups() for entry in group.entries if isinstance(entry, Kept)}
        used |= {group.key[2] for group in self._groups() if group.key[0] == "flush"}
        assert number not in self.given and number not in used
        self.given.add(number)
        return number

    def _groups(self) -> list[Group]:
        return [*self.durable, *(group for group, _ in self.fresh)]

    @rule()
    def sync(self) -> None:
        self.books.sync()
        self._synced()
        self.size = self._written()
        assert self.forgotten >= {segment for segment in range(SEGMENTS) if self.model.is_done(segment)}

    @rule()
    def sum_up(self) -> None:
        self.books.snapshot()
        self._synced()
        self.size = self._written()
        assert self.size == 0 and len(list(self.directory.glob("log-*"))) == 1

    @rule(share=st.floats(0, 1))
    def kill(self, share: float) -> None:
        cut = self.size + round(share * (self._written() - self.size))
        self.durable += [group for group, end in self.fresh if end <= cut]
        self.fresh.clear()
        self._reopen(cut)

    @precondition(lambda self: not self.fresh)
    @rule(share=st.floats(0, 1))
    def kill_while_summing_up(self, share: float) -> None:
        """The snapshot is there in part, or as a whole with the old log beside it."""
        log = Path(self.books._log.name)
        before = log.read_bytes()
        self.books.snapshot()
        snapshot = self.directory / "snapshot.msgpack"
        if share < 0.5:
            (self.directory / ".tmp-snapshot.msgpack").write_bytes(snapshot.read_bytes()[: round(share * 100)])
        log.write_bytes(before)
        self._reopen(0)

    def _reopen(self, cut: int) -> None:
        self.books._log.close()
        os.truncate(self.books._log.name, cut)
        self._open()
        # A segment that is done is told to the journal at the start; what is not may be done again.
        self.forgotten = {segment for segment in range(SEGMENTS) if self.books.is_done(segment)}

    @invariant()
    def only_what_was_committed_counts(self) -> None:
        self.model.same_as(self.books)


TestKilledAtAnyByte = KilledAtAnyByte.TestCase
TestKilledAtAnyByte.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_segment_is_done_with_its_last_part_whichever_that_is(tmp_path: Path) -> None:
    forgotten: list[int] = []
    books = Books(tmp_path, forgotten.append)
    groups = groups_of(3)
    for segment, first in enumerate(range(len(groups)), 3):
        own = [Group((one.key[0], segment, *one.key[2:]), one.entries, one.parts) for one in groups]
        for group in [*own[first:], *own[:first]]:
            assert not books.is_done(segment)
            books.commit(group)
        assert books.is_done(segment) and segment not in forgotten
        books.sync()
        assert forgotten[-1] == segment
    books.review(lambda: [4])
    assert [books.is_done(segment) for segment in (3, 4, 5)] == [False, True, False]


def test_two_flushes_of_the_same_rows_count_once(tmp_path: Path) -> None:
    books = Books(tmp_path)
    for number in range(3):
        books.commit(slice_group(1, number))
    assert books.commit(flush_group(CELLS[0], 20, [10, 11]))
    assert not books.commit(flush_group(CELLS[0], 21, [10, 11, 12]))
    assert [kept.number for kept in books.kept(CELLS[0].number)] == [12]
    assert books.commit(flush_group(CELLS[0], 22, [12]))
    assert [file.path for file in books.files if file.table_or_stream == "events"] == [
        "part-20.parquet",
        "part-22.parquet",
    ]
    assert books.settled().obsolete == [f"/kept/{CELLS[0].number}-{number}.arrow" for number in (10, 11, 12)]
    assert books.settled().obsolete == []


def test_listeners_hear_in_the_order_of_commits_from_many_threads(tmp_path: Path) -> None:
    books = Books(tmp_path)
    told: list[str] = []
    books.on_files(lambda files: told.extend(file.path for file in files))
    order: list[str] = []
    lock = threading.Lock()

    def work(first: int) -> None:
        for number in range(first, first + 25):
            group = Group(
                ("slice", number, 0, 0), [file_entry("pending/s", f"{number}"), Count("feed", "events", received=1)]
            )
            with lock:
                assert books.commit(group)
                order.append(str(number))
            assert not books.commit(group)
            books.sync()
            assert str(number) in told
            books.next_pane(7)
            if number % 10 == 0:
                books.snapshot()

    threads = [threading.Thread(target=work, args=(100 * place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == order and len(order) == 150
    assert books.next_pane(7) == 150
    (count,) = books.counts
    assert count.received == 150
    books.close()
    assert Books(tmp_path).files == books.files


def _commit_for_ever(directory: Path, said: Any) -> None:
    books = Books(directory)
    for segment in range(1_000_000):
        books.commit(Group((FEED, segment, 0, 0), [Count("feed", "events", received=1)], parts=0))
        if segment % 3 == 0:
            books.sync()
            said.send(segment)
        if segment % 50 == 0:
            books.snapshot()


@pytest.mark.parametrize("seconds", [0.05, 0.3])
def test_a_process_that_is_killed_keeps_what_it_synced(tmp_path: Path, seconds: float) -> None:
    hear, said = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_commit_for_ever, args=(tmp_path, said))
    process.start()
    assert hear.poll(60)
    time.sleep(seconds)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(30)
    said.close()
    synced = -1
    while True:
        try:
            synced = hear.recv()
        except EOFError:
            break
    books = Books(tmp_path)
    (count,) = books.counts
    assert count.received > synced >= 0
    assert all(books.is_done(segment) for segment in range(count.received))
    for segment in range(count.received):
        assert not books.commit(Group((FEED, segment, 0, 0), [Count("feed", "events", received=1)], parts=0))
    assert books.counts == [count]
    books.close()


def test_hours_are_final_when_their_cells_are_closed(tmp_path: Path) -> None:
    clock = [0.0]
    books = Books(tmp_path, close_after=7200, clock=lambda: clock[0])
    end = (CELLS[0].hour + HOUR) / 1_000_000

    def final() -> set[tuple[str, bool]]:
        counts = [entry for entry in books.settled().entries if isinstance(entry, Count)]
        return {(count.stage, count.final) for count in counts if count.hour is not None}

    clock[0] = end - 10
    books.commit(slice_group(1, 0))
    assert final() == {("cell", False), ("stream", False)}
    clock[0] = end + 7200
    assert final() == {("cell", False), ("stream", False)}  # rows are in no part yet
    books.commit(flush_group(CELLS[0], 11, [10]))
    assert final() == {("cell", True), ("stream", False)}
    books.close()
    books = Books(tmp_path, close_after=7200, clock=lambda: clock[0])
    assert final() == {("cell", True), ("stream", False)}
    books.commit(slice_group(1, 2))  # a late one
    books.commit(flush_group(CELLS[0], 13, [12]))
    clock[0] += QUIET - 1
    assert final() == {("cell", False), ("stream", False)}
    clock[0] += 1
    assert final() == {("cell", True), ("stream", False)}


def test_a_disk_that_is_full_takes_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    books = Books(tmp_path)
    books.commit(slice_group(1, 0))
    with monkeypatch.context() as patch:

        def refuse(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space"):
            books.snapshot()
    books.commit(slice_group(1, 1))
    books.sync()
    again = Books(tmp_path)
    Model([slice_group(1, 0), slice_group(1, 1)]).same_as(again)
