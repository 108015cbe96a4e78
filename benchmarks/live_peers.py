"""What a live job is compared with, each in a process of its own: Google's bare client, and Beam's own source.

    python -m benchmarks.live_peers bare|native MESSAGES SUBSCRIPTION…

Each prints when it had how many messages: seconds since 1970 and the number, a line each.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Sequence

import apache_beam as beam
import grpc
from apache_beam.io.gcp.pubsub import ReadFromPubSub
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from google.api_core.exceptions import DeadlineExceeded
from google.pubsub_v1 import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import PullResponse

from benchmarks.live_job import BACKLOG
from transforms.read.subscriber import PULL_MESSAGES, THREADS

_TIMEOUT = 30.0
"""Seconds of a pull: of one that is given up, the emulator keeps what it brings for a while."""


class _Progress:
    """Prints how many messages there are, and ends the process with the backlog."""

    def __init__(self, messages: int, each: int):
        self._messages, self._each = messages, each
        self._count = self._told = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._count += count
            if self._count - self._told >= self._each or not self._told:
                self._told = self._count
                print(f"{time.time():.6f} {self._count}", flush=True)
            if self._count >= BACKLOG * self._messages:
                os._exit(0)


def bare(messages: int, subscriptions: Sequence[str]) -> None:
    """Pulls and acknowledges, and does nothing else."""
    progress = _Progress(messages, 1_000)

    def pull(subscription: str) -> None:
        channel = grpc.insecure_channel(os.environ["PUBSUB_EMULATOR_HOST"])
        client = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        request = {"subscription": subscription, "max_messages": PULL_MESSAGES}
        while True:
            try:
                answer = client.pull(request=request, retry=None, timeout=_TIMEOUT)
            except DeadlineExceeded:
                continue
            # Protocol buffers' own messages: the client's typed ones take ten times as long to read.
            ids = [received.ack_id for received in PullResponse.pb(answer).received_messages]
            if ids:
                client.acknowledge(request={"subscription": subscription, "ack_ids": ids})
                progress.add(len(ids))

    threads = [
        threading.Thread(target=pull, args=(subscription,))
        for subscription, _ in itertools.product(subscriptions, range(THREADS))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@functools.cache
def _of_all_copies(messages: int) -> _Progress:
    return _Progress(messages, 20)


class _Count(beam.DoFn):
    """Decodes each message, and does nothing else with it."""

    def __init__(self, messages: int):
        self._messages = messages

    def setup(self) -> None:
        # One for all: that runner makes a copy of the DoFn for each bundle.
        self._progress = _of_all_copies(self._messages)

    def process(self, element: bytes) -> None:
        with contextlib.suppress(ValueError, RecursionError):  # malformed on purpose: it counts as well
            json.loads(element)
        self._progress.add(1)


def native(messages: int, subscriptions: Sequence[str]) -> None:
    """Reads with Beam's own source on the old direct runner, and decodes."""
    options = PipelineOptions([])
    options.view_as(StandardOptions).streaming = True
    with beam.Pipeline(runner="BundleBasedDirectRunner", options=options) as pipeline:
        read = [
            pipeline | f"Read{number}" >> ReadFromPubSub(subscription=name) for number, name in enumerate(subscriptions)
        ]
        _ = read | beam.Flatten() | "Count" >> beam.ParDo(_Count(messages))


if __name__ == "__main__":
    from benchmarks import live_peers  # the classes of __main__ are pickled by value

    {"bare": live_peers.bare, "native": live_peers.native}[sys.argv[1]](int(sys.argv[2]), sys.argv[3:])
