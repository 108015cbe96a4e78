from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.tables import TABLES
from tests.warehouse.synthetic_output import STREAM, WRITER, relist
from warehouse.audit import audit
from warehouse.layout import part_files

Rows = list[dict[str, Any]]


def edit(output: Path, table: str, change: Callable[[Rows], Rows | None], hour: int | None = None) -> None:
    """Change the rows of a part and list the file as it is now, as a writer with an error would have done."""
    part = next(
        path for path in part_files(output, table)
        if (hour is None and path.parent.name == table) or path.parent.name == f"hh={hour}"
    )  # fmt: skip
    rows = pq.read_table(part, partitioning=None).to_pylist()
    pq.write_table(pa.Table.from_pylist(change(rows) or rows, schema=TABLES[table].schema), part)
    relist(output)


def ledger_row(rows: Rows, stage: str, feed: str = "events") -> dict[str, Any]:
    return next(row for row in rows if row["stage"] == stage and row["feed"] == feed)


def test_a_whole_output_is_balanced(output: Path) -> None:
    result = audit(output)
    assert result.ok, result.lines
    assert result.first_difference is None
    assert result.lines[-1] == "balanced: nothing was lost"
    assert f"ok    stream {STREAM}: 7 delivered, recounted in its files" in result.lines
    assert any(line.startswith("events: 16 received = 1 empty + 1 dead letters") for line in result.lines)


def test_an_output_without_records_is_balanced(empty_output: Path) -> None:
    assert audit(empty_output).ok


def one_file_of_each_kind(output: Path) -> list[Path]:
    """One file of each table and stream, with and without an hour, and the commit."""
    kinds = {
        (path.relative_to(output).parts[:2], "hh=" in str(path)): path for path in output.rglob("*") if path.is_file()
    }
    assert len(kinds) == 14
    return list(kinds.values())


def test_each_file_that_is_deleted_is_named(output: Path, tmp_path: Path) -> None:
    _damage_each(output, tmp_path, lambda path: path.unlink())


@pytest.mark.slow
def test_each_file_that_is_cut_short_is_named(output: Path, tmp_path: Path) -> None:
    _damage_each(output, tmp_path, lambda path: path.write_bytes(path.read_bytes()[:-7]))


@pytest.mark.slow
def test_each_file_of_which_a_byte_is_changed_is_named(output: Path, tmp_path: Path) -> None:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x40
        path.write_bytes(data)

    _damage_each(output, tmp_path, change)


def _damage_each(output: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    for path in one_file_of_each_kind(output):
        if path.suffix == ".json" and damage.__name__ == "change":
            continue  # the commit file has no checksum of its own: what it says is compared with the file it names
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(output, copy)
        relative = path.relative_to(output)
        damage(copy / relative)
        result = audit(copy)
        assert not result.ok, relative
        named = [line for line in result.lines if line.startswith("FAIL") and str(relative) in line]
        if relative.parent.name == "_commits":
            named = [line for line in result.lines if line.startswith("FAIL") and "commit" in line]
        assert named, (relative, result.lines)


def test_a_file_that_no_writer_listed_is_named(output: Path) -> None:
    part = next(path for path in part_files(output, "events") if "hh=10" in str(path))
    shutil.copy(part, part.with_name("part-stranger-0-0.parquet"))
    stray = output / "streams" / STREAM / "note.ndjson"
    stray.write_text("{}\n")
    result = audit(output)
    assert not result.ok
    assert any("part-stranger-0-0.parquet is listed by no writer" in line for line in result.lines)
    assert any("note.ndjson is listed by no writer" in line for line in result.lines)


def test_temporary_and_empty_files_are_only_noted(output: Path) -> None:
    part = next(path for path in part_files(output, "events") if path.parent.name == "events")
    shutil.copy(part, part.with_name("part-other-0.parquet"))
    (part.parent / ".tmp-abc-part-x.parquet").write_bytes(b"half")
    result = audit(output)
    assert result.ok, result.lines
    assert sum(line.startswith("note") for line in result.lines) == 2


@pytest.mark.parametrize(
    ("stage", "column", "equation"),
    [
        ("feed", "received", "feed: received = empty + dead_lettered + decoded"),
        ("cell", "duplicates", "cell: received = duplicates + conflicts + delivered"),
        ("stream", "filtered_out", "stream: received = filtered_out + delivered + dead_lettered + pending"),
    ],
)
def test_a_count_that_breaks_its_stage_is_found(output: Path, stage: str, column: str, equation: str) -> None:
    def change(rows: Rows) -> None:
        ledger_row(rows, stage)[column] += 1

    edit(output, "ledger", change)
    result = audit(output)
    assert not result.ok
    assert result.first_difference is not None
    assert result.first_difference.startswith(equation)
    assert WRITER in result.first_difference


@pytest.mark.parametrize(
    ("stage", "columns", "equation"),
    [
        ("feed", ("received", "decoded"), "feed.decoded = cell.received"),
        ("feed", ("received", "dead_lettered"), "feed.dead_lettered, cell.conflicts and stream.dead_lettered = rows"),
        ("cell", ("received", "conflicts"), "feed.decoded = cell.received"),
        ("stream", ("received", "filtered_out"), "cell.delivered = stream.received"),
        ("cell", ("received", "delivered"), "feed.decoded = cell.received"),
    ],
)
def test_a_count_that_breaks_the_next_stage_is_found(
    output: Path, stage: str, columns: tuple[str, str], equation: str
) -> None:
    def change(rows: Rows) -> None:
        for column in columns:
            ledger_row(rows, stage)[column] += 1

    edit(output, "ledger", change)
    result = audit(output)
    assert not result.ok
    assert any(line.startswith(f"FAIL  {equation}") for line in result.lines), result.lines


def test_a_row_that_the_warehouse_lacks_is_found(output: Path) -> None:
    edit(output, "events", lambda rows: rows[1:], hour=11)
    result = audit(output)
    assert any(line.startswith("FAIL  cell.delivered = rows of events and usage") for line in result.lines)
    assert any(line.startswith("FAIL  sums of device_events_hourly") for line in result.lines)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("device_usage_hourly", "volume_rx"), ("device_usage_hourly", "cost"), ("device_usage_hourly", "records"),
        ("device_events_hourly", "events"), ("device_events_hourly", "alerts"),
    ],
)  # fmt: skip
def test_an_aggregate_that_is_off_by_the_last_decimal_is_found(output: Path, table: str, column: str) -> None:
    def change(rows: Rows) -> None:
        scale = 10 if column == "cost" else 6
        kind = TABLES[table].schema.field(column).type
        rows[0][column] += type(rows[0][column])(1).scaleb(-scale) if pa.types.is_decimal(kind) else 1

    edit(output, table, change, hour=10)
    result = audit(output)
    assert result.first_difference is not None
    assert result.first_difference.startswith(f"sums of {table}")


