"""What is in flight when the ledger of a job on Dataflow is published, whichever step was faster."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from transforms.ledger.balance import balance, committed
from transforms.ledger.commit import last_in_flight, publish
from transforms.ledger.counts import BuriedLetters, Count, Entry, FileEntry
from transforms.ledger.in_flight import InFlight, LettersInFlight, buried_before, in_flight
from transforms.run import Live, Run

HOUR = 1_800_000_000_000_000


def cell(received: int, hour: int = HOUR) -> Count:
    return Count("cell", "usage", hour=hour, pane=0, received=received, delivered=received)


def stream(pending: int, dead: int = 0) -> Count:
    return Count("stream", "usage", "hook", HOUR, 0, received=pending + dead, pending=pending, dead_lettered=dead)


def file(table: str, rows: int, hour: int | None = HOUR) -> FileEntry:
    return FileEntry(table, hour, f"{table}/{rows}-{hour}", rows, 1, "")


def test_nothing_is_in_flight_where_all_have_counted() -> None:
    entries: list[Entry] = [
        Count("feed", "usage", received=9, decoded=7, dead_lettered=2), cell(7), file("usage", 7), stream(3, 1),
        file("pending/hook", 3), BuriedLetters("usage", None, 2), BuriedLetters("usage", "hook", 1),
    ]  # fmt: skip
    assert not in_flight(entries, [])
    assert not msgspec.to_builtins(in_flight(entries, []))["rows"]["usage"]


@pytest.mark.parametrize("faster", [False, True])
def test_a_step_that_was_faster_is_in_flight_as_well(faster: bool) -> None:
    """The step behind has counted and the one before has not, or the other way round."""
    first: list[Entry] = [Count("feed", "usage", received=9, decoded=7, dead_lettered=2)]
    flying = in_flight(first, [])
    assert flying.decoded == {"usage": 7} and flying.letters == [LettersInFlight("usage", None, 2)]
    behind: list[Entry] = [file("usage", 7), file("pending/hook", 3), BuriedLetters("usage", "hook", 1)]
    counts: list[Entry] = [cell(7), stream(3, 1)]
    sign = -1 if faster else 1
    flying = in_flight(behind if faster else counts, ["hook"])
    assert flying.streams_with_them == ["hook"]
    assert flying.rows == {"events": {}, "usage": {HOUR: 7 * sign}}
    assert flying.pending == {"hook": 3 * sign}
    assert flying.letters == [LettersInFlight("usage", "hook", sign)]


def test_buried_letters_are_summed() -> None:
    entries: list[Entry] = [BuriedLetters("usage", None, 2), BuriedLetters("usage", "hook", 1)] * 2
    assert balance(entries).entries == [BuriedLetters("usage", None, 4), BuriedLetters("usage", "hook", 2)]


@pytest.mark.parametrize("flying", [None, InFlight({}, [], letters=[LettersInFlight("usage", "hook", 2)])])
def test_the_next_job_knows_what_was_buried(tmp_path: Path, flying: InFlight | None) -> None:
    """Of one that was cancelled, letters in flight are lost: they stay so until this one ends, when an audit tells."""
    run = Run(str(tmp_path), "w", spill=None, live=Live((), "/nowhere"))
    assert committed(run) == [] and last_in_flight(run.output, run.writer) is None
    publish(run, [], [], [Count("feed", "usage", received=4, dead_lettered=4), stream(0, 3)], flying)
    assert last_in_flight(run.output, run.writer) == flying
    found = [entry for entry in committed(run) if isinstance(entry, BuriedLetters)]
    hook = 1 if flying else 3
    assert sorted(found, key=lambda one: one.stream or "") == [
        BuriedLetters("usage", None, 4),
        BuriedLetters("usage", "hook", hook),
    ]
    assert in_flight(committed(run), []).letters == (flying.letters if flying else [])


def test_letters_that_were_not_counted_are_none() -> None:
    assert buried_before([cell(3)], None) == []
