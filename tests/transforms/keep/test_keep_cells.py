"""The state of cells: ids, flushes, closing, and records that lie ahead, on a clock that tests set; nothing sleeps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from schemas.records import HOUR
from tests.transforms.keep.slices import START, USAGE, batch, line, run_in, slice_of
from transforms import keep_cells
from transforms.gather.cells import Cell
from transforms.gather.claims import Spill
from transforms.keep.closing import QUIET, closes_at
from transforms.keep.upkeep import Upkeep
from transforms.keep_cells import _KeepCells
from transforms.ledger import metrics
from transforms.ledger.books import Books
from transforms.ledger.commit import commit
from transforms.ledger.counts import Count, decode_group
from transforms.ledger.desk import close_desk, open_desk
from transforms.run import Run

CLOSE_AFTER, EVERY = 7200.0, 30.0
END = (START + HOUR) / 1_000_000


class Worker:
    """A process with one cell, a clock, and its upkeep, which looks once in a second of that."""

    def __init__(self, run: Run, now: float = END - 600, cell: Cell = USAGE):
        self.run, self.cell, self.now = run, cell, now
        self.books = Books(Path(run.output).parent / "books", close_after=CLOSE_AFTER, clock=lambda: self.now)
        self.desk = open_desk(run, self.books)
        self.desk.clock = lambda: self.now
        self.upkeep = Upkeep(run, [], self.desk)
        self.segment = 0
        self.made = self.another()

    def another(self) -> _KeepCells:
        made = _KeepCells(self.run, [])
        made.setup()
        return made

    def arrive(self, ids: Sequence[int], do: _KeepCells | None = None, late_commit: bool = False) -> list[Any]:
        """A slice comes, and is committed (or is on its way); returns its groups."""
        self.segment += 1
        with Spill(None, self.segment, 0) as spill:
            claim = spill.deposit(slice_of(self.cell, ids))
        made = do or self.made
        groups = list(map(decode_group, made.process((self.cell.number, claim))))
        if not late_commit:
            self.commit(groups)
        return groups

    def commit(self, groups: Sequence[Any]) -> None:
        for group in groups:
            assert self.books.commit(group)

    def go_to(self, now: float) -> None:
        """Lets the time pass."""
        while self.now < now:
            self.now = min(now, self.now + 1)
            self.upkeep.look()

    def publish(self) -> None:
        commit(self.run, [], [], self.books.settled().entries)

    @property
    def parts(self) -> list[int]:
        return [file.row_count for file in self.books.files if file.table_or_stream == "usage"]

    @property
    def delivered(self) -> tuple[int, int]:
        """Kept records, and duplicates."""
        counts = [count for count in self.books.counts if count.stage == "cell"]
        return sum(count.delivered for count in counts), sum(count.duplicates for count in counts)

    @property
    def is_final(self) -> bool:
        found = self.books.settled().entries
        return all(entry.final for entry in found if isinstance(entry, Count) and entry.stage == "cell")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = run_in(tmp_path, aggregate_every=EVERY, close_after=CLOSE_AFTER)
    yield run
    close_desk(run)


def test_a_flush_comes_when_it_is_due_however_often_records_come(run: Run) -> None:
    worker = Worker(run)
    start = worker.now
    for second in range(29):
        worker.go_to(start + second)
        worker.arrive([second])
    assert worker.parts == []
    worker.go_to(start + EVERY + 1)
    assert worker.parts == [29] and worker.books.kept(USAGE.number) == []
    worker.go_to(start + 10 * EVERY)
    assert worker.parts == [29]
    worker.arrive([100])
    worker.go_to(worker.now + EVERY + 1)
    assert worker.parts == [29, 1]


def test_rows_on_their_way_to_the_books_are_flushed_soon_after_and_once(run: Run) -> None:
    worker = Worker(run)
    worker.arrive([1])
    groups = worker.arrive([2, 3], late_commit=True)
    worker.go_to(worker.now + EVERY + 2)
    assert worker.parts == [1]
    worker.commit(groups)
    worker.go_to(worker.now + 2)
    assert worker.parts == [1, 2]


def test_all_instances_of_a_process_share_the_ids_and_read_them_once(run: Run) -> None:
    worker = Worker(run)
    other = worker.another()
    for number in range(10):
        worker.arrive([number, 0, 100], other if number % 2 else None)
    assert worker.delivered == (11, 19)


def test_two_bundles_of_a_cell_at_once_keep_a_record_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it happens on Prism, which splits a bundle and goes on with the same key elsewhere."""
    worker = Worker(run)
    take = worker.made._arrivals.take

    def slow(*given: Any) -> Any:
        found = take(*given)
        time.sleep(0.05)  # between looking whether an id is known and remembering it
        return found

    monkeypatch.setattr(worker.made._arrivals, "take", slow)
    claims = []
    for segment in range(8):
        with Spill(None, segment, 0) as spill:
            claims.append(spill.deposit(slice_of(USAGE, [1, 2, 10 + segment])))
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda claim: list(worker.made.process((USAGE.number, claim))), claims)
    for groups in found:
        worker.commit(list(map(decode_group, groups)))
    assert worker.delivered == (10, 14)


