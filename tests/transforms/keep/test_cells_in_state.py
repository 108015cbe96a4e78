"""Cells in the runner's state on Beam's test stream: flushes, the merging of parts, closing, and opening again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import BeamIOError
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.direct import clock as beam_clock
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing import test_stream
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from pipelines.job import write_meta
from tests.transforms.keep.slices import START, batch, line
from tests.transforms.states import Bag, State
from transforms import keep_in_state, publish_ledger, write_kept
from transforms.deliver import storage
from transforms.gather.cells import Cell
from transforms.gather.claims import Spill
from transforms.gather_by_cell import KeyedBytes
from transforms.keep.compact import merge_parts
from transforms.keep_cells import KeepCells
from transforms.ledger import commit, metrics
from transforms.ledger.commit import listed_files
from transforms.ledger.counts import Count, Entry, FileEntry, OpenCells, decode_group
from transforms.publish_ledger import PublishLedger
from transforms.run import Live, Run

EVERY, CLOSE_AFTER, PUBLISH = 30.0, 7200.0, 60.0
CELL = Cell(1, START, 0)
TABLES = ("usage", "device_usage_hourly")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run whose clock is that of the test stream."""
    passed = [0.0]
    advance = beam_clock.TestClock.advance_time

    def advance_both(self: beam_clock.TestClock, seconds: float) -> None:
        passed[0] += float(seconds)
        advance(self, seconds)

    monkeypatch.setattr(beam_clock.TestClock, "advance_time", advance_both)
    for module in (keep_in_state, publish_ledger):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: passed[0]))
    how = Live((), "/nowhere", aggregate_every=EVERY, close_after=CLOSE_AFTER, publish_every=PUBLISH)
    found = Run(str(tmp_path / "output"), "w", spill=None, live=how)
    write_meta(found)
    yield found


class Times:
    """A test stream that knows where its watermark is."""

    def __init__(self) -> None:
        self.stream = test_stream.TestStream().advance_processing_time(START / 1e6 + 1800)
        self.watermark = START / 1e6

    def at(self, hours: float) -> Times:
        """So many hours after the start of the cell's own."""
        self.watermark = START / 1e6 + hours * 3600
        self.stream = self.stream.advance_watermark_to(self.watermark)
        return self

    def slice(self, segment: int, ids: Sequence[int], cell: Cell = CELL) -> Times:
        """Records come, are flushed, and published."""
        lines = [line(1, number, cell.hour + number * 1_000_000) for number in ids]
        with Spill(None, segment, 0) as spill:
            element = cell.number, spill.deposit(batch(1, lines))
        arrived = beam.window.TimestampedValue(element, self.watermark + 1)
        self.stream = self.stream.add_elements([arrived]).advance_processing_time(EVERY + 1)
        return self.published()

    def late(self, segment: int, ids: Sequence[int]) -> Times:
        """Records come of which the watermark has not known, and are flushed; nothing is published yet."""
        with Spill(None, segment, 0) as spill:
            element = CELL.number, spill.deposit(batch(1, [line(1, one, START + one * 1_000_000) for one in ids]))
        arrived = beam.window.TimestampedValue(element, START / 1e6 + 1800)
        self.stream = self.stream.add_elements([arrived]).advance_processing_time(EVERY + 1)
        return self

    def hours_pass(self, hours: float) -> Times:
        """So many hours pass by the clock, too."""
        self.stream = self.stream.advance_processing_time(hours * 3600)
        return self

    def published(self) -> Times:
        """Time passes until the ledger is published."""
        self.stream = self.stream.advance_processing_time(PUBLISH + 1)
        return self

    def work(self, run: Run) -> None:
        """Runs the job over it, and drains it."""
        options = PipelineOptions([])
        options.view_as(StandardOptions).streaming = True
        pipeline = beam.Pipeline(runner=BundleBasedDirectRunner(), options=options)
        stream = self.stream.advance_watermark_to_infinity()
        kept = pipeline | stream.with_output_types(KeyedBytes) | KeepCells(run, [])
        _ = kept | PublishLedger(run, [], [])
        pipeline.run().wait_until_finish()


def parts(run: Run, table: str) -> list[FileEntry]:
    return [file for file in listed_files(run.output, run.writer) if file.table_or_stream == table and file.row_count]


def ids(run: Run) -> list[int]:
    rows = [pq.ParquetFile(storage.absolute(run.output, file.path)).read() for file in parts(run, "usage")]
    return sorted(number for part in rows for number in part.column("usage_id").to_pylist())


