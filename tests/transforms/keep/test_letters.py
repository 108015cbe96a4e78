"""Small parts of dead letters are merged: the same letters, once, in few files, whatever is killed in between."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from schemas.tables import DEAD_LETTERS
from tests.transforms.keep.slices import run_in
from transforms.dead_letters import MALFORMED, DeadLetter, dead_letter_batch
from transforms.deliver import storage
from transforms.deliver.parquet import read_parquet
from transforms.deliver.warehouse import write_table_part
from transforms.keep import letters as module
from transforms.keep.letters import FEWEST, merge_dead_letters
from transforms.ledger.books import Books
from transforms.ledger.counts import FileEntry, Group
from transforms.run import Run

SOURCE = "projects/p/subscriptions/s"


class Letters:
    """The books of a live job, and the dead letters that it has put into parts."""

    def __init__(self, directory: Path):
        self.run: Run = run_in(directory)
        self.books = Books(directory / "books")
        self.payloads: list[bytes] = []
        self._segment = 0

    def bury(self, *payloads: bytes) -> None:
        """Writes letters as a part, and commits it, as a bundle does."""
        letters = [DeadLetter(MALFORMED, 0, "not_json", "no", one, SOURCE, 0, 7) for one in payloads]
        rows = dead_letter_batch(letters, self.run.writer, None)
        stored = write_table_part(self.run.output, DEAD_LETTERS.name, None, 0, self.run.writer, self._segment, rows)
        entry = FileEntry(DEAD_LETTERS.name, None, stored.path, rows.num_rows, stored.bytes, stored.checksum)
        self.books.commit(Group(("feed", self._segment, 0, 0), [], 1))
        self.books.commit(Group(("dead", self._segment, 0, 0), [entry]))
        self.books.sync()
        self._segment += 1
        self.payloads += payloads

    def bury_many(self, parts: int) -> None:
        for number in range(parts):
            self.bury(*(b"%d-%d" % (self._segment, place) for place in range(1 + number % 5)))

    @property
    def parts(self) -> list[FileEntry]:
        return [file for file in self.books.files if file.table_or_stream == DEAD_LETTERS.name]

    def assert_whole(self) -> None:
        """What the books list holds each letter once, and the files are as they say."""
        found: Counter[bytes] = Counter()
        for part in self.parts:
            path = storage.absolute(self.run.output, part.path)
            rows = read_parquet(path)
            assert rows.schema.names == DEAD_LETTERS.schema.names
            assert (rows.num_rows, *storage.measure(path)) == (part.row_count, part.bytes, part.checksum)
            found.update(rows.column("payload").to_pylist())
        assert found == Counter(self.payloads)


@pytest.fixture
def letters(tmp_path: Path) -> Letters:
    return Letters(tmp_path)


def test_many_small_parts_become_one(letters: Letters) -> None:
    letters.bury_many(40)
    old = {part.path for part in letters.parts}
    assert merge_dead_letters(letters.run, letters.books) == 40
    (merged,) = letters.parts
    assert merged.row_count == len(letters.payloads)
    letters.assert_whole()
    # They go once a ledger is published that does not list them.
    assert set(letters.books.settled().obsolete) == old
    assert merge_dead_letters(letters.run, letters.books) == 0


def test_a_few_stay_as_they_are(letters: Letters) -> None:
    letters.bury_many(FEWEST - 1)
    assert merge_dead_letters(letters.run, letters.books) == 0
    assert len(letters.parts) == FEWEST - 1


def test_over_days_there_are_few_files_and_each_letter_is_written_again_a_few_times(
    letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def write(*arguments: object) -> object:
        nonlocal written
        written += arguments[-1].num_rows  # type: ignore[attr-defined]
        return write_table_part(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_table_part", write)
    for _ in range(60):
        letters.bury_many(10)
        merge_dead_letters(letters.run, letters.books)
        assert len(letters.parts) < 3 * FEWEST
    letters.assert_whole()
    assert written <= 3 * len(letters.payloads)


def test_large_parts_stay_and_memory_is_limited(letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
    letters.bury(bytes(range(256)) * 10)
    large = letters.parts[0]
    monkeypatch.setattr(module, "SMALL_BYTES", large.bytes)
    monkeypatch.setattr(module, "HELD_BYTES", 3_000)
    letters.bury_many(64)
    merge_dead_letters(letters.run, letters.books)
    assert large in letters.parts
    assert FEWEST < len(letters.parts) < 64
    letters.assert_whole()
    monkeypatch.setattr(module, "HELD_BYTES", 0)  # each part alone is too much
    letters.bury_many(FEWEST)
    count = len(letters.parts)
    assert merge_dead_letters(letters.run, letters.books) == 0
    assert len(letters.parts) == count


@pytest.mark.parametrize("committed", [False, True])
def test_killed_in_between_either_the_old_parts_count_or_the_new_one(
    letters: Letters, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, committed: bool
) -> None:
    letters.bury_many(20)
    letters.books.settled()

    class KilledError(Exception):
        pass

    def killed(group: Group) -> bool:
        if committed:
            Books.commit(letters.books, group)
            letters.books.sync()
        raise KilledError

    monkeypatch.setattr(letters.books, "commit", killed)
    with pytest.raises(KilledError):
        merge_dead_letters(letters.run, letters.books)
    letters.books = Books(tmp_path / "books")
    letters.assert_whole()
    assert len(letters.parts) == (1 if committed else 20)
    merge_dead_letters(letters.run, letters.books)
    letters.assert_whole()


def test_it_ends_between_two_merges_where_the_job_is_to_stop(letters: Letters) -> None:
    letters.bury_many(FEWEST)
    assert merge_dead_letters(letters.run, letters.books, lambda: False) == 0
