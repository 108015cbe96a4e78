"""The courier of a live job: delivers what waits in the spool, in the order in which it was committed.

Each shard of a stream has a thread, so that no receiver holds up another, nor the steps of the pipeline. A destination
that fails is tried again after a pause that grows; what waits for it stays first, and in order. What was delivered is
committed to the books before it is forgotten: a kill in between sends it again under the same ids. Files of the spool
stay until the ledger is published without them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from schemas.records import FEEDS
from schemas.tables import DEAD_LETTERS, DEVICE_USAGE_HOURLY, TABLES, USAGE
from transforms.dead_letters import dead_letter_batch
from transforms.deliver import spool, storage
from transforms.deliver.destination import Outcome, StreamDefinition
from transforms.deliver.failures import Failure
from transforms.deliver.lanes import Destinations
from transforms.deliver.parts import Part
from transforms.deliver.selection import Selection
from transforms.deliver.warehouse import write_table_part
from transforms.ledger.books import Books
from transforms.ledger.counts import Count, Entry, FileEntry, Group, Unlisted
from transforms.run import Run

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a failed destination is tried again: doubled each time, up to a minute."""

_PARTS_AT_ONCE = 256
"""Parts that are taken for one delivery: their rows fill several batches."""

_DEAD_PART = 1 << 40
"""Numbers from which on the courier names its parts of the dead-letter table: those of the feed lie below."""


@dataclass(slots=True)
class Waiting:
    """What waits for a shard of a stream.

    Attributes:
      parts: the spool's parts in order, each with when it came (monotonic) and its rows.
      failure: why the last delivery failed; None where it did not.
      attempts: how many failed one after another.
      delivered: records that were delivered by this process.
      oldest_ms: age of the oldest record at its delivery, of the last delivery.
    """

    parts: deque[tuple[Part, float, int]]
    failure: Failure | None = None
    attempts: int = 0
    delivered: int = 0
    again: float = 0.0


