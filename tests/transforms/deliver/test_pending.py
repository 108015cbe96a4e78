"""What waits is delivered in order, once, whenever the process is killed; a stream at fault holds back no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from tests.transforms.deliver.support import HOUR, Stream, part_of, rows_of
from transforms.deliver import pending, spool, storage
from transforms.deliver.destination import Receipt
from transforms.deliver.files import FilesDestination, FilesOptions
from transforms.deliver.pending import Redelivery, deliver_pending

HOUR_US = 3_600_000_000


class Ledger:
    """A ledger that settles a spool file once."""

    def __init__(self) -> None:
        self.settled: list[str] = []
        self.delivered = 0

    def __call__(self, done: Sequence[Redelivery]) -> None:
        for each in done:
            if each.spooled not in self.settled:
                self.settled.append(each.spooled)
                self.delivered += each.delivered


def spooled(output: Path, stream: str = "archive", rows: int = 1, **part: object) -> None:
    spool.put(str(output), part_of(stream, **part), rows_of("usage", *[{}] * rows))  # type: ignore[arg-type]


def files_below(output: Path, directory: str) -> list[str]:
    return [storage.relative(str(output), path) for path in storage.list_files(f"{output}/{directory}")]


def test_rows_wait_as_they_are(tmp_path: Path) -> None:
    rows = rows_of("usage", {}, {"cost": None})
    stored = spool.put(str(tmp_path), part_of(), rows)
    assert stored.path == "pending/archive/0/20211115T20-0123456789abcdef-0-0.arrow"
    ((part,),) = spool.waiting(str(tmp_path)).values()
    part, read = spool.take(str(tmp_path), part)
    assert part == part_of() and read.to_pylist() == rows.to_pylist()


def test_rows_of_an_older_schema_are_lifted(tmp_path: Path) -> None:
    rows = rows_of("usage", {})
    older = pa.RecordBatch.from_arrays(rows.columns[:-1], schema=pa.schema(list(rows.schema)[:-1]))
    spool.put(str(tmp_path), part_of(), older)
    _, read = spool.take(str(tmp_path), part_of())
    assert read.schema.names == rows.schema.names
    assert read.column("currency_symbol").to_pylist() == [None]


def test_what_waits_comes_in_order(tmp_path: Path) -> None:
    for hour in (2, 0, 10):
        for pane in (10, 9):
            spooled(tmp_path, hour=HOUR + hour * HOUR_US, pane=pane)
    spooled(tmp_path, writer="job-2")
    turns = [
        ((part.hour - HOUR) // HOUR_US, part.writer, part.pane) for part in spool.waiting(str(tmp_path))["archive"]
    ]
    batch = "0123456789abcdef"
    assert turns == [
        (0, batch, 9),
        (0, batch, 10),
        (0, "job-2", 0),
        (2, batch, 9),
        (2, batch, 10),
        (10, batch, 9),
        (10, batch, 10),
    ]


def test_delivered_records_are_settled_then_forgotten(tmp_path: Path) -> None:
    spooled(tmp_path, rows=2)
    spooled(tmp_path, rows=3, pane=1)
    ledger = Ledger()
    (result,) = deliver_pending(str(tmp_path), [Stream()], ledger)
    assert (result.delivered, result.pending, result.error) == (5, 0, None)
    assert ledger.delivered == 5 and [done.part.pane for done in result.redelivered] == [0, 1]
    assert [file.row_count for done in result.redelivered for file in done.files] == [2, 3]
    assert files_below(tmp_path, "pending") == [] and len(files_below(tmp_path, "streams")) == 2


def test_a_redelivered_part_has_the_bytes_of_a_delivered_one(tmp_path: Path) -> None:
    stream, rows = Stream(), rows_of("usage", {}, {})
    destination = FilesDestination(FilesOptions(type="files"))
    receipt: Receipt = destination.store(part_of(), rows, stream, f"{tmp_path}/a")
    destination.store(part_of(), rows, Stream(state="paused"), f"{tmp_path}/b")
    (result,) = deliver_pending(f"{tmp_path}/b", [stream], Ledger())
    assert result.redelivered[0].files == receipt.files


@pytest.mark.parametrize("moment", ["before the ledger", "in the ledger", "before the spool"])
def test_killed_between_steps_everything_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    spooled(tmp_path, rows=2)
    ledger = Ledger()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def settle(done: Sequence[Redelivery]) -> None:
        ledger(done) if moment == "in the ledger" else None
        raise KeyboardInterrupt

    monkeypatch.setattr(pending.spool, "discard", killed)
    with pytest.raises(KeyboardInterrupt):
        deliver_pending(str(tmp_path), [Stream()], ledger if moment == "before the spool" else settle)
    monkeypatch.undo()
    (result,) = deliver_pending(str(tmp_path), [Stream()], ledger)
    assert result.delivered == 2 and ledger.delivered == 2
    assert len(files_below(tmp_path, "streams")) == 1 and files_below(tmp_path, "pending") == []


def test_a_stream_at_fault_stops_alone_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("in the way")
    broken = Stream("broken", destination=FilesOptions(type="files", path=f"{tmp_path}/target/x"))
    for pane in range(3):
        spooled(tmp_path, "broken", pane=pane)
        spooled(tmp_path, "archive", pane=pane)
    archive, failed = deliver_pending(str(tmp_path), [broken, Stream()], Ledger())
    assert (archive.delivered, archive.pending, archive.error) == (3, 0, None)
    assert (failed.delivered, failed.pending) == (0, 3)
    assert "Not a directory" in str(failed.error) and failed.remedy
    (tmp_path / "target").unlink()
    (mended,) = deliver_pending(str(tmp_path), [broken, Stream()], Ledger())
    assert (mended.delivered, mended.pending, mended.error) == (3, 0, None)


def test_a_paused_stream_waits_without_an_error(tmp_path: Path) -> None:
    spooled(tmp_path)
    (result,) = deliver_pending(str(tmp_path), [Stream(state="paused")], Ledger())
    assert (result.pending, result.error) == (1, None)


def test_a_stream_that_is_gone_is_reported_and_kept(tmp_path: Path) -> None:
    spooled(tmp_path, "gone")
    (result,) = deliver_pending(str(tmp_path), [Stream()], Ledger())
    assert result.pending == 1 and "gone" in str(result.error) and result.remedy
    assert len(files_below(tmp_path, "pending")) == 1


def test_what_is_not_committed_or_runs_again_is_left_alone(tmp_path: Path) -> None:
    spooled(tmp_path, writer="again")
    spooled(tmp_path, writer="killed")
    spooled(tmp_path, writer="done")
    listed = {
        storage.relative(str(tmp_path), spool.path_of(str(tmp_path), part_of(writer=name)))
        for name in ("again", "done")
    }
    (result,) = deliver_pending(str(tmp_path), [Stream()], Ledger(), except_writer="again", listed=listed)
    assert [done.part.writer for done in result.redelivered] == ["done"]
    assert len(files_below(tmp_path, "pending")) == 2


def test_a_damaged_file_stops_its_stream_with_an_error(tmp_path: Path) -> None:
    spooled(tmp_path)
    (name,) = files_below(tmp_path, "pending")
    (tmp_path / name).write_bytes(b"not arrow")
    (result,) = deliver_pending(str(tmp_path), [Stream()], Ledger())
    assert result.pending == 1 and "no Arrow file" in str(result.error)


def test_a_sweep_takes_the_writers_stale_files(tmp_path: Path) -> None:
    for writer in ("job", "job-2"):
        for pane in (0, 1):
            spooled(tmp_path, writer=writer, pane=pane)
    storage.publish(f"{tmp_path}/pending/archive/0/.tmp-0123456789ab-20211115T20-job-0-2.arrow", b"")
    kept = {spool.path_of(str(tmp_path), part_of(writer="job", pane=1))}
    assert len(spool.sweep(str(tmp_path), "job", kept)) == 2
    assert [(part.writer, part.pane) for part in spool.waiting(str(tmp_path))["archive"]] == [
        ("job", 1),
        ("job-2", 0),
        ("job-2", 1),
    ]


def test_a_few_waiting_rows_take_little_space(tmp_path: Path) -> None:
    stored = spool.put(str(tmp_path), part_of(), rows_of("usage", {}))
    assert stored.bytes < 16_000
