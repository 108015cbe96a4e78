"""A live job over a feed that ends, on Beam's runner of this process: what a kill leaves can be taken up."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from pipelines.job import Job, prepare, write_meta
from schemas.records import FEEDS
from transforms.decode_records import DecodeRecords
from transforms.deliver.courier import Courier
from transforms.elements import Block
from transforms.keep.upkeep import Upkeep
from transforms.keep_books import KeepBooks
from transforms.keep_cells import KeepCells
from transforms.ledger.books import Books
from transforms.ledger.commit import commit
from transforms.ledger.counts import Group
from transforms.ledger.desk import Desk, close_desk, open_desk
from transforms.read.journal import Journal
from transforms.read.raw import RawBlock
from transforms.run import Live, Run

WRITER = "live"
SOURCE = "projects/p/subscriptions/{feed}"
_TIME = 1_790_000_000_000_000

_blocks: dict[int, Block] = {}


class KilledError(Exception):
    """The process dies."""


class MortalBooks(Books):
    """Books whose process dies when so many groups are committed."""

    left: float = float("inf")

    def commit(self, group: Group) -> bool:
        self.left -= 1
        if self.left < 0:
            raise KilledError
        return super().commit(group)


def messages(directory: Path, seed: int, size: int = 200) -> list[tuple[int, list[bytes]]]:
    """The lines of a simulated feed in random order, with the number of their feed, in messages' segments."""
    chance = random.Random(seed)
    found: list[tuple[int, list[bytes]]] = []
    for feed, name in enumerate(FEEDS):
        lines = [
            line for path in sorted((directory / name).rglob("*.ndjson")) for line in path.read_bytes().splitlines()
        ]
        chance.shuffle(lines)
        found += [(feed, lines[start : start + size]) for start in range(0, len(lines), size)]
    chance.shuffle(found)
    return found


class _Take(beam.DoFn):
    def process(self, element: int) -> Iterator[Block]:
        yield _blocks[element]


@dataclass
class Place:
    """Where a live job works, and who works there."""

    job: Job
    run: Run
    books: MortalBooks
    journal: Journal
    courier: Courier
    desk: Desk

    def receive(self, segments: Sequence[tuple[int, list[bytes]]]) -> list[Block]:
        """Keeps segments in the journal."""
        return [block for feed, lines in segments for block in self.journal.append(_raw(feed, lines))]

    def work(self, blocks: Sequence[Block]) -> None:
        """Runs the pipeline over blocks."""
        _blocks.clear()
        _blocks.update((block.plan, block) for block in blocks)
        pipeline = beam.Pipeline(runner=FnApiRunner())
        taken = pipeline | beam.Create(sorted(_blocks)) | beam.ParDo(_Take()).with_output_types(Block)
        decoded = taken | "DecodeRecords" >> DecodeRecords(self.run)
        kept = decoded.slices | "KeepCells" >> KeepCells(self.run, self.job.streams)
        _ = (decoded.entries, decoded.dead, kept) | "KeepBooks" >> KeepBooks(self.run)
        pipeline.run().wait_until_finish()

    def flush(self) -> None:
        """Flushes all cells."""
        upkeep = Upkeep(self.run, self.job.streams, self.desk)
        for cell in self.books.cells_with_kept_rows:
            upkeep.flush(cell)
        upkeep.close()

    def finish(self, seconds: float = 30.0) -> None:
        """Ends as a drain does."""
        self.flush()
        self.courier.stop(seconds)
        commit(self.run, self.job.stream_facts, self.job.streams, self.books.settled().entries)
        self.books.close()
        self.journal.close()
        close_desk(self.run)

    def die(self) -> None:
        """Ends as a kill does: of the log there is what was handed to the disk."""
        self.courier.stop(0)
        directory = Path(self.run.live.directory) / "books"  # type: ignore[union-attr]
        saved = directory.with_name("saved")
        shutil.copytree(directory, saved)
        self.books._log.close()  # it would write what is left in its buffer later
        shutil.rmtree(directory)
        saved.rename(directory)
        self.journal.close()
        close_desk(self.run)


def open_place(output: Path, streams: Path | None, **live: float) -> Place:
    """Takes up a live job that an earlier process left, or begins one."""
    directory = output / ".live" / WRITER
    spill = directory / "spill"
    spill.mkdir(parents=True, exist_ok=True)
    empty = output.parent / "no-records.ndjson"
    empty.touch()
    job = prepare([f"--events={empty}", f"--output={output}", *([f"--streams={streams}"] if streams else [])])
    how = Live((), str(directory), **live)
    run = replace(job.run, writer=WRITER, live=how, spill=str(spill))
    write_meta(run)
    journal = Journal(directory / "journal")
    books = MortalBooks(directory / "books", journal.done)
    courier = Courier(run, job.streams, books, how.max_delay)
    desk = open_desk(run, books, journal)
    courier.resume()
    return Place(job, run, books, journal, courier, desk)


def _raw(feed: int, lines: list[bytes]) -> RawBlock:
    return RawBlock(
        feed, SOURCE.format(feed=FEEDS[feed]), _TIME, "lines", None, lines, np.empty(0, np.int64), 0, []
    )  # fmt: skip
