"""The courier of a live job: delivers what waits in the spool, in the order in which it was committed.

Each shard of a stream has a thread, so that no receiver holds up another, nor the steps of the pipeline. A destination
that fails is tried again after a pause that grows, also one that cannot be set up; what waits for it stays first, and
in order. The pause grows to a minute, and to a quarter of an hour where somebody has to mend something first (401, 403,
404, 410, no credentials): a restart tries such a destination at once. What was delivered is committed to the books
before it is forgotten: a kill in between sends it again under the same ids. Files of the spool stay until the ledger is
published without them, however old they are: of records that have waited for seven days the log warns, and none is
given up.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from schemas.tables import DEAD_LETTERS
from transforms.dead_letters import dead_letter_batch
from transforms.deliver import spool, storage
from transforms.deliver.destination import Destination, Outcome, StreamDefinition
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.joining import PARTS_AT_ONCE, join
from transforms.deliver.lanes import Destinations
from transforms.deliver.parts import Part
from transforms.deliver.registry import waits_of
from transforms.deliver.selection import Selection
from transforms.deliver.warehouse import write_table_part
from transforms.ledger import counts
from transforms.ledger.books import Books
from transforms.ledger.counts import Entry, FileEntry, Group, Unlisted
from transforms.run import Run

FIRST_PAUSE, LONGEST_PAUSE, LONGEST_TO_MEND = 1.0, 60.0, 900.0
"""Seconds before a failed destination is tried again: doubled each time, up to a minute; up to a quarter of an hour
where the failure does not pass by itself: more requests would not help, and some receivers count them as abuse."""

_SYNC_EVERY = 0.1
"""Seconds after which what was delivered is made durable while more is: a disk takes its time for each part. What a
kill takes back is sent again, under the same ids."""

_DEAD_PART = 1 << 60
"""Numbers from which on the courier names its parts of the dead-letter table, at random: those of the feed lie below.
"""

LONG = 7 * 86_400.0
"""Seconds from which on the log warns of a stream whose records wait."""

_log = logging.getLogger(__name__)


class _Waits(NamedTuple):
    """A part of the spool: since when it waits (monotonic), and its rows."""

    part: Part
    since: float
    rows: int


@dataclass(slots=True)
class _Lane:
    """What waits for a shard of a stream.

    Attributes:
      parts: the spool's parts in order, those that are being delivered among them.
      rows: sum of their rows.
      failure: why the last delivery failed; None where it did not.
      attempts: how many failed one after another.
      again: when the next one is due after a failure (monotonic).
    """

    parts: deque[_Waits] = field(default_factory=deque)
    rows: int = 0
    failure: Failure | None = None
    attempts: int = 0
    again: float = 0.0

    def pop(self) -> None:
        """Takes the first part away."""
        self.rows -= self.parts.popleft().rows

    def put_back(self, parts: Sequence[_Waits]) -> None:
        """Puts parts before all others, in this order."""
        self.parts.extendleft(reversed(parts))
        self.rows += sum(part.rows for part in parts)


class Courier:
    """Delivers from the spool until it is stopped.

    Args:
      run: the run.
      streams: the stream definitions; those that are paused keep what waits for them.
      books: where deliveries are committed.
      max_delay: most seconds that a record waits for its batch to fill, where its stream does not say how long.
      received: tells when what is committed at present was received (monotonic): its wait has begun then.
    """

    def __init__(
        self,
        run: Run,
        streams: Sequence[StreamDefinition],
        books: Books,
        max_delay: float,
        received: Callable[[], float] = time.monotonic,
    ):
        self._run, self._books, self._max_delay, self._received = run, books, max_delay, received
        self._streams: Mapping[str, StreamDefinition] = {stream.name: stream for stream in streams}
        self._waits = {stream.name: waits_of(stream) for stream in streams}
        self._destinations = Destinations(self._streams)
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._threads: dict[tuple[str, int], threading.Thread] = {}
        self._changed = threading.Condition()
        self._until: float | None = None  # when it has to have stopped; None: it need not
        self._warned: set[str] = set()
        books.on_files(self._on_files)

    def resume(self) -> None:
        """Takes what earlier processes left, in the order in which it was committed."""
        waiting = [file for file in self._books.files if file.table_or_stream.startswith(f"{spool.DIRECTORY}/")]
        # What is left of a part was committed last and comes first.
        waiting.sort(key=lambda file: not _is_rest(self._part_of(file)))
        now = time.time()
        self._take(waiting, [max(0.0, now - self._written(file, now)) for file in waiting])

    def _on_files(self, files: Sequence[FileEntry]) -> None:
        """Takes files that were committed, but for what is left of parts: that has its place in the lane."""
        fresh = [file for file in files if not _is_rest(self._part_of(file))]
        self._take(fresh, [max(0.0, time.monotonic() - self._received())] * len(fresh))

    def _take(self, files: Sequence[FileEntry], ages: Sequence[float]) -> None:
        now = time.monotonic()
        with self._changed:
            for file, age in zip(files, ages, strict=True):
                part = self._part_of(file)
                if part is None or part.stream not in self._streams:
                    continue
                lane = self._lanes.setdefault((part.stream, part.shard), _Lane())
                lane.parts.append(_Waits(part, now - age, file.row_count))
                lane.rows += file.row_count
                self._warn_of(part.stream, now - lane.parts[0].since)
                self._serve((part.stream, part.shard))
            self._changed.notify_all()

    def _part_of(self, file: FileEntry) -> Part | None:
        return spool.part_of(storage.absolute(self._run.output, file.path), self._run.output)

    def _written(self, file: FileEntry, otherwise: float) -> float:
        """When a file of the spool was written, seconds since 1970."""
        try:
            return os.stat(storage.absolute(self._run.output, file.path)).st_mtime
        except FileNotFoundError:
            return otherwise  # its delivery will say so

    def _warn_of(self, stream: str, age: float) -> None:
        if age >= LONG and stream not in self._warned:
            self._warned.add(stream)
            _log.warning(
                "stream %s: records wait for more than %.0f days; they are kept until they are delivered: mend its "
                "destination, or resume it, or remove the stream",
                stream, LONG / 86_400,
            )  # fmt: skip

    def standing(self) -> dict[str, tuple[int, Failure | None]]:
        """Records that wait, and why, by stream."""
        found: dict[str, tuple[int, Failure | None]] = {}
        with self._changed:
            for (name, _), lane in self._lanes.items():
                rows, failure = found.get(name, (0, None))
                found[name] = rows + lane.rows, failure or lane.failure
        return found

    def oldest(self) -> dict[str, float]:
        """Seconds since the oldest record of each stream that waits here was received."""
        now = time.monotonic()
        ages: dict[str, float] = {}
        with self._changed:
            for (name, _), lane in self._lanes.items():
                if lane.parts:
                    ages[name] = max(ages.get(name, 0.0), now - lane.parts[0].since)
        return ages

    def stop(self, seconds: float) -> None:
        """Delivers what can be delivered within so many seconds, and stops; the rest stays in the spool.

        A request that is under way then is left to itself: what it delivers and is not committed is sent again.
        """
        until = time.monotonic() + seconds
        with self._changed:
            self._until = until
            self._changed.notify_all()
            threads = list(self._threads.values())
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._destinations.close()

    def _serve(self, place: tuple[str, int]) -> None:
        """Starts the thread of a lane."""
        if place not in self._threads and self._until is None:
            name = f"deliver {place[0]} {place[1]}"
            self._threads[place] = threading.Thread(target=self._run_lane, args=(place,), name=name, daemon=True)
            self._threads[place].start()

    def _run_lane(self, place: tuple[str, int]) -> None:
        stream, lane = self._streams[place[0]], self._lanes[place]
        while (parts := self._next(stream, lane)) is not None:
            failure = self._deliver(stream, lane, parts)
            with self._changed:
                lane.failure = failure
                lane.attempts = 0 if failure is None else lane.attempts + 1
                lane.again = time.monotonic() + (0.0 if failure is None else pause_after(lane.attempts, failure))

    def _next(self, stream: StreamDefinition, lane: _Lane) -> list[_Waits] | None:
        """Waits until a delivery is due, and returns its parts; None where the lane has come to its end."""
        with self._changed:
            while (seconds := self._due(stream, lane)) > 0:
                if self._until is not None:
                    return None
                self._changed.wait(min(seconds, threading.TIMEOUT_MAX))
            return list(itertools.islice(lane.parts, PARTS_AT_ONCE))

    def _due(self, stream: StreamDefinition, lane: _Lane) -> float:
        """Seconds until a delivery is due; infinite where nothing waits, its stream is paused, or no time is left."""
        now = time.monotonic()
        if not lane.parts or stream.state == "paused" or (self._until is not None and now >= self._until):
            return float("inf")
        if lane.failure is not None:
            return lane.again - now
        seconds, rows = self._waits[stream.name]
        full = rows is not None and lane.rows >= rows
        delay = self._max_delay if seconds is None else seconds
        return 0.0 if full or self._until is not None else lane.parts[0].since + delay - now

    def _deliver(self, stream: StreamDefinition, lane: _Lane, parts: Sequence[_Waits]) -> Failure | None:
        """Delivers parts, and commits what became of each; puts back what is left, and returns why it is."""
        left: list[_Waits] = []
        failure: Failure | None = None
        synced = time.monotonic()

        def read() -> Iterator[tuple[Part, Selection]]:
            for waits in parts:
                if failure is not None:
                    return
                part, rows = spool.take(self._run.output, waits.part)
                yield part, Selection(rows)

        try:
            found = self._destinations.of(stream.name, again=True)
            if isinstance(found, Failure):
                return found
            parts = self._joined(found, stream, lane, parts)
            for part, outcome in found.deliver_lane(read(), stream, self._run.output, self._until):
                failure = failure or outcome.failure
                rest = self._settle(part, lane.parts[0], outcome)
                if time.monotonic() >= synced + _SYNC_EVERY:
                    self._books.sync()
                    synced = time.monotonic()
                with self._changed:
                    lane.pop()
                    lane.attempts = 0 if outcome.delivered else lane.attempts
                if rest is not None:
                    left.append(rest)
        except Exception as error:  # noqa: BLE001 - a lane without its thread would be silent for ever
            if self._until is not None and time.monotonic() >= self._until:
                return None  # the books are closed, and the destination: what is left is in the spool
            _log.exception("stream %s cannot be delivered at present", stream.name)
            told = isinstance(error, (OSError, ValueError))  # of the spool: of a destination failures are values
            failure = Failure(
                FailureKind.TRANSIENT,
                f"delivery met {type(error).__name__}" + (f": {error}" if told else ""),
                "see the log; it is tried again",
            )
        finally:
            with self._changed:
                lane.put_back(left)
        self._books.sync()
        return failure

    def _joined(
        self, destination: Destination[Any], stream: StreamDefinition, lane: _Lane, parts: Sequence[_Waits]
    ) -> Sequence[_Waits]:
        """Makes one part of those that the destination writes together, and returns the first parts of the lane, which
        are as many rows as it takes at once.

        What is joined is in the spool and in the books before anything of it is sent.
        """
        found = join(
            destination, [(waits.part, waits.rows) for waits in parts], self._waits[stream.name].rows, self._run.output
        )
        if found is None:
            return parts
        taken, groups = found
        joined = [waits for waits in parts[:taken] if _is_rest(waits.part)]
        joined += [_Waits(one.part, parts[one.first].since, one.row_count) for one in groups]
        if groups:
            entries = list(itertools.chain.from_iterable(one.entries for one in groups))
            self._books.commit(Group(("deliver", 0, 0, 0), entries))
            self._books.sync()
            with self._changed:
                for _ in range(taken):
                    lane.pop()
                lane.put_back(joined)
        return joined

    def _settle(self, part: Part, waits: _Waits, outcome: Outcome) -> _Waits | None:
        """Commits what became of a part, and returns what is left of it."""
        settled = outcome.delivered + len(outcome.dead_letters)
        if outcome.failure is not None and not settled:
            return waits
        path = storage.relative(self._run.output, spool.path_of(self._run.output, part))
        entries: list[Entry] = [
            Unlisted(path),
            counts.settled(part.stream, part.table, part.hour, outcome.delivered, len(outcome.dead_letters)),
        ]
        entries += [
            FileEntry(
                f"streams/{part.stream}", part.hour, file.path, int(file.row_count or 0), file.bytes, file.checksum
            )
            for file in outcome.files
        ]
        left = None
        if outcome.failure is not None and outcome.rest is not None:
            own = replace(part, rest=part.rest + 1)
            rest = spool.put(self._run.output, own, outcome.rest)
            name = f"{spool.DIRECTORY}/{part.stream}"
            entries.append(FileEntry(name, part.hour, rest.path, outcome.rest.num_rows, rest.bytes, rest.checksum))
            left = _Waits(own, waits.since, outcome.rest.num_rows)
        if outcome.dead_letters:
            entries.append(self._bury(outcome))
        # Its file goes when the ledger that is published lists it no more.
        self._books.commit(Group(("deliver", 0, 0, 0), entries))
        return left

    def _bury(self, outcome: Outcome) -> FileEntry:
        rows = dead_letter_batch(outcome.dead_letters, self._run.writer, self._run.dead)
        number = _DEAD_PART | int.from_bytes(os.urandom(7))
        stored = write_table_part(self._run.output, DEAD_LETTERS.name, None, 0, self._run.writer, number, rows)
        return FileEntry(DEAD_LETTERS.name, None, stored.path, rows.num_rows, stored.bytes, stored.checksum)


def _is_rest(part: Part | None) -> bool:
    return part is not None and part.rest > 0


def pause_after(attempts: int, failure: Failure) -> float:
    """Seconds until a destination is tried again that has failed so often: longer where it asks for it."""
    asked = failure.retry_after or 0.0
    longest = LONGEST_TO_MEND if failure.kind is FailureKind.MISCONFIGURED else LONGEST_PAUSE
    return min(longest, max(FIRST_PAUSE * 2.0 ** min(attempts - 1, 10), asked))
