"""The live job: how fast it takes a backlog from Pub/Sub, and how soon a record reaches its destination."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median

import grpc
import numpy as np
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from benchmarks.goals import Finding
from benchmarks.live_job import BACKLOG, SUBSCRIPTIONS, LiveJob, Load, Progress, live_job, rate
from benchmarks.live_receiver import ages, hanging_server, stamping_receiver
from benchmarks.measure import REPOSITORY, CommandError
from benchmarks.rounds import MEGABYTE, Bench
from examples.live_demo.__main__ import create
from examples.live_demo.fleet import FEEDS, Fleet, live_lines, simulated
from examples.live_demo.pubsub import pubsub

NATIVE_MESSAGES, NATIVE_SECONDS = 3_000, 60.0
"""The backlog of Beam's own source, and the longest that it may take: it is slow, and a rate shows soon."""

PERCENTILES = {50: 0.25, 95: 0.5, 99: 1.0}
"""Goals of the age at arrival, in seconds."""

_AT_ONCE, _WARM_UP = 500, 5.0
_LEAST_HEAP, _HEAP_OF_MESSAGE = 2 << 30, 2_400
"""Memory of Google's emulator, which keeps all messages: with 2 GB it stopped at 1.2 million."""
_LOOK_EVERY = 60.0
_PATIENCE, _PEER_PATIENCE = 600.0, 90.0


def live(bench: Bench) -> list[Finding]:
    """Sustained throughput over its peers, and latency without and with a server that hangs.

    Raises:
      CommandError: a side failed.
    """
    return [*sustained(bench), *latency(bench)]


def sustained(bench: Bench) -> list[Finding]:
    """Messages a second of a backlog, over the bare client, and over Beam's own source on the old direct runner."""
    rates: dict[str, list[float]] = {"ours": [], "bare": [], "native": []}
    loads: list[dict[str, Load]] = []
    for number in range(1, bench.rounds + 1):
        rates["bare"].append(_of_peer("bare", bench.messages))
        ours, load = _of_job(bench)
        rates["ours"].append(ours)
        loads.append(load)
        rates["native"].append(_of_peer("native", NATIVE_MESSAGES, NATIVE_SECONDS))
        told = ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items())
        bench.say(f"round {number}: {told}; {_told(load)}")
    ours, bare, native = (median(rates[name]) for name in ("ours", "bare", "native"))
    return [
        Finding("live job over the bare client, messages/s of a backlog", ours / bare, goal=0.5, least=True,
                detail=f"{ours:,.0f} over {bare:,.0f} messages/s; {bench.messages:,} messages, three streams, "
                f"aggregates; the client pulls with as many threads and acknowledges"),
        Finding("live job over Beam's own source on the old direct runner", ours / native, goal=10, least=True,
                detail=f"{ours:,.0f} over {native:,.0f} messages/s; {NATIVE_MESSAGES:,} messages, only decoded"),
        Finding("processor time a message, worker and Prism", sum(load.cores for load in loads[-1].values()) / ours
                * 1e6, "µs", detail=_told(loads[-1])),
    ]  # fmt: skip