def test_pending_records_must_lie_in_the_spool(output: Path) -> None:
    def change(rows: Rows) -> None:
        row = ledger_row(rows, "stream")
        row.update(pending=1, filtered_out=row["filtered_out"] - 1)

    edit(output, "ledger", change)
    result = audit(output)
    assert result.first_difference is not None
    assert f"stream {STREAM}: 1 counted, 0 in pending/{STREAM}/" in result.first_difference
    spool = output / "pending" / STREAM / "0" / f"20261028T10-{WRITER}-0-0.arrow"
    spool.parent.mkdir(parents=True)
    batch = pa.record_batch({"event_id": [1]})
    with pa.ipc.new_file(str(spool), batch.schema) as writer:
        writer.write_batch(batch)
    assert not audit(output).ok, "a file that is not listed does not count"
    relist(output, {str(spool.relative_to(output)): (f"pending/{STREAM}", 1)})
    assert audit(output).ok


def test_a_stream_without_files_has_only_receipts(output: Path) -> None:
    shutil.rmtree(output / "streams")
    relist(output)
    result = audit(output)
    assert result.ok, result.lines
    assert any(line.startswith(f"note  stream {STREAM}: 7 delivered, receipts only") for line in result.lines)


def test_a_stream_that_delivered_more_than_its_files_hold_is_found(output: Path) -> None:
    def change(rows: Rows) -> None:
        row = ledger_row(rows, "stream")
        row.update(delivered=row["delivered"] + 1, filtered_out=row["filtered_out"] - 1)

    edit(output, "ledger", change)
    assert audit(output).first_difference == f"stream {STREAM}: 8 delivered, 7 rows in its files"


def test_an_id_twice_in_a_cell_fails_and_in_two_cells_is_told(output: Path) -> None:
    def repeat(rows: Rows) -> None:
        rows[0]["event_id"] = rows[1]["event_id"]

    edit(output, "events", repeat, hour=11)
    assert any(line.startswith("FAIL  no id twice in a cell of events: id") for line in audit(output).lines)

    def apart(rows: Rows) -> None:
        rows[0]["event_id"] = 1

    edit(output, "events", apart, hour=11)
    result = audit(output)
    assert result.ok, result.lines
    assert any(line.startswith("note  1 ids of events are committed in two cells") for line in result.lines)


def test_a_long_payload_must_lie_beside_its_table(output: Path) -> None:
    def change(rows: Rows) -> None:
        rows[0].update(payload=None, payload_size=50_000_000, payload_sha256="ab" * 32)

    edit(output, "dead_letters", change)
    result = audit(output)
    assert result.first_difference is not None
    assert f"warehouse/dead/{'ab' * 32} is missing" in result.first_difference
    (output / "warehouse" / "dead").mkdir()
    (output / "warehouse" / "dead" / ("ab" * 32)).write_bytes(b"x")
    assert audit(output).ok


def test_the_deltas_of_a_later_delivery_are_balanced(output: Path) -> None:
    """`deliver` writes −n pending, +n delivered under another writer; sums over all writers are the truth."""

    def change(rows: Rows) -> Rows:
        row = ledger_row(rows, "stream")
        delta = {**row, "writer": "deliver", "received": 0, "filtered_out": 0, "delivered": 2, "pending": -2,
                 "published_time": row["published_time"] + datetime.timedelta(hours=1)}  # fmt: skip
        row.update(pending=2, delivered=row["delivered"] - 2)
        return [*rows, delta]

    edit(output, "ledger", change)
    result = audit(output)
    assert result.ok, result.lines
