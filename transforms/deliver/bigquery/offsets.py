"""Exactly once: a write stream of one's own, and at which of its offsets each batch goes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from transforms.deliver import storage
from transforms.deliver.push.batch import Batch

DIRECTORY = ".bigquery"
_MOST = 10_000
"""Batches that are remembered: those before are not expected to be sent again."""


@dataclass
class Offsets:
    """The write stream of one lane, and the offset of each batch, by the batch's digest.

    All of it is in a small file under the run's output, which is published before a batch is first sent: so a batch
    that is sent again, by whatever process, goes to the same offset, and BigQuery tells where it is there already.

    Attributes:
      path: the file.
      stream: name of the write stream; None: none yet.
      places: offset and length of each batch.
    """

    path: str
    stream: str | None = None
    places: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, output: str, stream: str, writer: str, shard: int) -> Offsets:
        """Those of a lane, as they were left."""
        path = storage.join(output, DIRECTORY, stream, f"{shard}-{writer}.json")
        if path not in storage.list_files(storage.join(output, DIRECTORY, stream)):
            return cls(path)
        given = json.loads(storage.read(path))
        return cls(path, given["stream"], {digest: (at, rows) for digest, at, rows in given["places"]})

    def begin(self, stream: str) -> None:
        """Goes on with another write stream, in which nothing is yet."""
        self.stream, self.places = stream, {}
        self._publish()

    def of(self, batch: Batch) -> int:
        """The offset of a batch; a new one goes behind all others.

        Raises:
          OSError: the output directory is at fault.
        """
        known = self.places.get(batch.digest)
        if known is None:
            known = (max((at + rows for at, rows in self.places.values()), default=0), len(batch))
            self.places[batch.digest] = known
            self._publish()
        return known[0]

    def free(self, batch: Batch) -> None:
        """Forgets a batch of which certainly no row was appended: others take its place."""
        self.places.pop(batch.digest, None)

    def drop(self) -> None:
        """Forgets the write stream: it is gone, or does not stand where it should."""
        self.stream, self.places = None, {}
        self._publish()

    def _publish(self) -> None:
        kept = list(self.places.items())[-_MOST:]
        content = {"stream": self.stream, "places": [(digest, at, rows) for digest, (at, rows) in kept]}
        storage.publish(self.path, json.dumps(content).encode())
