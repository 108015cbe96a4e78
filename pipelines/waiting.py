"""Deliver what waits in the spool: before a run, and by the command ``deliver``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pipelines.lock import live_writers
from schemas.streams import Stream
from transforms.deliver import spool, storage
from transforms.deliver.pending import PendingResult, deliver_pending
from transforms.ledger.commit import listed_files, writers_of
from transforms.ledger.settle import settle


def deliver_waiting(output: str, streams: Sequence[Stream], except_writer: str | None = None) -> list[PendingResult]:
    """Delivers what waits in the spool, in order, and settles it in the ledger.

    Args:
      output: the output directory.
      streams: today's definitions.
      except_writer: a writer that is about to run again, and will deliver its records itself.

    What a live job has spooled is left to it: its own books say what waits. The caller holds the lock of the output
    directory, where it has one.
    """
    live = set(live_writers(output))
    listed = {
        writer: {file.path for file in listed_files(output, writer)}
        for writer in writers_of(output)
        if writer not in live
    }
    if not storage.is_remote(output):  # the lock is held: no run is under way that has not listed its files yet
        for writer, paths in listed.items():
            # What a delivery that was killed had settled, but not forgotten.
            spool.sweep(output, writer, {storage.absolute(output, path) for path in paths})
    return deliver_pending(output, streams, partial(settle, output), except_writer, set().union(*listed.values()))