class Courier:
    """Delivers from the spool until it is stopped.

    Args:
      run: the run.
      streams: the stream definitions; those that are paused keep what waits for them.
      books: where deliveries are committed.
      max_delay: most seconds that a record waits for its batch to fill.
    """

    def __init__(self, run: Run, streams: Sequence[StreamDefinition], books: Books, max_delay: float):
        self._run, self._books, self._max_delay = run, books, max_delay
        self._streams: Mapping[str, StreamDefinition] = {stream.name: stream for stream in streams}
        self._destinations = Destinations(self._streams)
        self._lanes: dict[tuple[str, int], Waiting] = {}
        self._threads: dict[tuple[str, int], threading.Thread] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._dead_parts = _DEAD_PART
        books.on_files(self.take)

    def take(self, files: Sequence[FileEntry]) -> None:
        """Takes files that were committed; those of the spool are delivered."""
        now = time.monotonic()
        with self._changed:
            for file in files:
                part = spool.part_of(storage.absolute(self._run.output, file.path), self._run.output)
                if part is None or part.stream not in self._streams:
                    continue
                lane = (part.stream, part.shard)
                if lane not in self._lanes:
                    self._lanes[lane] = Waiting(deque())
                self._lanes[lane].parts.append((part, now, file.row_count))
                if lane not in self._threads and not self._stopping:
                    thread = threading.Thread(target=self._serve, args=(lane,), name=f"deliver {lane}", daemon=True)
                    self._threads[lane] = thread
                    thread.start()
            self._changed.notify_all()

    def resume(self) -> None:
        """Takes what the books list of earlier processes, in order of hour and number."""
        waiting = [file for file in self._books.files if file.table_or_stream.startswith(f"{spool.DIRECTORY}/")]
        ordered = sorted(waiting, key=lambda file: (file.hour or 0, file.path))
        self.take(ordered)

    def standing(self) -> dict[str, tuple[int, Failure | None]]:
        """Records that wait, and why, by stream."""
        found: dict[str, tuple[int, Failure | None]] = {}
        with self._changed:
            for (name, _), lane in self._lanes.items():
                rows, failure = found.get(name, (0, None))
                found[name] = rows + sum(rows for _, _, rows in lane.parts), failure or lane.failure
        return found

    def oldest(self) -> dict[str, float]:
        """Seconds that the oldest record of each stream has waited here."""
        now = time.monotonic()
        with self._changed:
            ages = {name: now - lane.parts[0][1] for (name, _), lane in self._lanes.items() if lane.parts}
        return ages

    def stop(self, seconds: float) -> None:
        """Delivers what can be delivered within so many seconds, and stops; the rest stays in the spool."""
        until = time.monotonic() + seconds
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            threads = list(self._threads.values())
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._destinations.close()

    def _serve(self, lane: tuple[str, int]) -> None:
        stream, waiting = self._streams[lane[0]], self._lanes[lane]
        while True:
            with self._changed:
                ready = self._ready(stream, waiting)
                while ready > 0 and not (self._stopping and (not waiting.parts or waiting.failure is not None)):
                    self._changed.wait(None if ready == float("inf") else ready)
                    ready = self._ready(stream, waiting)
                if ready > 0:
                    return
                parts = [part for part, _, _ in list(waiting.parts)[:_PARTS_AT_ONCE]]
            self._deliver(stream, waiting, parts)

    def _ready(self, stream: StreamDefinition, waiting: Waiting) -> float:
        """Seconds until a delivery is due; infinite where nothing waits, or its stream is paused."""
        if not waiting.parts or stream.state == "paused":
            return float("inf")
        now = time.monotonic()
        if waiting.failure is not None:
            return max(0.0, waiting.again - now)
        size = stream.batch.size
        full = size is not None and sum(rows for _, _, rows in waiting.parts) >= size
        if full or self._stopping:
            return 0.0
        return max(0.0, waiting.parts[0][1] + self._max_delay - now)

    def _deliver(self, stream: StreamDefinition, waiting: Waiting, parts: Sequence[Part]) -> None:
        """Delivers parts, and commits what became of each."""
        found = self._destinations.of(stream.name)
        if isinstance(found, Failure):
            self._failed(waiting, found)
            return

        def taken() -> Iterator[tuple[Part, Selection]]:
            for part in parts:
                whole, rows = spool.take(self._run.output, part)
                yield whole, Selection(rows)

        failure = None
        for part, outcome in found.deliver_lane(taken(), stream, self._run.output):
            self._settle(part, outcome)
            failure = failure or outcome.failure
            with self._changed:
                waiting.delivered += outcome.delivered
                _, since, _ = waiting.parts.popleft()
                if outcome.failure is not None and outcome.rest is not None:
                    rest = replace(part, rest=part.rest + 1)
                    waiting.parts.appendleft((rest, since, outcome.rest.num_rows))
                elif outcome.failure is not None:
                    waiting.parts.appendleft((part, since, 0))
            if outcome.failure is not None:
                break
        self._books.sync()
        if failure is not None:
            self._failed(waiting, failure)
        else:
            with self._changed:
                waiting.failure, waiting.attempts = None, 0

    def _failed(self, waiting: Waiting, failure: Failure) -> None:
        with self._changed:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**waiting.attempts)
            if failure.retry_after is not None:
                pause = max(pause, min(failure.retry_after, LONGEST_PAUSE))
            waiting.failure, waiting.attempts = failure, waiting.attempts + 1
            waiting.again = time.monotonic() + pause

    def _settle(self, part: Part, outcome: Outcome) -> None:
        """Commits what became of a part."""
        settled = outcome.delivered + len(outcome.dead_letters)
        if outcome.failure is not None and (outcome.rest is None or not settled):
            return
        path = storage.relative(self._run.output, spool.path_of(self._run.output, part))
        kind = 1 if part.table in (USAGE.name, DEVICE_USAGE_HOURLY.name) else 0
        entries: list[Entry] = [
            Unlisted(path),
            Count(
                stage="stream", feed=FEEDS[kind], stream=part.stream, hour=part.hour, pane=0,
                unit=TABLES[part.table].unit, delivered=outcome.delivered, dead_lettered=len(outcome.dead_letters),
                pending=-settled,
            ),
        ]  # fmt: skip
        entries += [
            FileEntry(
                f"streams/{part.stream}", part.hour, file.path, int(file.row_count or 0), file.bytes, file.checksum
            )
            for file in outcome.files
        ]
        if outcome.failure is not None and outcome.rest is not None:
            rest = spool.put(self._run.output, replace(part, rest=part.rest + 1), outcome.rest)
            name = f"{spool.DIRECTORY}/{part.stream}"
            entries.append(FileEntry(name, part.hour, rest.path, outcome.rest.num_rows, rest.bytes, rest.checksum))
        if outcome.dead_letters:
            entries.append(self._bury(outcome))
        # Its file goes when the ledger that is published lists it no more.
        self._books.commit(Group(("deliver", 0, 0, 0), entries))
        self._books.sync()

    def _bury(self, outcome: Outcome) -> FileEntry:
        rows = dead_letter_batch(outcome.dead_letters, self._run.writer, self._run.dead)
        with self._changed:
            self._dead_parts += 1
            number = self._dead_parts
        stored = write_table_part(self._run.output, DEAD_LETTERS.name, None, 0, self._run.writer, number, rows)
        return FileEntry(DEAD_LETTERS.name, None, stored.path, rows.num_rows, stored.bytes, stored.checksum)
