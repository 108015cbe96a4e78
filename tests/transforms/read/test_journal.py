from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from transforms.dead_letters import MALFORMED, DeadLetter
from transforms.elements import Block
from transforms.read.journal import ITEM_BITS, Journal, JournalError
from transforms.read.raw import RawBlock

SOURCE = "projects/p/subscriptions/s"

ENTRIES = {
    1: (
        "0107000000210100006d0100000cd33c4b28b52ffd606d00bd080056923f2f50c5b40d34caebecd758d834b2a0286030ddd509206982c8"
        "ae856d37c9a5f23233659b32a15663431cedafc2184d523300320033001b8170a05030b00138c267effc48787189cb099fc276bc915c42"
        "25fe0e4f66d30fe81ba518c7fca86d6ea2242b886c11a52c02ed5502d3d3c895a5cbecee2edd35b8fcd9df9bd60473553040441c8c5010"
        "5c191ef961a536bbc650e52c615479248cad9f158c9d96a65f16129c7f6a20976b339a1ab55e7234f869ee1cad971c4621e5d990d31b77"
        "e538f67c518b1627a1047581e11f4901f5c1a1a1411e9529d059478d8dfbbdaa0e32d7d3e1b654a6d3b39eddcc51a16f94c9e9130b2460"
        "e90260fc53c3117c01070031c570f059311b7f1b1b5e568ded4366b2220068"
    ),
    2: (
        "0207000000360100006d010000aa171c4500020000000500000000000000feffffffffffffff28b52ffd606d00bd080056923f2f50c5"
        "b40d34caebecd758d834b2a0286030ddd509206982c8ae856d37c9a5f23233659b32a15663431cedafc2184d523300320033001b8170"
        "a05030b00138c267effc48787189cb099fc276bc915c4225fe0e4f66d30fe81ba518c7fca86d6ea2242b886c11a52c02ed5502d3d3c8"
        "95a5cbecee2edd35b8fcd9df9bd60473553040441c8c50105c191ef961a536bbc650e52c615479248cad9f158c9d96a65f16129c7f6a"
        "20976b339a1ab55e7234f869ee1cad971c4621e5d990d31b77e538f67c518b1627a1047581e11f4901f5c1a1a1411e9529d059478d8d"
        "fbbdaa0e32d7d3e1b654a6d3b39eddcc51a16f94c9e9130b2460e90260fc53c3117c01070031c570f059311b7f1b1b5e568ded4366b2"
        "220068"
    ),
}
"""A file with one segment, as each version writes it."""


def raw(*items: bytes, faults: int = 0, feed: int = 0) -> RawBlock:
    letters = [
        DeadLetter(MALFORMED, feed, "gzip_cut", "cut", f"bytes {number}".encode(), SOURCE, 0, 7)
        for number in range(faults)
    ]
    return RawBlock(feed, SOURCE, 1_700_000_000_000_000, "lines", None, list(items), np.empty(0, np.int64), 3, letters)


def only(blocks: Iterator[Block]) -> Block:
    (block,) = blocks
    return block


def seen(block: Block) -> tuple[object, ...]:
    """All that a block holds, to be compared."""
    one = block.raw
    fields = (one.feed, one.path, one.ingest_time, one.framing, one.header, one.items, one.offsets.tolist())
    return (block.plan, block.number, *fields, one.empty, one.faults)


def replayed(directory: Path) -> list[tuple[object, ...]]:
    journal = Journal(directory)
    blocks = list(map(seen, journal.replay()))
    journal.close()
    return blocks


def only_file(directory: Path) -> Path:
    (path,) = [path for path in directory.iterdir() if path.stat().st_size]
    return path


def test_what_was_appended_comes_again_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first = only(journal.append(raw(b'{"id":1}', b"not json", faults=2)))
    second = only(journal.append(raw(b"", feed=1)))
    journal.close()
    assert (first.plan, first.number, second.plan, second.number) == (0, 0, 1, 0)
    assert replayed(tmp_path) == [seen(first), seen(second)]
    assert replayed(tmp_path) == [seen(first), seen(second)]  # as long as they are not done


