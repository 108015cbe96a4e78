"""What a flush writes: the rows, sums and streams that the batch run writes of the same records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.keep.slices import EVENTS, USAGE, of_kind, run_in, slice_of, streams_of, sums
from transforms.aggregate import device_events, device_usage
from transforms.classify import event_rows, usage_rows
from transforms.deduplicate.seen import SeenIds
from transforms.deduplicate.within import PANE_ROWS
from transforms.deliver import spool, storage
from transforms.gather.cells import Cell
from transforms.keep.arrivals import Arrivals
from transforms.keep.flush import Flushes, panes
from transforms.ledger.counts import Entry, FileEntry, Flushed, Kept
from transforms.run import Run

PANE = 7


def kept_of(run: Run, cell: Cell, slices: Sequence[pa.RecordBatch]) -> list[Kept]:
    """Has slices arrive, and returns what is kept of them."""
    entries: list[Entry] = []
    for number, one in enumerate(slices):
        entries += Arrivals(run, []).take(cell, number, one, SeenIds())[0]
    return list(of_kind(entries, Kept))


def rows_of(run: Run, entries: Sequence[Entry], table: str) -> pa.Table:
    files = [entry for entry in of_kind(entries, FileEntry) if entry.table_or_stream == table]
    found = [pq.ParquetFile(storage.absolute(run.output, file.path)).read() for file in files]
    assert [rows.num_rows for rows in found] == [file.row_count for file in files]
    return pa.concat_tables(found)


@pytest.mark.parametrize("cell", [EVENTS, USAGE])
def test_parts_and_sums_are_those_of_the_batch_steps(tmp_path: Path, cell: Cell) -> None:
    run = run_in(tmp_path)
    slices = [slice_of(cell, [3, 1], endpoint={"id": 5}), slice_of(cell, [2], endpoint={"id": 6}), slice_of(cell, [9])]
    flushes = Flushes(run, [])
    entries = flushes.flush(cell, PANE, kept_of(run, cell, slices))
    whole = pa.concat_batches(slices)
    expected = event_rows(whole, "w", PANE, run.reasons) if cell == EVENTS else usage_rows(whole, "w", PANE)
    table = "events" if cell == EVENTS else "usage"
    found = rows_of(run, entries, table)
    key = "event_id" if cell == EVENTS else "usage_id"
    assert found.sort_by(key).to_pylist() == pa.Table.from_batches([expected]).sort_by(key).to_pylist()
    assert set(found.column("pane").to_pylist()) == {PANE}
    aggregate = device_events(expected) if cell == EVENTS else device_usage(expected)
    sums_table = f"device_{table}_hourly"
    assert rows_of(run, entries, sums_table).to_pylist() == aggregate.to_pylist()
    assert list(of_kind(entries, Flushed)) == [Flushed(cell.number, [0, 1, 2])]
    flushes.close()


def test_streams_store_push_and_are_counted(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    hook: dict[str, object] = {"type": "webhook", "url": "http://127.0.0.1:1/"}

    def stream(name: str, content: str, destination: dict[str, object], **fields: object) -> dict[str, object]:
        return {"name": name, "content": content, "destination": destination, **fields}

    files: dict[str, object] = {"type": "files"}
    streams = streams_of(
        stream("stored", "usage", files, filter={"endpoint": [5]}),
        stream("paused", "usage", files, state="paused"),
        stream("sums", "device_usage_hourly", hook),
        stream("table", "device_usage_hourly", {"type": "warehouse"}),
        stream("sent", "usage", hook),
    )
    slices = [slice_of(USAGE, [1, 2], endpoint={"id": 5}), slice_of(USAGE, [3], endpoint={"id": 6})]
    flushes = Flushes(run, streams)
    entries = flushes.flush(USAGE, PANE, kept_of(run, USAGE, slices))
    flushes.close()
    assert sums(entries, "stream", "stored") == {"received": 3, "filtered_out": 1, "delivered": 2}
    assert sums(entries, "stream", "paused") == {"received": 3, "pending": 3}
    assert sums(entries, "stream", "sums") == {"received": 2, "pending": 2}
    assert sums(entries, "stream", "table") == {"received": 2, "delivered": 2}
    assert sums(entries, "stream", "sent") == {}  # it had them when they came
    waiting = {name: [part.pane for part in parts] for name, parts in spool.waiting(run.output).items()}
    assert waiting == {"paused": [PANE], "sums": [PANE]}
    listed = {storage.absolute(run.output, entry.path) for entry in of_kind(entries, FileEntry)}
    assert listed >= {str(path) for path in (tmp_path / "output").rglob("*") if path.is_file()}


@given(st.lists(st.integers(1, PANE_ROWS + 10), max_size=12))
def test_panes_are_bounded_and_never_cut_a_slice(sizes: list[int]) -> None:
    kept = [Kept(0, number, str(number), rows) for number, rows in enumerate(sizes)]
    found = list(panes(kept))
    assert [one for pane in found for one in pane] == kept
    assert all(len(pane) == 1 or sum(one.rows for one in pane) <= PANE_ROWS for pane in found)
    for pane, following in zip(found, found[1:], strict=False):  # no pane is smaller than it has to be
        assert sum(one.rows for one in pane) + following[0].rows > PANE_ROWS
