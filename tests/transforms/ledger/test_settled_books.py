"""What the books give to whoever publishes them: only what is durable, and which files may go then."""

from __future__ import annotations

from pathlib import Path

from transforms.ledger.books import Books
from transforms.ledger.counts import Count, FileEntry, Flushed, Group, Kept, Unlisted

CELL = 42


def kept(segment: int, number: int) -> Group:
    count = Count(stage="cell", feed="events", received=5, delivered=5)
    return Group(("slice", segment, 0, 0), [count, Kept(CELL, number, f"/kept/{number}.arrow", 5)])


def flushed(numbers: list[int], pane: int) -> Group:
    path = f"warehouse/events/part-live-0-{pane}.parquet"
    part = FileEntry("events", None, path, 5 * len(numbers), 1, "xxh3_128:0")
    return Group(("flush", CELL, pane, 0), [Flushed(CELL, numbers), part])


def spooled(name: str) -> FileEntry:
    return FileEntry("pending/hook", None, f"pending/hook/0/{name}", 5, 1, "xxh3_128:0")


def test_files_that_count_no_more_are_given_once(tmp_path: Path) -> None:
    books = Books(tmp_path)
    books.commit(kept(0, 0))
    books.commit(Group(("slice", 0, 0, 1), [spooled("a"), spooled("b")]))
    settled = books.settled()
    assert [one.number for one in settled.kept] == [0]
    assert settled.obsolete == []
    books.commit(flushed([0], 1))
    books.commit(Group(("deliver", 0, 0, 0), [Unlisted("pending/hook/0/a")]))
    settled = books.settled()
    assert settled.obsolete == ["/kept/0.arrow", "pending/hook/0/a"]
    assert settled.kept == []
    paths = [entry.path for entry in settled.entries if isinstance(entry, FileEntry)]
    assert paths == ["pending/hook/0/b", "warehouse/events/part-live-0-1.parquet"]
    assert books.settled().obsolete == []


def test_what_is_published_survives_a_kill(tmp_path: Path) -> None:
    books = Books(tmp_path)
    books.commit(kept(0, 0))
    published = books.settled().entries
    assert Books(tmp_path).entries == published  # the first one was not closed


def test_segments_that_the_journal_has_no_more_are_forgotten(tmp_path: Path) -> None:
    told: list[int] = []
    books = Books(tmp_path, told.append)
    for segment in (0, 1):
        books.commit(Group(("feed", segment, 0, 0), [], 0))
    books.sync()
    books.sync()
    assert told == [0, 1], "each once"
    books.review(lambda: {1})
    assert (books.is_done(0), books.is_done(1)) == (False, True)
