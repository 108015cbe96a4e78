"""A shard of a live job whose workers share no disk: when it is due, and what it makes of small parts."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.streams import Batch, Stream
from tests.transforms.deliver.push.scripted import usage
from tests.transforms.deliver.shelf import Shelf
from tests.transforms.deliver.support import HOUR
from tests.transforms.states import Bag, State
from transforms import send_streams as module
from transforms.deliver import spool
from transforms.deliver.consignments import Consignment, encode, of_spooled
from transforms.deliver.destination import Waits
from transforms.deliver.parts import Part
from transforms.deliver.s3 import S3Destination, S3Options
from transforms.deliver.webhook import WebhookOptions
from transforms.gather.claims import Spill
from transforms.ledger.counts import Count, Entry, FileEntry, Unlisted, decode_group
from transforms.run import Live, Run

WRITER = "live"
WEBHOOK = WebhookOptions.model_validate({"type": "webhook", "url": "https://receiver.example/hook"})
ARCHIVE = S3Options(bucket="acme-iot", rotate_interval=600, flush_size=10_000)
MAX_DELAY = 30.0


def due_after(output: Path, stream: Stream, *counts: int) -> float:
    """Seconds until the timer that stands after parts of so many rows have come."""
    live = Live((), "/nowhere", max_delay=MAX_DELAY)
    send = module._Send(Run(str(output), "live", live=live), [stream])
    waiting, (state, due, end) = Bag(), (State() for _ in range(3))
    for pane, count in enumerate(counts):
        claim = Spill(None, 0, 0).deposit(usage([1]))
        one = Consignment(stream.name, "usage", HOUR, 0, pane, 0, 0, count, claim)
        send.process((1, encode(one)), waiting, state, due, end)
    assert len(waiting.items) == len(counts)
    return float(due.due) - time.time()


@pytest.mark.parametrize(
    ("destination", "batch", "counts", "seconds"),
    [
        (WEBHOOK, Batch(), [1], MAX_DELAY),
        (WEBHOOK, Batch(seconds=90), [1], 90),
        (WEBHOOK, Batch(seconds=0.5), [1, 1], 0.5),
        (WEBHOOK, Batch(seconds=90, size=5), [4, 1], 0),
        (WEBHOOK, Batch(seconds=90), [module.FULL], 0),
        (ARCHIVE, Batch(), [1, 9_998], 600),
        (ARCHIVE, Batch(), [1, 9_999], 0),
    ],
)
def test_a_shard_waits_as_long_as_its_stream_says(
    tmp_path: Path, destination: Any, batch: Batch, counts: list[int], seconds: float
) -> None:
    stream = Stream(name="archive", content="usage", destination=destination, batch=batch)
    assert due_after(tmp_path, stream, *counts) == pytest.approx(seconds, abs=0.4)


class Archive:
    """The key of an archive's only lane, and parts that come to it."""

    def __init__(self, output: Path, **options: Any):
        given = {"bucket": "acme-iot", "shards": 1, "rotate_interval": 600, "retry": {"attempts": 1}, **options}
        self.stream = Stream(name="archive", content="usage", destination=S3Options.model_validate(given))
        self.run = Run(str(output), WRITER, live=Live((), "/nowhere", max_delay=MAX_DELAY))
        self.send = module._Send(self.run, [self.stream])
        self.send.setup()
        self.states: list[Any] = [Bag(), State(), State()]
        self.pane = self.came = 0
        self.entries: list[Entry] = []

    def arrive(self, *ids: Sequence[int], hour: int = HOUR) -> Archive:
        """Parts come, each with rows of these ids."""
        for one in ids:
            self.pane, self.came = self.pane + 1, self.came + len(one)
            part = Part("archive", "usage", hour, 0, WRITER, self.pane)
            stored = spool.put(self.run.output, part, usage(one))
            entry = FileEntry("pending/archive", hour, stored.path, len(one), stored.bytes, stored.checksum)
            self.entries.append(entry)
            consignment = of_spooled(entry, self.run.output)
            assert consignment is not None
            self.send.process((1, encode(consignment)), *self.states, State())
        return self

    def due(self) -> Archive:
        """The timer fires, and its bundle is committed."""
        self._note(self.send.on_due(*self.states))
        return self

    def lost(self) -> Archive:
        """The timer fires, and the bundle is lost after its last step: it will be repeated."""
        states = copy.deepcopy(self.states)
        list(self.send.on_due(*states))
        return self

    def drained(self) -> None:
        self._note(self.send.on_end(*self.states))

    def _note(self, output: Iterable[object]) -> None:
        for group in output:
            assert isinstance(group, bytes)
            self.entries += decode_group(group).entries

    @property
    def seconds(self) -> float:
        """Until the timer fires."""
        return float(self.states[2].due) - time.time()

    def listed(self) -> list[FileEntry]:
        """The files that count."""
        gone = {entry.path for entry in self.entries if isinstance(entry, Unlisted)}
        return [entry for entry in self.entries if isinstance(entry, FileEntry) and entry.path not in gone]

    def balanced(self, delivered: int) -> None:
        """So many records are delivered, each in a file that is listed, and the others wait in one."""
        rows = {"streams": 0, "pending": 0}
        for file in self.listed():
            rows[file.table_or_stream.split("/")[0]] += file.row_count
        assert rows == {"streams": delivered, "pending": self.came - delivered}
        counts = [entry for entry in self.entries if isinstance(entry, Count)]
        assert sum(count.delivered for count in counts) == -sum(count.pending for count in counts) == delivered


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    one = Shelf()
    monkeypatch.setattr(S3Destination, "connect", lambda destination: one)
    return one


