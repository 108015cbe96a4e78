"""A slice that arrives: what is new is kept once, and handed to the streams that send at once."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import ID_COLUMN
from schemas.tables import TABLES
from tests.transforms.keep.slices import EVENTS, USAGE, of_kind, run_in, slice_of, streams_of, sums
from transforms.deduplicate.seen import SeenIds
from transforms.deliver import spool, storage
from transforms.gather.cells import Cell, column_int64
from transforms.keep import rows as kept_rows
from transforms.keep.arrivals import Arrivals, sends_at_once
from transforms.ledger.counts import Count, Entry, FileEntry, Kept
from transforms.run import Run

MASK = [{"fields": ["device_names"], "action": "drop"}]
HOOK = {"type": "webhook", "url": "http://127.0.0.1:1/", "shards": 4}


def stream(name: str, **fields: object) -> dict[str, object]:
    return {"name": name, "content": "usage", "destination": HOOK, **fields}


def arrive(arrivals: Arrivals, cell: Cell, slices: Sequence[pa.RecordBatch]) -> tuple[list[Entry], SeenIds]:
    """Takes slices one after another, as a cell does."""
    entries: list[Entry] = []
    seen = SeenIds()
    for number, one in enumerate(slices):
        found, keep = arrivals.take(cell, number, one, seen)
        entries += found
        seen.add(column_int64(one.column(ID_COLUMN[cell.kind]))[keep])
    return entries, seen


def kept_rows_of(entries: Sequence[Entry]) -> pa.Table:
    return pa.Table.from_batches([kept_rows.take(one.path, TABLES["usage"].schema) for one in of_kind(entries, Kept)])


def spooled(run: Run, entries: Sequence[Entry], name: str) -> dict[int, list[pa.RecordBatch]]:
    """Rows in the spool by shard, of the files that the entries list."""
    found: dict[int, list[pa.RecordBatch]] = {}
    for entry in of_kind(entries, FileEntry):
        part = spool.part_of(storage.absolute(run.output, entry.path), run.output)
        assert part is not None
        if part.stream == name:
            _, rows = spool.take(run.output, part)
            assert rows.num_rows == entry.row_count
            found.setdefault(part.shard, []).append(rows)
    return found


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=1, max_size=5), st.randoms())
@settings(max_examples=25)
def test_whatever_the_order_the_same_ids_are_kept_once(ids: list[list[int]], chance: random.Random) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = run_in(Path(directory))
        entries, seen = arrive(Arrivals(run, []), USAGE, [slice_of(USAGE, some) for some in ids])
        expected = sorted({number for some in ids for number in some})
        assert sorted(kept_rows_of(entries).column("usage_id").to_pylist()) == expected if expected else True
        total = sum(map(len, ids))
        counted = {"received": total, "duplicates": total - len(expected), "delivered": len(expected)}
        assert sums(entries, "cell") == {name: value for name, value in counted.items() if value}
        assert sum(one.rows for one in of_kind(entries, Kept)) == len(expected) == len(seen)
        mixed = [number for some in ids for number in some]
        chance.shuffle(mixed)
        again, _ = arrive(Arrivals(run_in(Path(directory) / "again"), []), USAGE, [slice_of(USAGE, mixed)])
        assert sorted(kept_rows_of(again).column("usage_id").to_pylist()) == expected


def test_within_a_slice_the_winner_is_that_of_a_batch_run(tmp_path: Path) -> None:
    full = slice_of(USAGE, [1], endpoint={"id": 7, "name": "named"})
    other = slice_of(USAGE, [1], endpoint={"id": 7, "name": None})
    expected = None
    for place, order in enumerate(([full, other], [other, full])):
        one = pa.concat_batches(order)
        entries, _ = arrive(Arrivals(run_in(tmp_path / str(place)), []), USAGE, [one])
        found = kept_rows_of(entries).column("endpoint_name").to_pylist()
        assert len(found) == 1 and expected in (None, found)
        expected = found


def test_streams_get_what_they_select_masked_by_shard_and_counted(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    streams = streams_of(
        stream("all", mask=MASK),
        stream("none", filter={"endpoint": [1]}),
        stream("events", content="events", filter={"min_severity": "WARN"}),
        stream("files", destination={"type": "files"}),
        stream("sums", content="device_usage_hourly"),
    )
    assert [sends_at_once(one) for one in streams] == [True, True, True, False, False]
    devices = [slice_of(USAGE, [number], endpoint={"id": 100 + number, "name": "secret"}) for number in range(20)]
    entries, _ = arrive(
        Arrivals(run, streams), USAGE, [pa.concat_batches(devices[:15]), pa.concat_batches(devices[10:])]
    )
    assert sums(entries, "stream", "all") == {"received": 20, "pending": 20}
    assert sums(entries, "stream", "none") == {"received": 20, "filtered_out": 20}
    assert {count.stream for count in of_kind(entries, Count)} == {None, "all", "none"}
    found = spooled(run, entries, "all")
    assert len(found) > 1 and spooled(run, entries, "none") == {}
    devices_of = [
        {number for rows in batches for number in rows.column("endpoint_id").to_pylist()} for batches in found.values()
    ]
    assert sum(map(len, devices_of)) == 20 == len(set().union(*devices_of))  # a device has one shard
    assert all(rows.column("endpoint_name").null_count == rows.num_rows for some in found.values() for rows in some)
    assert kept_rows_of(entries).column("endpoint_name").null_count == 0
    assert set(spool.waiting(run.output)) == {"all"}


def test_events_go_to_streams_of_events(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    arrivals = Arrivals(
        run, streams_of(stream("warnings", content="events", filter={"min_severity": "WARN"}), stream("usage"))
    )
    info = {"id": 0, "description": "Info"}
    entries, _ = arrive(arrivals, EVENTS, [slice_of(EVENTS, [1, 2]), slice_of(EVENTS, [3], event_severity=info)])
    assert sums(entries, "stream", "warnings") == {"received": 3, "filtered_out": 1, "pending": 2}
    assert sums(entries, "stream", "usage") == {}


def test_a_slice_of_duplicates_leaves_a_count_and_nothing_else(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    seen = SeenIds()
    seen.add(np.array([1, 2]))
    entries, keep = Arrivals(run, streams_of(stream("all"))).take(USAGE, 0, slice_of(USAGE, [2, 1, 1]), seen)
    assert keep.tolist() == [False] * 3 and len(entries) == 1
    assert sums(entries, "cell") == {"received": 3, "duplicates": 3}
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
