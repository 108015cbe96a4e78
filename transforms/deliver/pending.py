"""Deliver what waits in the spool, stream by stream, in order.

A stream stops at its first failure, so that what comes later is not delivered before it; the others go on. Safe
against being killed at any moment: records are delivered, then settled in the ledger, then forgotten. What was
delivered but not forgotten is delivered again under the same names, and settled only once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from transforms.dead_letters import DeadLetter
from transforms.deliver import spool, storage
from transforms.deliver.destination import Destination, Outcome, StreamDefinition
from transforms.deliver.parts import Part
from transforms.deliver.registry import DESTINATIONS
from transforms.deliver.selection import Selection
from transforms.deliver.storage import StoredFile


@dataclass(frozen=True, slots=True)
class Redelivery:
    """What became of one part of the spool: pending goes down by delivered + dead letters.

    Attributes:
      part: the part, as its writer named it.
      delivered: records that the destination took.
      dead_letters: records that it refused.
      files: files that it published.
      spooled: path of the spool's file, relative to the output directory. Where `ledger_files` does not list it any
        more, this was settled before.
    """

    part: Part
    delivered: int
    dead_letters: list[DeadLetter]
    files: list[StoredFile]
    spooled: str


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
    results = []
    for name, parts in spool.waiting(output).items():
        wanted = [part for part in parts if part.writer != except_writer and _is_listed(output, part, listed)]
        if not wanted:
            continue
        if name not in defined:
            results.append(_undefined(name, len(wanted)))
        elif defined[name].state == "paused":
            results.append(PendingResult(name, pending=len(wanted)))
        else:
            results.append(_deliver_stream(output, defined[name], wanted, settle))
    return results


def _is_listed(output: str, part: Part, listed: Collection[str] | None) -> bool:
    return listed is None or storage.relative(output, spool.path_of(output, part)) in listed


def _undefined(name: str, parts: int) -> PendingResult:
    error = f"records wait for stream {name}, which the streams file does not define"
    remedy = f"define {name} again, or remove its records from {spool.DIRECTORY}/{name}"
    return PendingResult(name, 0, parts, error, remedy)


def _deliver_stream(
    output: str, stream: StreamDefinition, parts: Sequence[Part], settle: Callable[[Sequence[Redelivery]], None]
) -> PendingResult:
    result = PendingResult(stream.name, pending=len(parts))
    destination = DESTINATIONS[stream.destination.type](stream.destination)
    try:
        destination.setup()
        for part in parts:
            if not _deliver_part(output, stream, destination, part, result):
                break
    finally:
        destination.close()
    if result.redelivered:
        settle(result.redelivered)
    for done in result.redelivered:
        spool.discard(output, done.part)
    return result


def _deliver_part(
    output: str, stream: StreamDefinition, destination: Destination[Any], part: Part, result: PendingResult
) -> bool:
    """Deliver one part; returns whether the stream can go on."""
    try:
        part, rows = spool.take(output, part)
    except ValueError as error:
        result.error, result.remedy = str(error), "see the error"
        return False
    outcome = destination.deliver(part, Selection(rows), stream, output) if rows.num_rows else Outcome()
    if outcome.failure is not None:
        # What it took of the part is sent again with the rest, under the same ids: a retry is the same batch.
        result.error, result.remedy = outcome.failure.error, outcome.failure.remedy
        return False
    spooled = storage.relative(output, spool.path_of(output, part))
    result.delivered += outcome.delivered
    result.pending -= 1
    result.redelivered.append(Redelivery(part, outcome.delivered, outcome.dead_letters, outcome.files, spooled))
    return True
