"""Dispatch: what waits for a shard, where workers share no disk, is delivered, joined, or put into the spool.

Without state of its own between two calls: what is left is given back, and given again.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.streams import Stream
from transforms.dead_letters import dead_letter_batch
from transforms.deliver import spool, storage
from transforms.deliver.consignments import Consignment
from transforms.deliver.destination import Destination, Outcome, Waits
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.joining import PARTS_AT_ONCE, join
from transforms.deliver.lanes import Destinations
from transforms.deliver.parts import Part
from transforms.deliver.selection import Selection
from transforms.deliver.storage import StoredFile
from transforms.gather.claims import Spill
from transforms.ledger import counts, metrics
from transforms.ledger.counts import Entry, FileEntry, Unlisted
from transforms.run import Run

SECONDS_AT_ONCE = 10.0
"""Seconds after which a delivery tries nothing more: a worker serves many keys with few threads."""

SENT_AT_ONCE = 256
"""Parts that are sent in one delivery: their rows fill several batches. After a failure all of them are read."""

FULL = 1_000
"""Records from which on a delivery is due where the stream does not say how large its batches are."""

Item = tuple[bytes, Consignment]
"""What waits for a shard: its turn, which is when it came (microseconds since 1970, 8 bytes), and itself."""


@dataclass(slots=True)
class Result:
    """What a delivery came to.

    Attributes:
      entries: entries of the ledger.
      dead: claims of dead letters.
      left: what is left.
      failure: why.
      progress: whether anything was delivered, or refused for good.
      again: seconds since 1970 from which on what is left is due, if nothing failed.
    """

    entries: list[Entry]
    dead: list[bytes]
    left: list[Item]
    failure: Failure | None = None
    progress: bool = False
    again: float = 0.0


class Dispatch:
    """Delivers for one worker.

    Args:
      run: the run of a live job.
      streams: the stream definitions by name.
      waits: how long what a shard of each has waits for more.
    """

    def __init__(self, run: Run, streams: Mapping[str, Stream], waits: Mapping[str, Waits]):
        assert run.live is not None
        self._run, self._streams, self._waits, self._max_delay = run, streams, waits, run.live.max_delay
        self._destinations = Destinations(streams)

    def close(self) -> None:
        """Closes the destinations."""
        self._destinations.close()

    def deliver(self, name: str, items: Sequence[Item]) -> Result:
        """Delivers what waits for a shard of a stream.

        Args:
          name: the stream.
          items: what waits, in order; at least one.

        Raises:
          OSError: the output directory is at fault.
          ValueError: a file of the spool is none of a version that this program knows.
        """
        metrics.observe_oldest(name, time.time() - came(items[0]))
        stream = self._streams.get(name)
        result = Result([], [], [])
        if stream is None:
            error = f"records wait for stream {name}, which the job does not define any more"
            result.failure = Failure(FailureKind.MISCONFIGURED, error, f"define {name} again, and update the job")
        if stream is None or stream.state == "paused":
            result.left = [self._spooled(item, result) for item in items]
            return result
        destination = self._destinations.of(name)
        if isinstance(destination, Failure):
            result.failure = destination
            result.left = [self._spooled(item, result) for item in items]
            return result
        now, rest = self._taken(stream, destination, items, result)
        self._push(stream, destination, now, result)
        result.left += rest if result.failure is None else [self._spooled(item, result) for item in rest]
        return result

    def _taken(
        self, stream: Stream, destination: Destination[Any], items: Sequence[Item], result: Result
    ) -> tuple[Sequence[Item], Sequence[Item]]:
        """What is delivered now, and what is not. Where the destination writes parts together, it is what was joined
        before; else those that are next are joined, and nothing is delivered yet.
        """
        joined = [item for item in items if item[1].rest]
        fresh = [item for item in items if not item[1].rest]
        waiting = [(one.part(self._run.writer), one.row_count) for _, one in fresh[:PARTS_AT_ONCE]]
        if not any(destination.joins(part) is not None for part, _ in waiting):
            return items[:SENT_AT_ONCE], items[SENT_AT_ONCE:]
        seconds, most = self._waits[stream.name]
        if joined:
            if len(joined) <= SENT_AT_ONCE and sum(one.row_count for _, one in fresh) < (most or FULL):
                result.again = came(fresh[0]) + (self._max_delay if seconds is None else seconds)
            return joined[:SENT_AT_ONCE], [*joined[SENT_AT_ONCE:], *fresh]
        # All of it is in the spool: streams of such destinations do not send at once.
        found = join(destination, waiting, most, self._run.output)
        assert found is not None
        taken, groups = found
        for one in groups:
            turn, first = fresh[one.first]
            joined.append((turn, first.spooled(one.part.rest, one.row_count)))
            result.entries += one.entries
        return [], [*joined, *fresh[taken:]]

    def _push(self, stream: Stream, destination: Destination[Any], items: Sequence[Item], result: Result) -> None:
        output, writer = self._run.output, self._run.writer
        taken: dict[Part, tuple[Item, pa.RecordBatch]] = {}

        def parts() -> Iterator[tuple[Part, Selection]]:
            for item in items:
                part, rows = item[1].rows(output, writer)
                taken[part] = item, rows
                yield part, Selection(rows)

        until = time.monotonic() + SECONDS_AT_ONCE
        for part, outcome in destination.deliver_lane(parts(), stream, output, until):
            item, rows = taken.pop(part)
            self._settle(part, item, rows, outcome, result)

    def _settle(self, part: Part, item: Item, rows: pa.RecordBatch, outcome: Outcome, result: Result) -> None:
        """Notes what became of a part."""
        settled = outcome.delivered + len(outcome.dead_letters)
        result.progress |= settled > 0
        result.failure = result.failure or outcome.failure
        if settled:
            dead = len(outcome.dead_letters)
            result.entries.append(counts.settled(part.stream, part.table, part.hour, outcome.delivered, dead))
            result.entries += [_entry(f"streams/{part.stream}", part, file) for file in outcome.files]
        if outcome.dead_letters:
            letters = dead_letter_batch(outcome.dead_letters, self._run.writer, self._run.dead)
            result.dead += Spill(None, 0, 0).deposit_pieces(letters)
        in_spool = item[1].claim is None
        if outcome.failure is None:
            if in_spool:
                result.entries.append(Unlisted(self._path(part)))
        elif in_spool and not settled:
            result.left.append(item)
        else:
            rest = rows if outcome.rest is None else outcome.rest
            left = dataclasses.replace(part, rest=part.rest + in_spool)
            if in_spool:
                result.entries.append(Unlisted(self._path(part)))
            result.left.append((item[0], self._put(left, item[1], rest, result)))

    def _spooled(self, item: Item, result: Result) -> Item:
        """What waits, waiting in the spool."""
        turn, one = item
        if one.claim is None:
            return item
        part, rows = one.rows(self._run.output, self._run.writer)
        return turn, self._put(part, one, rows, result)

    def _put(self, part: Part, one: Consignment, rows: pa.RecordBatch, result: Result) -> Consignment:
        stored = spool.put(self._run.output, part, rows)
        result.entries.append(_entry(f"{spool.DIRECTORY}/{part.stream}", part, stored))
        return one.spooled(part.rest, rows.num_rows)

    def _path(self, part: Part) -> str:
        return storage.relative(self._run.output, spool.path_of(self._run.output, part))


def came(item: Item) -> float:
    """When something came, in seconds since 1970."""
    return int.from_bytes(item[0]) / 1e6


def _entry(name: str, part: Part, file: StoredFile) -> FileEntry:
    return FileEntry(name, part.hour, file.path, int(file.row_count or 0), file.bytes, file.checksum)