def test_no_two_items_or_faults_have_the_same_offset(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    raws = [only(journal.append(raw(b"a", b"b", faults=2))).raw for _ in range(3)]
    offsets = [offset for one in raws for offset in [*one.offsets, *(fault.byte_offset for fault in one.faults)]]
    assert offsets == [(segment << ITEM_BITS) + place for segment in range(3) for place in range(4)]


def test_a_journal_replays_once_and_not_what_is_new(tmp_path: Path) -> None:
    old = Journal(tmp_path)
    old.append(raw(b"old"))
    old.close()
    journal = Journal(tmp_path)
    journal.append(raw(b"new"))
    assert [block.raw.items for block in journal.replay()] == [[b"old"]]
    assert list(journal.replay()) == []


def test_what_is_done_is_not_replayed_and_said_again_does_nothing(tmp_path: Path) -> None:
    old = Journal(tmp_path)
    for number in range(4):
        old.append(raw(b"%d" % number))
    old.close()
    journal = Journal(tmp_path)
    journal.done(1)
    journal.done(1)
    journal.done(99)
    replay = journal.replay()
    assert next(replay).plan == 0
    journal.done(2)  # while it is under way
    assert [block.plan for block in replay] == [3]
    assert journal.unfinished[0] == 2
    assert journal.alive() == {0, 1, 2, 3}  # they lie in the file, so the next start finds all of them


def test_files_go_when_all_their_segments_are_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path, file_bytes=1)
    for number in range(5):
        journal.append(raw(b"%d" % number))
    assert len(list(tmp_path.iterdir())) == 5
    journal.done(1)
    journal.done(3)
    journal.done(4)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["done-0000000001", "done-0000000003", *(f"segments-000000000{number}" for number in (0, 2, 4))]
    assert journal.alive() == {0, 2, 4}  # the last file is the one that is written
    journal.close()
    journal = Journal(tmp_path)
    assert [block.plan for block in journal.replay()] == [0, 2, 4]
    for segment in (0, 2, 4):
        journal.done(segment)
    assert journal.alive() == set()
    assert journal.unfinished == (0, 0)


def test_numbers_rise_though_nothing_is_left(tmp_path: Path) -> None:
    numbers = []
    for _ in range(4):
        journal = Journal(tmp_path)
        for segment in journal.alive():
            journal.done(segment)
        numbers += [only(journal.append(raw(b"x"))).plan for _ in range(2)]
        for segment in numbers:
            journal.done(segment)
        journal.close()
        Journal(tmp_path).close()  # a start that appends nothing
    assert numbers == list(range(8))


@pytest.mark.parametrize("segments", [1, 3])
def test_an_entry_that_was_cut_anywhere_is_left_out(tmp_path: Path, segments: int) -> None:
    whole = tmp_path / "whole"
    journal = Journal(whole)
    blocks = [seen(only(journal.append(raw(b'{"id":%d}' % number, faults=1)))) for number in range(segments)]
    before = only_file(whole).stat().st_size
    last = seen(only(journal.append(raw(b"the last", b"one"))))
    journal.close()
    data = only_file(whole).read_bytes()
    for size in range(before, len(data)):
        directory = tmp_path / str(size)
        directory.mkdir()
        path = directory / only_file(whole).name
        path.write_bytes(data[:size])
        assert replayed(directory) == blocks
        assert path.stat().st_size == before
        if size % 16:
            continue
        # Its number is free: none of its messages was acknowledged.
        again = Journal(directory)
        assert only(again.append(raw(b"again"))).plan == segments
        again.close()
        assert [block[0] for block in replayed(directory)] == list(range(segments + 1))
    assert replayed(whole) == [*blocks, last]


@pytest.mark.parametrize("tail", [b"\0" * 100, b"\xff" * 100, b"\1" + b"\0" * 16])
def test_what_a_crash_of_the_machine_leaves_at_the_end_is_left_out(tmp_path: Path, tail: bytes) -> None:
    journal = Journal(tmp_path)
    block = seen(only(journal.append(raw(b"one"))))
    journal.close()
    with only_file(tmp_path).open("ab") as file:
        file.write(tail)
    assert replayed(tmp_path) == [block]


def test_damage_in_an_older_file_is_not_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(raw(b"one"))
    damaged = only_file(tmp_path)
    journal.close()
    Journal(tmp_path).close()  # begins a newer file
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(JournalError, match=f"{damaged.name}: is damaged at byte 0 of .* Restore"):
        Journal(tmp_path)


def test_an_entry_of_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.read.journal._VERSION", 3)
    journal = Journal(tmp_path)
    journal.append(raw(b"one"))
    journal.close()
    monkeypatch.undo()
    with pytest.raises(JournalError, match="version 3.* newer"):
        Journal(tmp_path)


@pytest.mark.parametrize("version", ENTRIES)
def test_entries_of_today_can_be_read_for_ever(tmp_path: Path, version: int) -> None:
    """Bytes as a version writes them: whoever changes the format has to raise the version, and read all."""
    (tmp_path / "segments-0000000007").write_bytes(bytes.fromhex(ENTRIES[version]))
    journal = Journal(tmp_path)
    (block,) = journal.replay()
    assert journal.unknown(keys(5, 7, 2**64 - 2)) == ([1] if version > 1 else [0, 1, 2])
    assert seen(block) == seen(Block(7, 0, block.raw))
    assert (block.raw.feed, block.raw.path, block.raw.items) == (1, SOURCE, [b'{"id":1}', b"x"])
    assert (block.raw.ingest_time, block.raw.empty) == (1_700_000_000_000_000, 3)
    assert block.raw.offsets.tolist() == [7 << ITEM_BITS, (7 << ITEM_BITS) + 1]
    assert [(fault.reason, fault.payload) for fault in block.raw.faults] == [("gzip_cut", b"bytes 0")]


def keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def test_a_message_that_is_kept_is_known_after_each_start_and_done_or_not(tmp_path: Path) -> None:
    journal = Journal(tmp_path, file_bytes=1)
    journal.append(raw(b"a", b"b"), keys(1, 2**64 - 1))
    journal.append(raw(b"c"), keys(3))
    for _ in range(3):
        assert journal.unknown(keys(5, 1, 4, 5, 2**64 - 1, 3)) == [0, 2]
        journal.done(0)  # the only one of its file
        assert journal.unknown(keys(1, 2, 2)) == [1]
        journal.close()
        journal = Journal(tmp_path, file_bytes=1)
        assert journal.alive() - {1} == set()
    assert [block.plan for block in journal.replay()] == [1]


def test_what_is_done_is_known_for_so_many_bytes(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    only(Journal(tmp_path / "one").append(raw(b"x"), keys(0)))
    size = only_file(tmp_path / "one").stat().st_size  # that of others, but for some bytes
    directory = tmp_path / "many"
    journal = Journal(directory, file_bytes=1, known_bytes=2 * size - 50)
    for number in range(6):
        journal.done(only(journal.append(raw(b"x"), keys(number))).plan)
    assert journal.unknown(keys(*range(6))) == [0, 1, 2, 3]  # known: the file that is written, and one behind it
    assert sorted(path.name for path in directory.iterdir()) == ["done-0000000004", "segments-0000000005"]
    journal.close()
    # A start that appends nothing forgets nothing: however many of them there are.
    for _ in range(3):
        Journal(directory, file_bytes=1, known_bytes=2 * size - 50).close()
    journal = Journal(directory, file_bytes=1, known_bytes=2 * size - 50)
    assert journal.unknown(keys(*range(7))) == [0, 1, 2, 3, 6]


def test_a_message_of_several_blocks_is_kept_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    journal = Journal(whole, file_bytes=1)
    (before,) = map(seen, journal.append(raw(b"before"), keys(1)))
    handed: list[tuple[object, ...]] = []
    for number, ended in enumerate([keys(3), keys(), keys()]):
        handed += map(seen, journal.append(raw(b"%d" % number), ended, is_cut=True))
    assert handed == []
    handed += map(seen, journal.append(raw(b"the end"), keys(2)))
    assert [block[0] for block in handed] == [1, 2, 3, 4]
    assert [block[7] for block in handed] == [[b"0"], [b"1"], [b"2"], [b"the end"]]
    journal.close()
    assert replayed(whole) == [before, *handed]
    (path,) = [path for path in whole.iterdir() if path.name.endswith("1")]  # all of them are in one file
    data = path.read_bytes()
    assert Journal(whole).unknown(keys(1, 2, 3)) == []
    for size in {*range(0, len(data), 7), len(data) - 1}:
        directory = tmp_path / str(size)
        directory.mkdir()
        (directory / path.name).write_bytes(data[:size])
        again = Journal(directory)
        assert list(again.replay()) == []
        assert again.unknown(keys(2, 3)) == [0, 1]
        again.close()


def test_a_disk_that_is_full_ends_it_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    block = seen(only(journal.append(raw(b"one"))))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(JournalError, match="No space left on device.*Make room"):
        journal.append(raw(b"two"))
    monkeypatch.undo()
    with pytest.raises(JournalError, match="could not be written before"):
        journal.append(raw(b"three"))
    assert replayed(tmp_path)[0] == block


def _append_until_killed(directory: Path, pipe: int, attempt: int) -> None:
    journal = Journal(directory, file_bytes=20_000)
    os.write(pipe, b"replayed %s\n" % b" ".join(b"%d" % block.plan for block in journal.replay()))
    number = -1
    while True:
        items = [b"%d" % place for place in range((number + 1) % 97)]
        number = only(journal.append(raw(*items), keys(attempt << 32 | number + 1))).plan
        os.write(pipe, b"%d\n" % number)
        if number % 3 == 0:
            journal.done(number)


def test_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    told: set[int] = set()
    messages: set[int] = set()
    for attempt in range(8):
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            try:
                _append_until_killed(tmp_path, write_end, attempt)
            finally:
                os._exit(1)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            head = pipe.readline().split()
            first = pipe.readline()
            time.sleep(0.02 + 0.011 * attempt)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            numbers = [int(line) for line in [first, *pipe]]
        # What is done may be gone with its file; nothing else may.
        assert {number for number in told if number % 3} <= set(map(int, head[1:]))
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert not told or numbers[0] > max(told)
        told |= set(numbers)
        messages |= {attempt << 32 | number for number in [0, *(number + 1 for number in numbers[:-1])]}
    found = {block.plan: block for block in Journal(tmp_path).replay()}
    assert {number for number in told if number % 3} <= set(found)
    # Done or not, its messages are known.
    assert Journal(tmp_path).unknown(keys(*messages)) == []
    for block in found.values():
        assert block.raw.items == [b"%d" % place for place in range(len(block.raw.items))]
    assert len(told) > 16