def latency(bench: Bench) -> list[Finding]:
    """Age of records when they reach a webhook, without and with another stream whose server hangs."""
    taken: dict[bool, list[np.ndarray]] = {False: [], True: []}
    loads: list[dict[str, Load]] = []
    for number in range(1, bench.rounds + 1):
        for hangs in (False, True):
            found, load = _ages(bench, hangs)
            taken[hangs].append(found)
            loads.append(load)
            beside = "one more stream hangs" if hangs else "three streams"
            bench.say(f"round {number}: {beside}: {_percentiles(found)}; {_told(load)}")
    alone, beside_hanging = (np.concatenate(taken[hangs]) for hangs in (False, True))
    of = (
        f"{len(alone):,} records of {bench.rate:,.0f} messages/s in {bench.seconds:.0f} s, rounds: {bench.rounds}; "
        "three streams, one a webhook, --max_delay=0.1"
    )
    findings = [
        Finding(f"publish to arrival, {percent} of 100 records", float(np.percentile(alone, percent)), "s", goal=goal,
                detail=of)
        for percent, goal in PERCENTILES.items()
    ]  # fmt: skip
    before, after = (float(np.percentile(found, 95)) for found in (alone, beside_hanging))
    last = loads[0]
    return [
        *findings,
        Finding("95 of 100 records beside a stream whose server hangs", after / before, goal=1.2,
                detail=f"{after:.3f} over {before:.3f} s"),
        Finding("cores of worker and Prism", sum(load.cores for load in last.values()), "cores", goal=1.0,
                detail=_told(last)),
        Finding("anonymous memory of worker and Prism", sum(load.memory for load in last.values()) / MEGABYTE, "MB",
                detail=_told(last)),
    ]  # fmt: skip


def _streams(url: str | None, hanging: str | None = None) -> list[dict[str, object]]:
    """Three streams: events to a webhook or, without one, into files; usage into files; sums."""
    webhook: dict[str, object] = {"type": "webhook", "url": url} if url else {"type": "files"}
    streams: list[dict[str, object]] = [
        {"name": "events", "content": "events", "format": "ndjson", "destination": webhook},
        {"name": "usage", "content": "usage", "format": "csv", "shape": "csv", "destination": {"type": "files"}},
        {"name": "sums", "content": "device_usage_hourly", "destination": {"type": "warehouse"}},
    ]
    if hanging is not None:
        destination = {"type": "webhook", "url": hanging}
        streams.append({"name": "hanging", "content": "events", "format": "ndjson", "destination": destination})
    return streams


def _of_job(bench: Bench) -> tuple[float, dict[str, Load]]:
    """Messages a second that the job commits of a backlog, while it has one."""
    with pubsub(_heap(bench.messages)) as address:
        published = backlog(address, bench.messages)
        output = bench.output("live")
        with live_job(output, address, _streams(None), "--aggregate_every=5s", "--publish_every=10s") as job:
            points = [_first(job)]
            with job.loads() as load:
                while points[-1].messages < BACKLOG * published:
                    if time.time() - points[0].at > _PATIENCE:
                        raise CommandError(f"{points[-1].messages:,} of {published:,} messages in {_PATIENCE:.0f} s")
                    time.sleep(0.25)
                    point = job.progress()
                    if point.at > points[-1].at:
                        points.append(point)
        return rate(points, published), load


def _first(job: LiveJob) -> Progress:
    while not (point := job.progress()).messages:
        time.sleep(0.1)
    return point


def _of_peer(name: str, messages: int, seconds: float = _PEER_PATIENCE) -> float:
    """Messages a second that a peer takes of a backlog."""
    with pubsub(_heap(messages)) as address:
        published = backlog(address, messages)
        command = [sys.executable, "-m", "benchmarks.live_peers", name, str(published), *SUBSCRIPTIONS]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PUBSUB_EMULATOR_HOST": address}
        with subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                printed, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                printed, _ = process.communicate()
    told = [line.split() for line in printed.splitlines()]
    return rate([Progress(float(at), int(count)) for at, count in told], published)


def _heap(messages: float) -> str:
    return f"{(_LEAST_HEAP + int(messages * _HEAP_OF_MESSAGE)) >> 20}m"


def backlog(address: str, messages: int) -> int:
    """Creates topics and subscriptions and publishes so many messages of both feeds; returns how many there are."""
    topics, each = create(address), messages // len(FEEDS)
    with grpc.insecure_channel(address) as channel:
        client = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        for feed, lines in simulated().items():
            fresh = live_lines(lines)
            for start in range(0, each, _AT_ONCE):
                batch = [{"data": line} for line in itertools.islice(fresh, min(_AT_ONCE, each - start))]
                client.publish(request={"topic": topics[feed], "messages": batch})
    return each * len(FEEDS)


