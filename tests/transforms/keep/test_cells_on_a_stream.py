"""Cells on Beam's test stream: early, late and out-of-order records, closing and what state holds after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.direct import clock as beam_clock
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing import test_stream

from schemas.records import HOUR
from tests.transforms.keep.slices import START, batch, line, run_in
from transforms.deduplicate.committed import CommittedIds
from transforms.gather.cells import Cell
from transforms.gather.claims import Spill
from transforms.gather_by_cell import KeyedBytes
from transforms.keep.closing import QUIET
from transforms.keep.upkeep import Upkeep
from transforms.keep_cells import KeepCells
from transforms.ledger.books import Books
from transforms.ledger.counts import Count, decode_group
from transforms.ledger.desk import Desk, close_desk, open_desk
from transforms.run import Run

CLOSE_AFTER, EVERY = 7200.0, 30.0
NOW = START / 1_000_000 + 1800
THIS, BEFORE, AHEAD = Cell(1, START, 0), Cell(1, START - 30 * HOUR, 0), Cell(1, START + 5 * HOUR, 0)


class _Commit(beam.DoFn):
    def process(self, element: bytes) -> None:
        _books[0].commit(decode_group(element))


_books: list[Books] = []


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Run, Desk]]:
    """A run, and its desk whose clock is that of the test stream; when it moves on, the cells are looked at."""
    passed = [0.0]
    advance = beam_clock.TestClock.advance_time

    def advance_both(self: beam_clock.TestClock, seconds: float) -> None:
        passed[0] += float(seconds)
        advance(self, seconds)
        upkeep.look()

    monkeypatch.setattr(beam_clock.TestClock, "advance_time", advance_both)
    run = run_in(tmp_path, aggregate_every=EVERY, close_after=CLOSE_AFTER)
    books = Books(tmp_path / "books", close_after=CLOSE_AFTER, clock=lambda: passed[0])
    desk = open_desk(run, books)
    desk.clock = lambda: passed[0]
    upkeep = Upkeep(run, [], desk)
    _books[:] = [books]
    yield run, desk
    close_desk(run)


def element(segment: int, cell: Cell, ids: Sequence[int]) -> tuple[int, bytes]:
    with Spill(None, segment, 0) as spill:
        lines = [line(1, number, cell.hour + number * 1_000_000) for number in ids]
        return cell.number, spill.deposit(batch(1, lines))


def test_early_late_and_out_of_order_records_are_kept_once_and_cells_close_and_open_again(
    site: tuple[Run, Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, desk = site
    reads: Counter[Cell] = Counter()
    of_cell = CommittedIds.of_cell

    def counted(self: CommittedIds, cell: Cell) -> Any:
        reads[cell] += 1
        return of_cell(self, cell)

    monkeypatch.setattr(CommittedIds, "of_cell", counted)
    stream = (
        test_stream.TestStream()
        .advance_processing_time(NOW)
        .add_elements([element(0, THIS, [1, 2])])
        .advance_watermark_to(THIS.hour // 1_000_000 + 3600)  # all that comes for this hour from now on is late
        .add_elements([element(1, BEFORE, [1, 2, 3]), element(2, THIS, [2, 3]), element(3, AHEAD, [7])])
        .advance_processing_time(EVERY + 1)
        .advance_watermark_to(AHEAD.hour // 1_000_000 + 3600)
        .add_elements([element(4, THIS, [3, 4, 5])])
        .advance_processing_time(EVERY + 1)
        .advance_processing_time(QUIET + 1)  # an old hour closes, one that has just ended does not
        .add_elements([element(5, BEFORE, [3, 4]), element(6, THIS, [5, 6])])
        .advance_processing_time(EVERY + 1)
        .advance_processing_time(QUIET + 1)
        .advance_watermark_to_infinity()
    )
    options = PipelineOptions([])
    options.view_as(StandardOptions).streaming = True
    pipeline = beam.Pipeline(runner=BundleBasedDirectRunner(), options=options)
    _ = pipeline | stream.with_output_types(KeyedBytes) | KeepCells(run, []) | beam.ParDo(_Commit())
    pipeline.run().wait_until_finish()
    entries = desk.books.settled().entries
    counts = {count.hour: count for count in entries if isinstance(count, Count) and count.stage == "cell"}
    assert {hour: (count.delivered, count.duplicates) for hour, count in counts.items()} == {
        THIS.hour: (6, 3), BEFORE.hour: (4, 1), AHEAD.hour: (1, 0),
    }  # fmt: skip
    rows = {hour: sorted(_parts(desk, hour)) for hour in (THIS.hour, BEFORE.hour, AHEAD.hour)}
    assert rows == {THIS.hour: [1, 2, 3], BEFORE.hour: [1, 3], AHEAD.hour: [1]}
    assert desk.ids == {THIS.number: 6, AHEAD.number: 1}
    assert reads == {THIS: 1, BEFORE: 2, AHEAD: 1}  # the ids of a closed cell are read back
    assert {hour for hour, count in counts.items() if count.final} == {BEFORE.hour}
    assert desk.ahead == 1


def _parts(desk: Desk, hour: int) -> list[int]:
    return [file.row_count for file in desk.books.files if (file.table_or_stream, file.hour) == ("usage", hour)]
