"""Deliver what waits in the spool, stream by stream, in order.

Streams are delivered side by side. Each stops at its first failure, so that what comes later is not delivered before
it; the others go on. Safe against being killed at any moment: records are delivered, then settled in the ledger, then
forgotten. What was delivered but not forgotten is delivered again under the same names, and settled only once.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from transforms.dead_letters import DeadLetter
from transforms.deliver import spool, storage
from transforms.deliver.destination import Destination, Outcome, StreamDefinition
from transforms.deliver.failures import Failure
from transforms.deliver.lanes import Destinations
from transforms.deliver.parts import Part
from transforms.deliver.selection import Selection
from transforms.deliver.storage import StoredFile

STREAMS_AT_ONCE = 32
"""Streams that are delivered side by side: each waits for its receiver most of its time."""


@dataclass(frozen=True, slots=True)
class Redelivery:
    """What became of one part of the spool: pending goes down by delivered + dead letters.

    Where the destination took only some of its rows, the others are in the spool again, in a file of their own.

    Attributes:
      part: the part, as its writer named it.
      delivered: records that the destination took.
      dead_letters: records that it refused.
      files: files that it published.
      spooled: path of the spool's file, relative to the output directory. Where `ledger_files` does not list it any
        more, this was settled before.
      rest: the spool's file of the rows that still wait; None where none do.
    """

    part: Part
    delivered: int
    dead_letters: list[DeadLetter]
    files: list[StoredFile]
    spooled: str
    rest: StoredFile | None = None


@dataclass(slots=True)
class PendingResult:
    """How a stream stands after `deliver_pending`.

    Attributes:
      stream: name of the stream.
      delivered: records that were delivered now.
      pending: parts that still wait.
      error: why, or None (a paused stream has none).
      remedy: what to do about it.
      redelivered: the parts that were delivered.
    """

    stream: str
    delivered: int = 0
    pending: int = 0
    error: str | None = None
    remedy: str | None = None
    redelivered: list[Redelivery] = field(default_factory=list)


def deliver_pending(
    output: str,
    streams: Sequence[StreamDefinition],
    settle: Callable[[Sequence[Redelivery]], None],
    except_writer: str | None = None,
    listed: Collection[str] | None = None,
) -> list[PendingResult]:
    """Deliver what waits, for each stream that is running.

    Args:
      output: the output directory.
      streams: today's definitions. What waits for a stream that is not among them stays.
      settle: writes the ledger's deltas (−n pending, +n delivered) and the files; called once per stream, before its
        records are forgotten, and again with the same parts if the process dies before that is done.
      except_writer: leave out what this writer spooled: it is about to run again.
      listed: relative paths of the spool's files that are committed; others belong to a run that did not end and are
        left to its repetition. None: all.

    Returns:
      a result for each stream that had something waiting, by name.

    Raises:
      OSError: the output directory is at fault.
    """
    defined = {stream.name: stream for stream in streams}
    results, open_ones = [], []
    for name, parts in spool.waiting(output).items():
        wanted = [part for part in parts if part.writer != except_writer and _is_listed(output, part, listed)]
        if not wanted:
            continue
        if name not in defined:
            results.append(_undefined(name, len(wanted)))
        elif defined[name].state == "paused":
            results.append(PendingResult(name, pending=len(wanted)))
        else:
            open_ones.append((defined[name], wanted))
    destinations, lock = Destinations(defined), threading.Lock()

    def settle_alone(redelivered: Sequence[Redelivery]) -> None:
        with lock:
            settle(redelivered)

    try:
        with ThreadPoolExecutor(STREAMS_AT_ONCE, "deliver") as pool:
            results += pool.map(
                lambda one: _deliver_stream(output, one[0], destinations, one[1], settle_alone), open_ones
            )
    finally:
        destinations.close()
    return sorted(results, key=lambda result: result.stream)


def _is_listed(output: str, part: Part, listed: Collection[str] | None) -> bool:
    return listed is None or storage.relative(output, spool.path_of(output, part)) in listed


def _undefined(name: str, parts: int) -> PendingResult:
    error = f"records wait for stream {name}, which the streams file does not define"
    remedy = f"define {name} again, or remove its records from {spool.DIRECTORY}/{name}"
    return PendingResult(name, 0, parts, error, remedy)


def _deliver_stream(
    output: str,
    stream: StreamDefinition,
    destinations: Destinations,
    parts: Sequence[Part],
    settle: Callable[[Sequence[Redelivery]], None],
) -> PendingResult:
    result = PendingResult(stream.name, pending=len(parts))
    destination = destinations.of(stream.name)
    if isinstance(destination, Failure):
        result.error, result.remedy = destination.error, destination.remedy
        return result
    for _, lane in itertools.groupby(parts, key=lambda part: part.shard):
        _deliver_lane(output, stream, destination, list(lane), result)
        if result.error is not None:
            break
    if result.redelivered:
        settle(result.redelivered)
    for done in result.redelivered:
        spool.discard(output, done.part)
    return result


def _deliver_lane(
    output: str, stream: StreamDefinition, destination: Destination[Any], parts: Sequence[Part], result: PendingResult
) -> None:
    """Deliver the parts of one shard up to the first failure."""

    def taken() -> Iterator[tuple[Part, Selection]]:
        for part in parts:
            try:
                part, rows = spool.take(output, part)
            except ValueError as error:
                result.error, result.remedy = str(error), "see the error"
                return
            yield part, Selection(rows)

    for part, outcome in destination.deliver_lane(taken(), stream, output):
        if outcome.failure is not None and result.error is None:
            result.error, result.remedy = outcome.failure.error, outcome.failure.remedy
        if outcome.failure is None or outcome.delivered or outcome.dead_letters:
            result.redelivered.append(_redelivery(output, part, outcome))
            result.delivered += outcome.delivered
            result.pending -= outcome.failure is None


def _redelivery(output: str, part: Part, outcome: Outcome) -> Redelivery:
    """What became of a part; rows that still wait get a file of their own, which counts once the ledger lists it."""
    spooled = storage.relative(output, spool.path_of(output, part))
    rest = None
    if outcome.failure is not None and outcome.rest is not None:
        rest = spool.put(output, dataclasses.replace(part, rest=part.rest + 1), outcome.rest)
    return Redelivery(part, outcome.delivered, outcome.dead_letters, outcome.files, spooled, rest)