def test_what_waits_for_an_archive_is_one_file_for_each_hour(shelf: Shelf, tmp_path: Path) -> None:
    archive = Archive(tmp_path).arrive([1, 2], [3]).arrive([9], hour=HOUR + 3_600_000_000).arrive([4, 5])
    assert archive.seconds == pytest.approx(600, abs=5)
    archive.due()
    assert shelf.puts == [] and archive.seconds <= 0
    archive.due().balanced(6)
    assert shelf.named() == {"20/part-live-0-1.ndjson.gz": [1, 2, 3, 4, 5], "21/part-live-0-3.ndjson.gz": [9]}
    assert len(shelf.puts) == 2 and archive.states[0].items == []


def test_a_full_file_goes_and_what_does_not_fit_waits_for_the_interval(shelf: Shelf, tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.send._waits["archive"] = Waits(600, 4)
    archive.arrive([1, 2], [3])
    assert archive.seconds > 590
    archive.arrive([4, 5])
    assert archive.seconds <= 0
    archive.due().due().balanced(3)
    assert list(shelf.named().values()) == [[1, 2, 3]] and archive.seconds == pytest.approx(600, abs=5)
    archive.drained()
    archive.balanced(5)
    assert list(shelf.named().values()) == [[1, 2, 3], [4, 5]]


def test_a_prefix_with_the_pane_keeps_parts_apart(shelf: Shelf, tmp_path: Path) -> None:
    archive = Archive(tmp_path, prefix="{stream}/{pane}").arrive([1], [2]).due().due()
    archive.balanced(2)
    assert list(shelf.objects.values()) == [[1], [2]]


def test_a_bundle_that_is_repeated_over_more_doubles_nothing(shelf: Shelf, tmp_path: Path) -> None:
    archive = Archive(tmp_path).arrive([1, 2], [3]).lost().arrive([4]).due()
    archive.arrive([5]).lost().arrive([6]).due()
    archive.balanced(4)
    assert list(shelf.named().values()) == [[1, 2, 3, 4]] and len(shelf.puts) == 2
    archive.due().due().balanced(6)
    assert sorted(itertools.chain.from_iterable(shelf.named().values())) == [1, 2, 3, 4, 5, 6]


def test_a_file_that_was_tried_gets_no_more_rows(shelf: Shelf, tmp_path: Path) -> None:
    archive = Archive(tmp_path).arrive([1, 2], [3]).due()
    shelf.forgets = True
    archive.due().balanced(0)
    assert 0 < archive.seconds <= 60
    shelf.forgets = False
    archive.arrive([4]).due().balanced(3)
    assert list(shelf.named().values()) == [[1, 2, 3]]
    archive.due().due().balanced(4)
    assert list(shelf.named().values()) == [[1, 2, 3], [4]]


def test_a_job_after_a_drain_sends_what_was_joined_as_it_is(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.refuses = True
    archive = Archive(tmp_path).arrive([1, 2], [3]).due().due()
    archive.drained()
    archive.balanced(0)
    left = archive.listed()
    monkeypatch.setattr(module, "listed_files", lambda output, writer: left)
    shelf.refuses, after = False, Archive(tmp_path)
    after.pane = archive.pane
    after.arrive([4]).due()
    assert list(shelf.named().values()) == [[1, 2, 3]]
    after.drained()
    assert list(shelf.named().values()) == [[1, 2, 3], [4]] and after.states[0].items == []
