"""Ten streams of which one hangs: the others get everything in the time that they need without it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.destinations.reading import IDS
from tests.destinations.site import Site
from tests.end_to_end import jobs
from tests.servers.http import Answer, Request, receiver

pytestmark = pytest.mark.slow

STREAMS = [f"stream-{number}" for number in range(10)]
HANGS = "stream-4"
TIMEOUT = 15
"""Seconds that a webhook waits for its answer, at least."""


class Clocked:
    """A script of a receiver, which notes when requests come; one path may get no answer."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)
        self.hangs = False

    def __call__(self, number: int, request: Request) -> Answer:
        self.times[request.path].append(time.monotonic())
        return Answer(hang=self.hangs and request.path == f"/{HANGS}")

    def finished(self) -> float:
        """Seconds from the first request of any stream to the last one of those that do not hang."""
        last = max(times[-1] for path, times in self.times.items() if path != f"/{HANGS}")
        return last - min(times[0] for times in self.times.values())


def definitions(address: str) -> list[dict[str, Any]]:
    options = {"type": "webhook", "timeout": TIMEOUT, "retry": {"attempts": 3, "seconds": 3}}
    return [
        {
            "name": name, "content": "usage" if number % 2 else "events", "batch": {"size": 100},
            "destination": {"url": f"{address}/{name}", **options},
        }
        for number, name in enumerate(STREAMS)
    ]  # fmt: skip


def arrived(requests: list[Request], stream: str, content: str) -> list[int]:
    """Ids of the records that were taken, in order."""
    bodies = [json.loads(request.body) for request in requests if request.path == f"/{stream}"]
    return [record[IDS[content]] for records in bodies for record in records]


def test_one_that_hangs_holds_back_no_other(feed: Path, tmp_path: Path) -> None:
    took: dict[str, tuple[float, float]] = {}
    for name in ("without", "with"):
        site = Site(feed, tmp_path / name)
        script = Clocked()
        script.hangs = name == "with"
        with receiver(script) as server:
            streams = jobs.write_streams(tmp_path / f"{name}.yaml", *definitions(server.address))
            began = time.monotonic()
            text = site.run(streams, code=3 if script.hangs else 0)
            took[name] = script.finished(), time.monotonic() - began
            expected = {content: list(site.expected(content, ("ndjson", "table"))) for content in IDS}
            for number, stream in enumerate(STREAMS):
                content = "usage" if number % 2 else "events"
                missing = script.hangs and stream == HANGS
                records = len(expected[content])
                assert site.ledger()[stream] == ((0, records, 0) if missing else (records, 0, 0))
                assert arrived(server.accepted(), stream, content) == ([] if missing else expected[content])
            if script.hangs:
                said = " ".join(text.split())
                assert (
                    f"stream {HANGS}: {server.address}/{HANGS}: no answer" in said and "deliver what is pending" in said
                )
                script.hangs = False
                site.deliver(streams)
                assert arrived(server.accepted(), HANGS, "events") == expected["events"]
                assert site.ledger()[HANGS] == (len(expected["events"]), 0, 0)
    assert took["with"][0] <= 1.5 * took["without"][0] + 2
    # Bounded: one attempt that times out, after which the retries' seconds are over.
    assert took["with"][1] <= 1.5 * took["without"][1] + TIMEOUT + 5
