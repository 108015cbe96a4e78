"""Committed ids: of other writers, of the cell, of commits that were completed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from schemas.tables import EVENTS
from transforms.deduplicate.committed import CommittedIds
from transforms.deliver.warehouse import write_table_part
from transforms.gather.cells import Cell
from transforms.ledger.commit import COMMITS, commit_files
from transforms.ledger.counts import FileEntry
from transforms.run import Run

HOUR = 1_790_002_800_000_000


def committed(output: Path, writer: str, ids: list[int], hour: int = HOUR, bucket: int = 0) -> None:
    """A writer's commit of events with these ids."""
    rows = pa.RecordBatch.from_pylist([{"event_id": number} for number in ids], schema=EVENTS.schema)
    stored = write_table_part(str(output), "events", hour, bucket, writer, 0, rows)
    entry = FileEntry("events", hour, stored.path, len(ids), stored.bytes, stored.checksum)
    commit_files(Run(str(output), writer), [entry])


def test_ids_of_other_writers_in_the_cell(tmp_path: Path) -> None:
    committed(tmp_path, "a", [3, 1])
    committed(tmp_path, "b", [2])
    committed(tmp_path, "c", [9], hour=HOUR + 3_600_000_000)
    committed(tmp_path, "d", [8], bucket=1)
    committed(tmp_path, "own", [7])
    ids = CommittedIds(str(tmp_path), "own")
    assert ids.of_cell(Cell(0, HOUR, 0)).tolist() == [1, 2, 3]
    assert ids.of_cell(Cell(0, HOUR, 1)).tolist() == [8]
    assert ids.of_cell(Cell(1, HOUR, 0)).tolist() == []


def test_a_commit_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    committed(tmp_path, "a", [1])
    (tmp_path / COMMITS / "a.json").unlink()
    assert CommittedIds(str(tmp_path), "own").of_cell(Cell(0, HOUR, 0)).tolist() == []


def test_a_new_directory_has_none(tmp_path: Path) -> None:
    assert CommittedIds(str(tmp_path / "none"), "own").of_cell(Cell(0, HOUR, 0)).tolist() == []
