"""What happens to a live job, and when: by chance, of a seed."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.traffic import FEEDS, Traffic
from tests.end_to_end import proof
from tests.pipelines.live.site import LiveJob
from tests.servers.http import Answer, Receiver, Request
from tests.servers.proxy import TcpFault, TcpProxy
from tests.servers.pubsub import PROJECT, PubSub

FAILING = "warnings"
PAUSED = ("usage", "data")
"""Streams that are paused for a while: one that sends, and one that stores."""

OUTAGE, FAILURE, PAUSE = 0.1, 0.3, 0.2
"""Shares of the whole time."""

ACKNOWLEDGE_SECONDS = 15
"""What a job that was killed had pulled and not acknowledged comes again after this time."""

LAST_WAIT = 420.0


Act = Callable[[], None]


class ChaosError(Exception):
    """The job did what it should not do, while it ran."""


@dataclass
class Story:
    """A live job that is ill-treated.

    Attributes:
      seconds: how long traffic lasts.
      kills: how often worker or Prism are killed, in turn.
      happened: what happened, with the seconds since the start.
    """

    directory: Path
    server: PubSub
    proxy: TcpProxy
    receiver: Receiver
    traffic: Traffic
    seed: int
    seconds: float
    kills: int
    happened: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.output, self._streams = self.directory / "live", self.directory / "streams.yaml"
        self._failing, self._acts = False, list[tuple[float, Act]]()
        self.receiver.script = self._answer
        self._write_streams()
        for feed in FEEDS:
            _subscribe(self.server, feed)

    def run(self) -> None:
        """Lets it all happen, waits until everything is delivered, and stops the job in order.

        Raises:
          ChaosError: the job ended without being asked to, or does not come to an end.
        """
        self._began = time.monotonic()
        self._job = self._started()
        try:
            # Time runs from when the job reads: before, nothing could happen to it.
            self._began = time.monotonic()
            with self.traffic:
                self._plan()
                while self._acts:
                    at, act = self._acts.pop(0)
                    self._wait_until(at)
                    act()
                self._wait_until(self.seconds)
            self._tell(f"traffic ends: {self.traffic.published:,} messages")
            self._wait_for_the_rest()
            code = self._job.stop()
            self._tell(f"stopped with SIGINT: exit code {code}")
            if code != 0:
                raise ChaosError(f"the last job ended with exit code {code}\n{self._job.text}")
        finally:
            self._job.process.kill()

    def _plan(self) -> None:
        chance = random.Random(self.seed)
        for share, begin, end in (
            (OUTAGE, self._stop_pubsub, self._resume_pubsub),
            (FAILURE, self._fail, self._recover),
            (PAUSE, self._pause, self._resume),
        ):
            self._at(self.seconds * chance.uniform(0.05, 0.95 - share), self._during(share * self.seconds, begin, end))
        each = self.seconds / self.kills
        for number in range(self.kills):
            at = each * (number + chance.uniform(0.1, 0.8))
            self._at(at, self._kill_worker if number % 2 == 0 else self._kill_prism)

    def _at(self, second: float, act: Act) -> None:
        self._acts.append((second, act))
        self._acts.sort(key=lambda one: one[0])

    def _during(self, seconds: float, begin: Act, end: Act) -> Act:
        """Something that lasts: its end is due so long after it really began, which a slow start of the job delays."""

        def act() -> None:
            begin()
            self._at(time.monotonic() - self._began + seconds, end)

        return act

    def _kill_worker(self) -> None:
        self._job.kill()
        self._tell("worker killed (SIGKILL)")
        self._job = self._started()

    def _kill_prism(self) -> None:
        self._job.prism.kill()
        code = self._job.ended()
        self._tell(f"Prism killed (SIGKILL): the job ended with exit code {code}")
        if code != 1:
            raise ChaosError(f"Prism was killed, and the job ended with exit code {code}\n{self._job.text}")
        self._job = self._started()

    def _stop_pubsub(self) -> None:
        self.proxy.fault = TcpFault.REFUSE
        self._tell("Pub/Sub refuses all connections")

    def _resume_pubsub(self) -> None:
        self.proxy.fault = TcpFault.NONE
        self._tell("Pub/Sub answers again")

    def _fail(self) -> None:
        self._failing = True
        self._tell(f"the receiver of {FAILING} answers 503")

    def _recover(self) -> None:
        self._failing = False
        self._tell(f"the receiver of {FAILING} answers 200 again")

    def _pause(self) -> None:
        code = self._job.stop(signal.SIGTERM)
        self._tell(f"stopped with SIGTERM (exit code {code}), to pause {' and '.join(PAUSED)}")
        if code not in (0, 3):
            raise ChaosError(f"SIGTERM ended the job with exit code {code}\n{self._job.text}")
        self._write_streams(PAUSED)
        self._job = self._started()

    def _resume(self) -> None:
        self._job.kill()
        self._tell(f"worker killed (SIGKILL), to resume {' and '.join(PAUSED)}")
        self._write_streams()
        self._job = self._started()

    def _wait_for_the_rest(self) -> None:
        wanted = sum(self.traffic.records.values())
        until = time.monotonic() + LAST_WAIT
        while True:
            self._look()
            status = json.loads((self.output / ".live" / "live" / "status.json").read_bytes())
            mine = status["process"] == self._job.process.pid
            kept = status["ids"] if mine else 0
            waiting = {stream["name"]: stream["pending"] for stream in status["streams"] if stream["pending"]}
            if mine and not waiting and not status["segments"] and proof.rows(self.output) >= wanted:
                self._tell("everything is delivered")
                return
            if time.monotonic() > until:
                raise ChaosError(
                    f"after {LAST_WAIT:.0f} s {proof.rows(self.output):,} rows of {wanted:,}, {kept:,} ids, "
                    f"{status['segments']} segments, waiting: {waiting}, source: {status['source']}\n{self._job.text}"
                )
            time.sleep(1)

    def _started(self) -> LiveJob:
        began = time.monotonic()
        subscriptions = [f"--{feed}_subscription=projects/{PROJECT}/subscriptions/{feed}" for feed in FEEDS]
        command = [
            sys.executable, "-m", "pipelines.data_streamer", "--streaming", *subscriptions, "--no_report",
            f"--streams={self._streams}", f"--output={self.output}", "--aggregate_every=5s", "--publish_every=5s",
            "--max_delay=200ms",
        ]  # fmt: skip
        job = LiveJob(command, {"PUBSUB_EMULATOR_HOST": self.proxy.address})
        try:
            job.started()
        except BaseException:
            job.process.kill()
            raise
        self._tell(f"the job reads, {time.monotonic() - began:.0f} s after its start")
        return job

    def _wait_until(self, at: float) -> None:
        while (left := self._began + at - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
            self._look()

    def _look(self) -> None:
        if self._job.process.poll() is not None:
            raise ChaosError(f"the job ended by itself: exit code {self._job.ended()}\n{self._job.text}")

    def _tell(self, what: str) -> None:
        self.happened.append((time.monotonic() - self._began, what))
        print(f"{self.happened[-1][0]:6.1f} s  {what}", flush=True)

    def _answer(self, number: int, request: Request) -> Answer:
        return Answer(503) if self._failing and request.path == f"/{FAILING}" else Answer()

    def _write_streams(self, paused: tuple[str, ...] = ()) -> None:
        streams = proof.definitions(self.receiver.address)
        for stream in streams:
            stream["state"] = "paused" if stream["name"] in paused else "running"
        self._streams.write_text(json.dumps({"streams": streams}))


def _subscribe(server: PubSub, feed: str) -> None:
    topic = f"projects/{PROJECT}/topics/{feed}"
    with server.publisher() as publisher, server.subscriber() as subscriber:
        publisher.create_topic(name=topic)
        name = f"projects/{PROJECT}/subscriptions/{feed}"
        wanted = {"name": name, "topic": topic, "ack_deadline_seconds": ACKNOWLEDGE_SECONDS}
        subscriber.create_subscription(request=wanted)