@pytest.fixture
def finals(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the cell's hour was final in each ledger that was published, once for each change."""
    found: list[bool] = []
    rows_of = commit.ledger_rows

    def noted(run: Run, counts: Sequence[Count], published: int) -> pa.RecordBatch:
        final = {count.final for count in counts if count.stage == "cell" and count.hour == CELL.hour}
        if final and found[-1:] != list(final):
            found.extend(final)
        return rows_of(run, counts, published)

    monkeypatch.setattr(commit, "ledger_rows", noted)
    return found


def stored(run: Run) -> set[str]:
    """The files that are there, whoever lists them."""
    root = Path(run.output)
    return {
        path.relative_to(root).as_posix() for table in TABLES for path in (root / "warehouse" / table).rglob("dt=*/*/*")
    }


def test_the_parts_of_a_cell_become_one_when_it_closes(run: Run) -> None:
    times = Times().at(0.1).slice(0, [1, 2]).at(0.2).slice(1, [2, 3]).at(0.3).slice(2, [4])
    times.at(3.5).published().work(run)
    assert ids(run) == [1, 2, 3, 4]
    for table in TABLES:
        (part,) = parts(run, table)
        assert part.path.endswith("/part-w-0-6.parquet")  # each slice and each flush has a number, too
    assert stored(run) == {part.path for table in TABLES for part in parts(run, table)}


def test_a_cell_that_opens_again_writes_beside_what_was_merged(run: Run) -> None:
    times = Times().at(0.1).slice(0, [1, 2]).at(0.2).slice(1, [3])
    times.at(3.5).published()  # merged
    times.at(6.0).slice(2, [1, 4]).slice(3, [5])  # closed, and open again: the ids are those of the merged part
    times.at(12).published().work(run)
    assert ids(run) == [1, 2, 3, 4, 5]
    assert [part.row_count for part in parts(run, "usage")] == [3, 2]
    assert stored(run) == {part.path for table in TABLES for part in parts(run, table)}


def test_what_comes_between_merging_and_closing_is_merged_by_itself(run: Run) -> None:
    times = Times().at(0.1).slice(0, [1, 2]).at(0.2).slice(1, [3])
    times.at(3.5).published()
    times.slice(2, [3, 4]).slice(3, [5]).at(12).published().work(run)
    assert ids(run) == [1, 2, 3, 4, 5]
    assert [part.row_count for part in parts(run, "usage")] == [3, 2]


def test_a_cell_into_which_records_still_come_is_left_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    merged: list[int] = []

    def noted(run: Run, cell: Cell, pane: int, files: Sequence[FileEntry]) -> list[Entry]:
        merged.append(len(files))
        return merge_parts(run, cell, pane, files)

    monkeypatch.setattr(write_kept, "merge_parts", noted)
    times = Times()
    for hour in range(6):
        times.at(0.9 + hour).slice(hour, [hour])
    times.work(run)
    assert merged == [6 * len(TABLES)]  # all at once, by the drain
    assert ids(run) == list(range(6)) and len(parts(run, "usage")) == 1


def test_a_watermark_that_is_ahead_closes_no_cell_before_it_is_published(run: Run) -> None:
    """Else its ids would come again, and the next flush would replace its part."""
    times = Times().hours_pass(30).at(30).late(0, [1, 2]).late(1, [1, 3])
    times.published().work(run)
    assert ids(run) == [1, 2, 3]


@given(st.integers(0, 10**12), st.floats(0, 1e10), st.floats(60, 1e6))
def test_a_cell_closes_at_a_whole_second(moment: int, now: float, close_after: float) -> None:
    """Runners keep milliseconds: a timer that came earlier than it was set would set itself again and again."""
    keep = keep_in_state._Keep(Run("/nowhere", "w", spill=None, live=Live((), "/nowhere", close_after=close_after)), [])
    with mock.patch.object(keep_in_state, "time", SimpleNamespace(time=lambda: now)):
        closing = keep._long_after(moment)
    assert closing % 1_000_000 == 0
    late = max(moment / 1e6, now) + close_after
    assert late <= closing / 1e6 <= late + 1


def test_one_part_stays_as_it_is(run: Run) -> None:
    Times().at(0.1).slice(0, [1, 2]).at(12).published().work(run)
    (part,) = parts(run, "usage")
    assert part.path.endswith("/part-w-0-1.parquet") and ids(run) == [1, 2]


def test_parts_that_cannot_be_merged_stay_as_they_are(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    copy = storage.copy

    def refused(source: str, path: str) -> None:
        copy(source, path)
        if "device_usage_hourly" in path:  # the second table
            raise BeamIOError("503")

    monkeypatch.setattr(storage, "copy", refused)
    Times().at(0.1).slice(0, [1]).at(0.2).slice(1, [2]).at(3.5).published().at(12).published().work(run)
    assert ids(run) == [1, 2] and len(parts(run, "usage")) == 2
    assert stored(run) == {part.path for table in TABLES for part in parts(run, table)}
    assert "stay as they are: BeamIOError" in caplog.text


def test_a_drain_loses_nothing(run: Run) -> None:
    Times().at(0.1).slice(0, [1]).slice(1, [2]).work(run)
    assert ids(run) == [1, 2]
    assert stored(run) >= {part.path for table in TABLES for part in parts(run, table)}


def test_an_hour_is_final_while_its_cells_are_closed(run: Run, finals: list[bool]) -> None:
    times = Times().at(0.1).slice(0, [1, 2]).at(0.2).slice(1, [3])
    times.hours_pass(3).at(3.5).published()  # merged, and not closed yet
    times.hours_pass(3).at(6.0).published()
    times.slice(2, [4]).hours_pass(12).at(16).published().at(20).published().work(run)
    assert finals == [False, True, False, True] and ids(run) == [1, 2, 3, 4]


def test_duplicates_alone_open_a_closed_hour_until_they_are_told(run: Run, finals: list[bool]) -> None:
    times = Times().at(0.1).slice(0, [1]).hours_pass(6).at(6).published()
    times.slice(1, [1]).hours_pass(6).at(12).published().work(run)
    assert finals == [False, True, False, True] and ids(run) == [1]


def test_a_drain_publishes_no_incomplete_hour_as_final(run: Run, finals: list[bool]) -> None:
    Times().at(0.1).slice(0, [1]).slice(1, [2]).work(run)
    assert finals == [False]
    # The next job of this name says so once the hour's cells would have closed, without a record of it.
    other = Cell(1, START + 12 * 3_600_000_000, 0)
    Times().hours_pass(1).at(1.1).slice(2, [7], other).hours_pass(12).at(12).slice(3, [8], other).work(run)
    assert finals == [False, True]


def test_a_drain_does_not_end_an_hour_that_opened_again(run: Run, finals: list[bool]) -> None:
    Times().at(0.1).slice(0, [1]).hours_pass(5.5).at(6).published().slice(1, [2]).work(run)
    assert finals == [False, True, False]


class Metrics:
    """Sums of counters, and values of distributions. The runner of test streams forgets those of some bundles."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.values: dict[str, list[int]] = {}

    def counter(self, namespace: str, name: str) -> SimpleNamespace:
        return SimpleNamespace(inc=lambda change: self.sums.update({f"{namespace} {name}": change}))

    def distribution(self, namespace: str, name: str) -> SimpleNamespace:
        return SimpleNamespace(update=self.values.setdefault(f"{namespace} {name}", []).append)


def test_metrics_say_what_came_and_what_the_state_holds(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Metrics()
    monkeypatch.setattr(metrics, "Metrics", found)
    times = Times().at(0.1).slice(0, [1, 2]).at(0.2).slice(1, [2, 3]).hours_pass(4).at(4).published()  # merged
    times.hours_pass(4).at(8).published().work(run)
    assert found.sums == {
        "cells usage.kept": 3,
        "cells usage.duplicates": 1,
        "cells open_cells": 0,
        "cells open_ids": 0,
    }
    assert len(found.values.pop("cells lag_ms")) == 2 and not found.values
    Times().at(0.1).slice(2, [3, 4, 5]).work(run)  # two of them are new; a drain clears the state, too
    assert found.sums["cells usage.kept"] == 5 and found.sums["cells open_ids"] == 0


@pytest.mark.parametrize(("late", "told"), [(-1.0, []), (1.0, [-1])], ids=["a drain", "its time"])
def test_only_a_cell_whose_time_has_come_is_told_to_be_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: float, told: list[int]
) -> None:
    run = Run(str(tmp_path), "w", spill=None, live=Live((), "/nowhere", close_after=CLOSE_AFTER))
    closing = START + 12 * 3_600_000_000
    ids, token, kept, state, flush, close = Bag(), State(), Bag(), State(), State(), State()
    state.write(keep_in_state._encoder.encode(keep_in_state._Standing(1, False, closing, 0, True)))
    keep = keep_in_state._Keep(run, [])
    keep.setup()
    monkeypatch.setattr(keep_in_state, "time", SimpleNamespace(time=lambda: closing / 1e6 + late))
    output = list(keep.on_close(CELL.number, Timestamp(micros=closing), ids, token, kept, state, flush, close))
    assert [entry for group in output for entry in decode_group(group).entries] == [
        OpenCells("usage", CELL.hour, cells) for cells in told
    ]
    assert state.read() is None and close.due is None
