"""A fleet that is live: simulated records, over and over, whose times are now and whose ids are new."""

from __future__ import annotations

import itertools
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from simulator import SimulationOptions, simulate

FEEDS = ("events", "usage")
_ROUND_IDS = 1_000_000_000
"""What is added to the ids in each round: simulated ids of one day are closer together."""

_TICK = 0.1


class Fleet:
    """Publishes while it is entered, at a steady rate, with 2 % duplicates and 1 % lines that are no records.

    Args:
      address: of Pub/Sub.
      topics: full name of the topic of each feed.
      rate: messages a second, of all feeds.

    Attributes:
      published: messages so far.
    """

    def __init__(self, address: str, topics: dict[str, str], rate: float):
        self._address, self._topics, self._rate = address, topics, rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self.published = 0

    def __enter__(self) -> Fleet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Publishes no more."""
        self._stop.set()
        self._thread.join()

    def _publish(self) -> None:
        lines = {feed: live_lines(records) for feed, records in simulated().items()}
        each = max(1, round(self._rate * _TICK / len(FEEDS)))
        with grpc.insecure_channel(self._address) as channel:
            client = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
            due = time.monotonic()
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                due = max(due + _TICK, time.monotonic() - 1)
                for feed in FEEDS:
                    messages = [{"data": line} for line in itertools.islice(lines[feed], each)]
                    client.publish(request={"topic": self._topics[feed], "messages": messages})
                    self.published += len(messages)


def simulated() -> dict[str, list[bytes]]:
    """Lines of a simulated day, in the order of arrival."""
    options = SimulationOptions(devices=300, days=1, seed=7, duplicates=0.02, malformed=0.01, gzipped=0.0,
                                renderings={"current": 1.0})  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="live-demo-") as directory:
        simulate(options, Path(directory))
        return {
            feed: [
                line
                for path in sorted((Path(directory) / feed).rglob("*.ndjson"))
                for line in path.read_bytes().splitlines()
                if line
            ]
            for feed in FEEDS
        }


def live_lines(lines: list[bytes]) -> Iterator[bytes]:
    """The lines again and again; each record ended now, and has an id of this round. Duplicates stay duplicates."""
    base = int(time.time())  # another start, other ids
    for number in itertools.count():
        times: dict[int, datetime] = {}
        for line in lines:
            try:
                record = json.loads(line)
                record["id"] = int(record["id"]) + base * _ROUND_IDS // 1_000 + number * _ROUND_IDS  # it may be a text
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                yield line  # malformed on purpose
                continue
            # A duplicate has the time of its original.
            _shift(record, times.setdefault(record["id"], datetime.now(UTC)))
            yield json.dumps(record).encode()


def _shift(record: dict[str, Any], now: datetime) -> None:
    for name in ("timestamp", "end_timestamp", "start_timestamp"):
        if name in record:
            moment = now - timedelta(minutes=5) if name == "start_timestamp" else now
            record[name] = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
