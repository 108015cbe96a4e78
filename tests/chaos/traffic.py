"""Traffic of a live fleet, all of which is remembered."""

from __future__ import annotations

import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.end_to_end import runs
from tests.servers.pubsub import PROJECT, PubSub

FEEDS = ("events", "usage")
DUPLICATES, LATE, MALFORMED = 0.02, 0.05, 0.01
_LATEST = 48.0
_TICK = 0.1
_TIMES = ("timestamp", "end_timestamp", "start_timestamp")


class Traffic:
    """Publishes at a steady rate while it is entered: records of now with new ids, 2 % copies of earlier ones, 5 % late
    by 2 to 48 hours, 1 % lines that are no records, each another.

    Args:
      server: where to publish.
      rate: messages a second, of all feeds.
      seed: of chance.

    Attributes:
      lines: what was published, by feed.
      records: how many of these are records, each counted once, by feed.
      malformed: how many are none.
    """

    def __init__(self, server: PubSub, rate: float, seed: int):
        self._server, self._rate, self._chance = server, rate, random.Random(seed)
        self._templates = {feed: cycle(records) for feed, records in _simulated(seed).items()}
        self._good: dict[str, list[bytes]] = {feed: [] for feed in FEEDS}
        self._id = 50_000_000_000_000
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self.lines: dict[str, list[bytes]] = {feed: [] for feed in FEEDS}
        self.malformed = 0
        self.error: Exception | None = None

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Publishes no more.

        Raises:
          RuntimeError: publishing failed before.
        """
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise RuntimeError("the server of Pub/Sub itself failed") from self.error

    @property
    def records(self) -> dict[str, int]:
        return {feed: len(good) for feed, good in self._good.items()}

    @property
    def published(self) -> int:
        return sum(map(len, self.lines.values()))

    def _publish(self) -> None:
        each = {feed: max(1, round(self._rate * _TICK / len(FEEDS))) for feed in FEEDS}
        try:
            with self._server.publisher() as publisher:
                due = time.monotonic()
                while not self._stop.wait(max(0.0, due - time.monotonic())):
                    due = max(due + _TICK, time.monotonic() - 1)
                    for feed, number in each.items():
                        lines = [self._line(feed) for _ in range(number)]
                        messages = [{"data": line} for line in lines]
                        publisher.publish(request={"topic": f"projects/{PROJECT}/topics/{feed}", "messages": messages})
                        self.lines[feed] += lines
        except Exception as error:  # noqa: BLE001 - raised by `stop`
            self.error = error

    def _line(self, feed: str) -> bytes:
        dice, good = self._chance.random(), self._good[feed]
        self._id += 1
        if dice < MALFORMED:
            self.malformed += 1
            return b'{"id": %d, "timestamp": ' % self._id
        if dice < MALFORMED + DUPLICATES and good:
            return self._chance.choice(good)
        record = dict(next(self._templates[feed]), id=self._id)
        late = timedelta(hours=self._chance.uniform(2, _LATEST)) if self._chance.random() < LATE else timedelta()
        _shift(record, datetime.now(UTC) - late)
        good.append(json.dumps(record).encode())
        return good[-1]


def _shift(record: dict[str, Any], now: datetime) -> None:
    for name in _TIMES:
        if name in record:
            moment = now - timedelta(minutes=5) if name == "start_timestamp" else now
            record[name] = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _simulated(seed: int) -> dict[str, list[dict[str, Any]]]:
    """Records of a simulated day."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        runs.feed(
            Path(directory), devices=150, seed=seed, duplicates=0.0, malformed=0.0, odd=0.0, empty=0.0, gzipped=0.0,
            renderings={"current": 1.0},
        )  # fmt: skip
        return {feed: list(_records(Path(directory) / feed)) for feed in FEEDS}


def _records(directory: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(directory.rglob("*.ndjson")):
        yield from map(json.loads, path.read_bytes().splitlines())
