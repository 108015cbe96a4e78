"""Ten streams of which one's server hangs, fails or is away: the others get everything in the time that they need
without it.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.destinations.reading import IDS
from tests.destinations.site import Site
from tests.end_to_end import jobs
from tests.servers.http import Answer, Receiver, Request, receiver
from tests.servers.proxy import TcpFault, TcpProxy, tcp_proxy

pytestmark = pytest.mark.slow

STREAMS = [f"stream-{number}" for number in range(10)]
AT_FAULT = "stream-4"
TIMEOUT = 15
"""Seconds that a webhook waits for its answer, at least."""
RETRY = {"attempts": 3, "seconds": 3}


@dataclass(frozen=True)
class Trouble:
    """What one server does.

    Attributes:
      words: what the run says of it.
      seconds: longest time that the run takes more than without it.
      answer: what it answers.
      connections: what becomes of connections to it.
    """

    words: str
    seconds: float
    answer: Answer = Answer()
    connections: TcpFault = TcpFault.NONE


TROUBLES = {
    # One attempt that times out, after which the retries' seconds are over.
    "hangs": Trouble("no answer", TIMEOUT + 5, Answer(hang=True)),
    "answers 500": Trouble("answered 500", RETRY["seconds"] + 5, Answer(500)),
    "refuses connections": Trouble("no answer", RETRY["seconds"] + 5, connections=TcpFault.REFUSE),
}


class Clocked:
    """A script of a receiver, which notes when requests come; one path may get another answer."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)
        self.answer = Answer()

    def __call__(self, number: int, request: Request) -> Answer:
        self.times[request.path].append(time.monotonic())
        return self.answer if request.path == f"/{AT_FAULT}" else Answer()

    def finished(self) -> float:
        """Seconds from the first request of any stream to the last one of those that are not at fault."""
        last = max(times[-1] for path, times in self.times.items() if path != f"/{AT_FAULT}")
        return last - min(times[0] for times in self.times.values())


@dataclass(frozen=True)
class Run:
    """Ten streams, their receiver, and the proxy through which one of them reaches it."""

    site: Site
    streams: Path
    script: Clocked
    server: Receiver
    proxy: TcpProxy

    def timed(self, code: int = 0) -> tuple[str, float]:
        """What a run says, and the seconds that it takes."""
        began = time.monotonic()
        text = self.site.run(self.streams, code=code)
        return " ".join(text.split()), time.monotonic() - began

    def check(self, missing: bool) -> None:
        """Every stream has got all, in order; the one at fault nothing, where that is so."""
        expected = {content: list(self.site.expected(content, ("ndjson", "table"))) for content in IDS}
        ledger, accepted = self.site.ledger(), self.server.accepted()
        for number, stream in enumerate(STREAMS):
            content = "usage" if number % 2 else "events"
            records, waits = len(expected[content]), missing and stream == AT_FAULT
            assert ledger[stream] == ((0, records, 0) if waits else (records, 0, 0))
            assert arrived(accepted, stream, content) == ([] if waits else expected[content])


@contextmanager
def ten_streams(feed: Path, directory: Path) -> Iterator[Run]:
    """Ten streams to one receiver."""
    script = Clocked()
    with receiver(script) as server, tcp_proxy(int(server.address.rsplit(":", 1)[1])) as proxy:
        options = {"type": "webhook", "timeout": TIMEOUT, "retry": RETRY}
        addresses = {name: f"http://{proxy.address}" if name == AT_FAULT else server.address for name in STREAMS}
        definitions: list[dict[str, Any]] = [
            {
                "name": name, "content": "usage" if number % 2 else "events", "batch": {"size": 100},
                "destination": {"url": f"{addresses[name]}/{name}", **options},
            }
            for number, name in enumerate(STREAMS)
        ]  # fmt: skip
        streams = jobs.write_streams(directory / "streams.yaml", *definitions)
        yield Run(Site(feed, directory / "output"), streams, script, server, proxy)


def arrived(requests: list[Request], stream: str, content: str) -> list[int]:
    """Ids of the records that were taken, in order."""
    bodies = [json.loads(request.body) for request in requests if request.path == f"/{stream}"]
    return [record[IDS[content]] for records in bodies for record in records]


@pytest.fixture(scope="module")
def without(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, float]:
    """Seconds that nine streams take for their requests, and all for the whole run, where no server is at fault."""
    with ten_streams(feed, tmp_path_factory.mktemp("without")) as run:
        _, took = run.timed()
        run.check(missing=False)
        return run.script.finished(), took


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_one_at_fault_holds_back_no_other(
    feed: Path, tmp_path: Path, without: tuple[float, float], trouble: Trouble
) -> None:
    with ten_streams(feed, tmp_path) as run:
        run.script.answer, run.proxy.fault = trouble.answer, trouble.connections
        said, took = run.timed(code=3)
        finished = run.script.finished()
        run.check(missing=True)
        assert f"stream {AT_FAULT}: http://{run.proxy.address}/{AT_FAULT}" in said
        assert trouble.words in said and "deliver what is pending" in said
        run.script.answer, run.proxy.fault = Answer(), TcpFault.NONE
        run.site.deliver(run.streams)
        run.check(missing=False)
    assert finished <= 1.5 * without[0] + 2
    assert took <= 1.5 * without[1] + trouble.seconds