def test_a_cell_of_duplicates_only_is_read_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(run)
    worker.arrive([1, 2])
    worker.go_to(worker.now + EVERY + 1)
    worker.publish()
    worker.desk.cells.clear()  # a new process
    reads: list[str] = []
    read = keep_cells.read_parquet
    monkeypatch.setattr(keep_cells, "read_parquet", lambda path, names: reads.append(path) or read(path, names))
    for _ in range(5):
        worker.arrive([1, 2])
    assert len(reads) == 1
    assert worker.delivered == (2, 10)


def test_a_cell_closes_and_a_late_record_finds_its_ids_in_the_warehouse(run: Run) -> None:
    worker = Worker(run)
    worker.arrive([1, 2, 3])
    worker.go_to(END + CLOSE_AFTER - 1)
    assert worker.desk.ids == {USAGE.number: 3} and not worker.is_final
    worker.go_to(END + CLOSE_AFTER + 2)
    assert worker.desk.ids == {}
    assert worker.is_final
    worker.go_to(END + CLOSE_AFTER + 86_400)
    worker.arrive([2, 4])
    assert worker.delivered == (4, 1) and worker.desk.ids == {USAGE.number: 4} and not worker.is_final
    late = worker.now
    worker.go_to(late + QUIET - 1)
    assert worker.parts == [3, 1] and worker.desk.ids == {USAGE.number: 4}
    worker.arrive([4])  # also a duplicate keeps the cell open
    worker.go_to(late + 2 * QUIET - 2)
    assert worker.desk.ids == {USAGE.number: 4}
    worker.go_to(late + 2 * QUIET + 2)
    assert worker.desk.ids == {} and worker.is_final
    worker.arrive([1, 2, 3, 4])
    assert worker.delivered == (4, 6)


def test_a_cell_with_rows_on_their_way_does_not_close(run: Run) -> None:
    worker = Worker(run)
    groups = worker.arrive([1], late_commit=True)
    worker.go_to(END + CLOSE_AFTER + 100)
    assert worker.desk.ids == {USAGE.number: 1}
    worker.commit(groups)
    worker.go_to(worker.now + 5)
    assert worker.parts == [1] and worker.desk.ids == {}


def test_while_the_job_drains_nothing_is_flushed_but_by_who_ends_it(run: Run) -> None:
    worker = Worker(run)
    worker.arrive([1])
    worker.desk.draining = True
    worker.arrive([2])
    worker.go_to(worker.now + EVERY + 1)
    assert worker.parts == [] and worker.desk.ids == {USAGE.number: 2}
    assert worker.upkeep.flush(USAGE.number) == {0, 1}
    assert worker.parts == [2] and worker.books.kept(USAGE.number) == []


def test_slices_that_come_while_a_cell_is_flushed_do_not_wait_and_are_flushed_next(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(run)
    worker.arrive([1])
    flush = worker.upkeep.flush

    def slow(number: int) -> set[int]:
        flushed = flush(number)
        assert not worker.desk.cells[number].lock.locked()
        worker.arrive([2])
        return flushed

    monkeypatch.setattr(worker.upkeep, "flush", slow)
    worker.go_to(worker.now + EVERY)
    monkeypatch.undo()
    assert worker.parts == [1] and len(worker.books.kept(USAGE.number)) == 1
    worker.go_to(worker.now + EVERY + 1)
    assert worker.parts == [1, 1]


def test_records_more_than_an_hour_ahead_are_kept_and_counted_apart(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    metric: list[int] = []
    monkeypatch.setattr(metrics, "count_ahead", metric.append)
    worker = Worker(run, now=START / 1_000_000 - 1800)
    lines = [line(1, number, START + minute * 60_000_000) for number, minute in enumerate((0, 29, 30, 31, 59))]
    with Spill(None, 1, 0) as spill:
        claims = [spill.deposit(batch(1, lines)), spill.deposit(batch(1, lines))]
    for claim in claims:
        worker.commit(list(map(decode_group, worker.made.process((USAGE.number, claim)))))
    assert sum(metric) == 2
    assert worker.desk.ahead == 2  # of 31 and 59 minutes past: now it is half past, an hour before; copies do not count
    assert worker.delivered == (5, 5)


def test_when_a_cell_closes() -> None:
    assert closes_at(USAGE, END - 100, CLOSE_AFTER) == END + CLOSE_AFTER
    assert closes_at(USAGE, END + CLOSE_AFTER, CLOSE_AFTER) == END + CLOSE_AFTER + QUIET