def soak(bench: Bench) -> list[Finding]:
    """The memory of worker and Prism over a long time, beside the ids that the job holds, and the ages meanwhile.

    The first tenth of the time does not count: until then the job fills its buffers.

    Raises:
      CommandError: a side failed.
    """
    points: list[tuple[Progress, dict[str, int]]] = []

    def look(job: LiveJob) -> None:
        points.append((job.progress(), job.memory()))
        (progress, memory), minutes = points[-1], (points[-1][0].at - points[0][0].at) / 60
        told = ", ".join(f"{name} {held / MEGABYTE:,.0f} MB" for name, held in memory.items())
        bench.say(f"{minutes:.1f} min: {progress.messages:,} messages, {progress.ids:,} ids; {told}")

    found, load = _ages(bench, hangs=False, look=look)
    steady = points[len(points) // 10 :]
    (first, before), (last, after) = steady[0], steady[-1]
    ids, grown = last.ids - first.ids, sum(after.values()) - sum(before.values())
    minutes = (last.at - first.at) / 60
    return [
        Finding("cores of worker and Prism", sum(part.cores for part in load.values()), "cores", goal=1.0,
                detail=f"{bench.seconds / 60:.0f} minutes at {bench.rate:,.0f} messages/s; {_told(load)}"),
        Finding("anonymous memory of worker and Prism at the end", sum(after.values()) / MEGABYTE, "MB",
                detail=f"{sum(before.values()) / MEGABYTE:,.0f} MB {minutes:.0f} minutes before"),
        Finding("growth of memory an id that is held", grown / max(ids, 1), "bytes", goal=32.0,
                detail=f"{grown / MEGABYTE:,.1f} MB for {ids:,} ids more, in {minutes:.0f} minutes"),
        *(Finding(f"publish to arrival, {percent} of 100 records", float(np.percentile(found, percent)), "s",
                  goal=goal, detail=f"{len(found):,} records") for percent, goal in PERCENTILES.items()),
    ]  # fmt: skip


def _ages(
    bench: Bench, hangs: bool, look: Callable[[LiveJob], None] = lambda job: None
) -> tuple[np.ndarray, dict[str, Load]]:
    """Ages of the records that reach a webhook within the time, after the first seconds; each minute it looks."""
    path = bench.output("arrivals.bin")
    path.parent.mkdir(parents=True, exist_ok=True)
    heap = _heap(bench.rate * bench.seconds)
    with pubsub(heap) as address, stamping_receiver(path) as url, hanging_server() as hanging:
        topics = create(address)
        streams = _streams(url, hanging if hangs else None)
        with (
            live_job(bench.output("live"), address, streams, "--max_delay=0.1s") as job,
            Fleet(address, topics, bench.rate) as fleet,
        ):
            _first(job)
            time.sleep(_WARM_UP)
            started, before = time.time(), fleet.published
            with job.loads() as load:
                look(job)
                while (left := started + bench.seconds - time.time()) > 0:
                    time.sleep(min(left, _LOOK_EVERY))
                    look(job)
            ended, published = time.time(), fleet.published - before
            fleet.stop()
            time.sleep(1.0)
    if published < 0.9 * bench.rate * bench.seconds:
        bench.say(f"only {published / bench.seconds:,.0f} messages/s could be published")
    stamped = ages(path)
    return stamped[(stamped[:, 0] >= started) & (stamped[:, 0] < ended), 1], load


def _percentiles(found: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"p{percent} {np.percentile(found, percent):.3f} s" for percent in PERCENTILES)


def _told(loads: dict[str, Load]) -> str:
    return ", ".join(
        f"{name} {load.cores:.2f} cores, {load.memory / MEGABYTE:,.0f} MB ({load.grown / MEGABYTE:+,.0f})"
        for name, load in loads.items()
    )
