"""What every step of one run knows: where it writes, as whom, and how records travel."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field

from schemas.reasons import REASON_TABLE, Reason


@dataclass(frozen=True)
class Live:
    """How a live job works.

    Attributes:
      subscriptions: kind of the records (0 events, 1 usage) and full name of each Pub/Sub subscription.
      directory: what has to survive a kill: journal, books, kept rows; on this machine's disk.
      aggregate_every: seconds between two flushes of a cell: its partial sums, and its parts in the warehouse.
      max_delay: most seconds that a record waits for its batch to fill.
      close_after: seconds after the end of a cell's hour from which on its state may be cleared.
      publish_every: seconds between two publications of the ledger.
    """

    subscriptions: tuple[tuple[int, str], ...]
    directory: str
    aggregate_every: float = 30.0
    max_delay: float = 1.0
    close_after: float = 7200.0
    publish_every: float = 60.0


@dataclass(frozen=True)
class Run:
    """One run of the job. A field of every DoFn that needs it: workers import modules fresh, so nothing is kept in a
    module.

    Attributes:
      output: the output directory DIR, local or on any Beam file system.
      writer: who writes: a digest of the inputs' content (batch) or the live job's name.
      buckets: buckets of devices of the warehouse (`warehouse/_meta.json`).
      spill: directory that all workers share for spill files, or None: slices travel through the shuffle themselves.
      reasons: the table of reasons to classify with, an operator's own rows first.
      live: how a live job works; None for a batch run.
    """

    output: str
    writer: str
    buckets: int = 1
    spill: str | None = None
    reasons: tuple[Reason, ...] = field(default=REASON_TABLE, repr=False)
    live: Live | None = None

    @property
    def dead(self) -> str:
        """Directory of payloads that are too long for the dead-letter table."""
        return posixpath.join(self.output, "warehouse", "dead")

    def spill_path(self, plan: int, block: int) -> str | None:
        """Path of a block's spill file, or None where slices travel themselves."""
        return None if self.spill is None else os.path.join(self.spill, f"block-{plan:06d}-{block:06d}.arrow")

    def parcel_path(self, stream: str, kind: int, hour: int, bucket: int, pane: int) -> str | None:
        """Path of the rows that a pushed stream takes of a pane, or None where they travel themselves."""
        if self.spill is None:
            return None
        return os.path.join(self.spill, f"parcel-{stream}-{kind}-{hour}-{bucket}-{pane}.arrow")

    def mark(self, step: str, name: str, records: int) -> None:
        """Leaves a marker for the progress display of a local batch run; elsewhere does nothing."""
        if self.spill is not None and self.live is None:
            path = os.path.join(self.spill, f"{step}.{name}.{records}")
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
