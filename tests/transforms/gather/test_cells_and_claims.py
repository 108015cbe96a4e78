"""Cells and claims: numbers round trip, slices keep all rows, old bytes stay readable."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import EVENT_RECORD, EVENTS_FEED, HOUR
from transforms.gather import claims
from transforms.gather.cells import Cell, buckets_of, cell_numbers, cut
from transforms.gather.claims import Spill, batch_of, lift, order_of, packed_of


def events(ids: list[int], times: list[int], endpoints: list[int | None]) -> pa.RecordBatch:
    """A record batch of events."""
    rows = [{"event_id": i, "event_time": t, "endpoint_id": e} for i, t, e in zip(ids, times, endpoints, strict=True)]
    return pa.RecordBatch.from_pylist(rows, schema=EVENT_RECORD)


@given(st.sampled_from([0, 1]), st.integers(262_968, 1_139_567), st.integers(0, 2047))
def test_cell_numbers_round_trip(kind: int, hour: int, bucket: int) -> None:
    cell = Cell(kind, hour * HOUR, bucket)
    assert Cell.of_number(cell.number) == cell


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3), st.one_of(st.none(), st.integers(1, 9)))))
def test_slices_hold_every_row_once_in_order(rows: list[tuple[int, int, int | None]]) -> None:
    batch = events([r[0] for r in rows], [r[1] * HOUR + 946_684_800_000_000 for r in rows], [r[2] for r in rows])
    numbers = cell_numbers(batch, EVENTS_FEED, 4)
    parts = cut(batch, numbers)
    assert sum(part.num_rows for _, part in parts) == len(rows)
    for number, part in parts:
        assert (cell_numbers(part, EVENTS_FEED, 4) == number).all()
        expected = [r[0] for r, n in zip(rows, numbers, strict=True) if n == number]
        assert part.column("event_id").to_pylist() == expected


def test_buckets_are_fair_for_dense_ids() -> None:
    batch = events(list(range(10_000)), [946_684_800_000_000] * 10_000, list(range(10_000)))
    counts = np.bincount(buckets_of(batch, 8), minlength=8)
    assert counts.min() > 1_100
    assert counts.max() < 1_400


@pytest.mark.parametrize("shared", [True, False])
def test_claims_give_back_what_was_deposited(tmp_path, shared: bool) -> None:
    batch = events([1, 2], [946_684_800_000_000] * 2, [None, 7])
    rows = np.arange(5, dtype="<i8")
    with Spill(str(tmp_path / "spill") if shared else None, 3, 1) as spill:
        first, second = spill.deposit(batch), spill.deposit_packed(rows)
    assert batch_of(first, EVENT_RECORD).equals(batch)
    assert packed_of(second, np.dtype("<i8")).tolist() == rows.tolist()
    assert order_of(first) < order_of(second)


def test_a_failed_block_leaves_no_spill_file(tmp_path) -> None:
    with pytest.raises(RuntimeError), Spill(str(tmp_path / "spill"), 0, 0) as spill:
        spill.deposit(events([1], [946_684_800_000_000], [None]))
        raise RuntimeError("the block fails")
    assert list(tmp_path.iterdir()) == []


def test_an_older_schema_is_lifted() -> None:
    old = pa.record_batch({"event_id": pa.array([1]), "gone": pa.array(["x"])})
    lifted = lift(old, pa.schema([("event_id", pa.int64()), ("new", pa.string())]))
    assert lifted.to_pylist() == [{"event_id": 1, "new": None}]


def test_bytes_of_version_1_stay_readable() -> None:
    """A claim as version 1 wrote it: live state and shuffles in flight outlast an update of the job."""
    old = bytes.fromhex("01500000000300000001000000010500000000000000")
    assert packed_of(old, np.dtype("<i8")).tolist() == [5]


def test_an_unknown_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="version 9"):
        packed_of(b"\x09P" + bytes(12), np.dtype("<i8"))


@pytest.mark.parametrize("shared", [True, False])
def test_only_what_travels_itself_is_cut_into_small_claims(tmp_path, shared: bool, monkeypatch) -> None:
    monkeypatch.setattr(claims, "INLINE_BYTES", 40_000)
    noise = np.random.default_rng(1)
    texts = [noise.bytes(size // 2).hex() for size in (200, 90_000, 10, 10, 30_000, 30_000, 30_000, 10)]
    rows = [{"event_id": i, "event_time": 0, "description": text} for i, text in enumerate(texts)]
    batch = pa.RecordBatch.from_pylist(rows, schema=EVENT_RECORD)
    with Spill(str(tmp_path / "spill") if shared else None, 0, 0) as spill:
        found = list(spill.deposit_pieces(batch))
    assert found == sorted(found, key=order_of)
    pieces = [batch_of(claim, EVENT_RECORD) for claim in found]
    assert pa.Table.from_batches(pieces).combine_chunks().equals(pa.table(batch))
    if shared:
        assert len(found) == 1
    else:
        assert [part.num_rows for claim, part in zip(found, pieces, strict=True) if len(claim) > 40_000] == [1]
