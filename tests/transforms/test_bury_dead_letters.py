"""Dead letters on Dataflow: few files, each letter once, whatever is repeated; how many are in parts is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from schemas.tables import DEAD_LETTERS
from tests.transforms.states import Bag, State
from transforms import bury_dead_letters as module
from transforms.bury_dead_letters import _Bury, _Gather
from transforms.dead_letters import DELIVERY, MALFORMED, DeadLetter, dead_letter_batch
from transforms.deliver import storage
from transforms.deliver.parquet import read_parquet
from transforms.gather.claims import Spill
from transforms.gather_by_cell import KeyedBytes
from transforms.keep.letters import FEWEST
from transforms.ledger.counts import BuriedLetters, Entry, FileEntry, Unlisted, decode_group
from transforms.run import Live, Run

SOURCE = "projects/p/subscriptions/s"


class Steps:
    """Both steps, with the state of their keys."""

    def __init__(self, output: Path):
        self.run = Run(str(output), "w", spill=None, live=Live((), "/nowhere", aggregate_every=30.0))
        self.gather, self.bury = _Gather(self.run), _Bury(self.run)
        self.waiting, self.held, self.flush, self.end = Bag(), State(), State(), State()
        self.small = State()
        self._block = 0

    def claim(self, *payloads: bytes, feed: int = 0, stream: str | None = None) -> KeyedBytes:
        """A claim of letters, as a block or a destination gives it."""
        kind, reason = (MALFORMED, "not_json") if stream is None else (DELIVERY, "delivery_rejected")
        letters = [DeadLetter(kind, feed, reason, "no", one, SOURCE, 0, 7, stream=stream) for one in payloads]
        self._block += 1
        with Spill(None, self._block, 0) as spill:
            return 0, spill.deposit(dead_letter_batch(letters, self.run.writer, None))

    def arrive(self, *payloads: bytes) -> list[KeyedBytes]:
        return list(self.gather.process(self.claim(*payloads), self.waiting, self.held, self.flush, self.end))

    def time_passes(self) -> list[KeyedBytes]:
        self.flush.clear()
        return list(self.gather.on_flush(self.waiting, self.held))

    def drained(self) -> list[KeyedBytes]:
        self.end.clear()
        return list(self.gather.on_end(self.waiting, self.held, self.flush))

    def buried(self, elements: Iterable[KeyedBytes]) -> list[Entry]:
        """Writes what was gathered."""
        groups = [group for element in elements for group in self.bury.process(element, self.small)]
        return [entry for group in groups for entry in decode_group(group).entries]

    def letters(self, files: Iterable[FileEntry]) -> Counter[bytes]:
        """What files hold, and that they are as they say."""
        found: Counter[bytes] = Counter()
        for file in files:
            rows = read_parquet(storage.absolute(self.run.output, file.path))
            assert rows.schema.names == DEAD_LETTERS.schema.names and rows.num_rows == file.row_count
            found.update(rows.column("payload").to_pylist())
        return found

    @property
    def stored(self) -> list[str]:
        return sorted(path.name for path in Path(self.run.output).rglob("*.parquet"))


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


def files(entries: Sequence[Entry]) -> list[FileEntry]:
    """The files that count."""
    gone = {entry.path for entry in entries if isinstance(entry, Unlisted)}
    return [entry for entry in entries if isinstance(entry, FileEntry) and entry.path not in gone]


def test_what_comes_within_a_flush_is_one_part(steps: Steps) -> None:
    assert steps.arrive(b"a", b"b") == []
    due = steps.flush.due
    assert steps.arrive(b"c") == [] and steps.flush.due == due  # counted from the first
    entries = steps.buried(steps.time_passes())
    assert steps.letters(files(entries)) == Counter([b"a", b"b", b"c"])
    assert len(files(entries)) == 1
    assert steps.time_passes() == []
    assert steps.arrive(b"d") == [] and steps.flush.due > due


def test_a_drain_does_not_wait(steps: Steps) -> None:
    steps.arrive(b"a")
    assert steps.end.due is not None
    assert len(files(steps.buried(steps.drained()))) == 1
    assert steps.flush.due is None and steps.drained() == []
    steps.arrive(b"b")  # refused by a receiver at the very end
    assert steps.end.due is not None
    assert steps.letters(files(steps.buried(steps.drained()))) == Counter([b"b"])


def test_what_is_enough_for_a_part_does_not_wait(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(steps.claim(b"a")[1])
    monkeypatch.setattr(module, "PART_BYTES", 3 * size)
    gathered = [element for number in range(7) for element in steps.arrive(b"%d" % number)]
    entries = steps.buried(gathered)
    assert [file.row_count for file in files(entries)] == [3, 3]
    entries += steps.buried(steps.time_passes())
    assert steps.letters(files(entries)) == Counter(b"%d" % number for number in range(7))


def test_a_claim_that_the_state_would_not_take_is_a_part_of_its_own(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", len(steps.claim(b"a")[1]) + 1)
    assert steps.arrive(b"a") == []
    (large,) = steps.arrive(bytes(range(256)) * 8)
    assert steps.waiting.items and len(steps.buried([large])) == 2
    assert max(map(len, steps.waiting.items)) < module.PIECE_BYTES


def test_how_many_of_each_feed_and_stream_is_told(steps: Steps) -> None:
    claims = [
        steps.claim(b"a", b"b"), steps.claim(b"c", feed=1), steps.claim(b"d", b"e", feed=1, stream="hook"),
        steps.claim(b"f", feed=1, stream="other"), steps.claim(b"g"),
    ]  # fmt: skip
    for claim in claims:
        assert not list(steps.gather.process(claim, steps.waiting, steps.held, steps.flush, steps.end))
    told = {entry for entry in steps.buried(steps.time_passes()) if isinstance(entry, BuriedLetters)}
    assert told == {
        BuriedLetters("events", None, 3), BuriedLetters("usage", None, 1), BuriedLetters("usage", "hook", 2),
        BuriedLetters("usage", "other", 1),
    }  # fmt: skip


def test_many_small_parts_become_few(steps: Steps) -> None:
    entries: list[Entry] = []
    payloads = [b"%d" % number for number in range(FEWEST**2 + 3)]
    for payload in payloads:
        steps.arrive(payload)
        entries += steps.buried(steps.time_passes())
    left = files(entries)
    assert steps.letters(left) == Counter(payloads)
    assert len(left) <= 4  # instead of 259
    buried = [entry.rows for entry in entries if isinstance(entry, BuriedLetters)]
    assert sum(buried) == len(payloads)  # a letter that is merged is told once


def test_parts_that_are_large_are_not_remembered(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the state would grow for ever."""
    steps.arrive(b"a")
    (part,) = files(steps.buried(steps.time_passes()))
    remembered = len(steps.small.data or b"")
    monkeypatch.setattr(module, "SMALL_BYTES", part.bytes)
    for number in range(3):
        steps.arrive(b"%d" % number * 100)
        steps.buried(steps.time_passes())
    assert len(steps.small.data or b"") < remembered


def test_an_attempt_that_is_repeated_replaces_what_it_wrote(steps: Steps) -> None:
    gathered = []
    for number in range(FEWEST):
        steps.arrive(b"%d" % number)
        gathered += steps.time_passes()
    steps.buried(gathered[:-1])
    small = steps.small.data
    first = steps.buried(gathered[-1:])
    stored = steps.stored
    steps.small.data = small  # the bundle did not come to its end
    assert steps.buried(gathered[-1:]) == first and steps.stored == stored
    assert len(files(first)) == 1 and files(first)[0].row_count == FEWEST


def test_a_part_that_somebody_removed_stops_nothing(steps: Steps, caplog: pytest.LogCaptureFixture) -> None:
    entries: list[Entry] = []
    for number in range(FEWEST + 2):
        steps.arrive(b"%d" % number)
        entries += steps.buried(steps.time_passes())
        if number == 3:
            Path(storage.absolute(steps.run.output, files(entries)[0].path)).unlink()
    assert len(files(entries)) == FEWEST + 2  # they count as they are: the audit names the one that is missing
    assert "stay as they are" in caplog.text and caplog.text.count("WARNING") == 1
