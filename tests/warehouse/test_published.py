"""A directory in which a run works: what it has published is audited, and what is in flight is no difference."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.tables import TABLES
from tests.warehouse.synthetic_output import STREAM, WRITER, relist
from warehouse import published as module
from warehouse.audit import audit
from warehouse.layout import WarehouseError, part_files
from warehouse.published import published
from warehouse.report.facts import read_facts
from warehouse.views import connect


def commit_file(output: Path) -> Path:
    (found,) = (output / "warehouse" / "_commits").glob("*.json")
    return found


def add_in_flight(output: Path, rows: dict[str, dict[int, int]], streams: list[str]) -> None:
    path = commit_file(output)
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "in_flight": {"rows": rows, "streams_with_them": streams}}))


def count_more(output: Path, rows: int, streams: list[str]) -> int:
    """Has the ledger count events that no part holds yet, as a live job does; returns their hour (microseconds)."""
    (part,) = part_files(output, "ledger")
    ledger: list[dict[str, Any]] = pq.read_table(part, partitioning=None).to_pylist()
    hour = next(row["hour"] for row in ledger if row["stage"] == "cell" and row["feed"] == "events")
    for row in ledger:
        if row["feed"] != "events":
            continue
        if row["stage"] == "feed":
            row["received"] += rows
            row["decoded"] += rows
        elif row["stage"] == "cell" and row["hour"] == hour:
            row["received"] += rows
            row["delivered"] += rows
        elif row["stream"] in streams and row["hour"] == hour:
            row["received"] += rows
            row["filtered_out"] += rows
    pq.write_table(pa.Table.from_pylist(ledger, schema=TABLES["ledger"].schema), part)
    relist(output)
    return int(hour.timestamp()) * 1_000_000


@pytest.mark.parametrize("at_once", [True, False])
def test_records_in_flight_are_no_difference(output: Path, at_once: bool) -> None:
    streams = [STREAM] if at_once else []
    hour = count_more(output, 5, streams)
    assert not audit(output).ok
    add_in_flight(output, {"events": {hour: 5}, "usage": {}}, streams)
    result = audit(output)
    assert result.ok, "\n".join(result.lines)
    assert any(line.startswith("note  5 records in flight") for line in result.lines)
    assert re.search(r"\nnote  in flight means at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", "\n".join(result.lines))
    with connect(output) as connection:
        assert read_facts(connection, output).differences == []


def test_a_record_in_flight_that_is_counted_too_often_is_one(output: Path) -> None:
    hour = count_more(output, 5, [])
    add_in_flight(output, {"events": {hour: 4}}, [])
    result = audit(output)
    assert result.first_difference is not None and "14 against" not in result.first_difference
    assert "cell.delivered = stream.received" in result.first_difference


def change_counts(output: Path, stage: str, **changes: int) -> None:
    """Adds to counts of the first row of a stage of events."""
    (part,) = part_files(output, "ledger")
    ledger: list[dict[str, Any]] = pq.read_table(part, partitioning=None).to_pylist()
    row = next(row for row in ledger if row["stage"] == stage and row["feed"] == "events")
    for name, change in changes.items():
        row[name] += change
    pq.write_table(pa.Table.from_pylist(ledger, schema=TABLES["ledger"].schema), part)
    relist(output)


@pytest.mark.parametrize(
    ("stage", "changes", "flying", "note"),
    [
        (
            "feed", {"received": 3, "decoded": 3},
            {"decoded": {"events": 3}}, "3 decoded records on their way to their cells",
        ),
        (
            "feed", {"received": 2, "dead_lettered": 2},
            {"letters": [{"feed": "events", "stream": None, "rows": 2}]}, "2 dead letters in flight",
        ),
        (
            "stream", {"filtered_out": -1, "dead_lettered": 1},
            {"letters": [{"feed": "events", "stream": STREAM, "rows": 1}]}, "1 dead letters in flight",
        ),
        (
            "stream", {"filtered_out": -1, "pending": 1},
            {"pending": {STREAM: 1}}, "1 records wait for their destinations within the live job",
        ),
    ],
)  # fmt: skip
def test_what_is_on_its_way_between_steps_is_no_difference(
    output: Path, stage: str, changes: dict[str, int], flying: dict[str, Any], note: str
) -> None:
    change_counts(output, stage, **changes)
    assert not audit(output).ok
    path = commit_file(output)
    content = json.loads(path.read_bytes())
    rows = {"rows": {"events": {}, "usage": {}}, "streams_with_them": [STREAM]}
    path.write_text(json.dumps({**content, "in_flight": {**rows, **flying}}))
    result = audit(output)
    assert result.ok, "\n".join(result.lines)
    assert any(line.startswith(f"note  {note}") for line in result.lines)


def test_what_no_commit_lists_is_left_out(output: Path) -> None:
    part = part_files(output, "events")[0]
    part.with_name(f"part-{WRITER}-0-99.parquet").write_bytes(part.read_bytes())
    assert not audit(output).ok
    with published(output) as moment:
        assert audit(moment).ok
        kept = moment
    assert not kept.exists()
    assert list((output / ".run").iterdir()) == []


def test_what_is_removed_meanwhile_is_still_there(output: Path) -> None:
    with published(output) as moment:
        for part in part_files(output, "events"):
            part.unlink()
        assert audit(moment).ok
    assert not audit(output).ok


def test_what_is_missing_is_missing_there_as_well(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    part_files(output, "events")[0].unlink()
    with published(output) as moment:
        result = audit(moment)
    assert not result.ok
    assert "is missing" in str(result.first_difference)


def test_a_publication_that_is_under_way_is_waited_for(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ledger,) = part_files(output, "ledger")
    whole = ledger.read_bytes()
    ledger.write_bytes(b"half")  # the new ledger is there, the list of files that means it is not
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        ledger.unlink()
        ledger.write_bytes(whole)

    monkeypatch.setattr(module.time, "sleep", pause)
    with published(output) as moment:
        assert audit(moment).ok
    assert len(pauses) == 1


def test_without_links_it_copies(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links on this file system")

    monkeypatch.setattr(os, "link", refuse)
    with published(output) as moment:
        assert audit(moment).ok


def test_no_output_directory(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError), published(tmp_path):
        pass
