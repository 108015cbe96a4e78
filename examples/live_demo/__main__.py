"""Starts the servers of the demonstration and a live fleet, runs the live job until Ctrl-C, and audits its ledger.

    python -m examples.live_demo --output=DIR [--rate=300] [--seconds=N]

The servers live as long as this program: Pub/Sub, and a web server that counts what it is sent.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from examples.live_demo.fleet import FEEDS, Fleet
from examples.live_demo.pubsub import HOST, pubsub
from pipelines import commands

STREAMS = Path(__file__).with_name("streams.yaml")
PROJECT = "live-demo"


class _Webhook(BaseHTTPRequestHandler):
    """Counts the records that it is sent."""

    protocol_version = "HTTP/1.1"
    requests = records = 0

    def do_POST(self) -> None:
        taken = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _Webhook.requests += 1
        _Webhook.records += len(taken)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """All servers; gives the environment variables with which the job finds them."""
    web = ThreadingHTTPServer((HOST, 0), _Webhook)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        with pubsub() as address:
            yield {"DEMO_WEBHOOK": f"http://{HOST}:{web.server_port}", "PUBSUB_EMULATOR_HOST": address}
    finally:
        web.shutdown()


def create(address: str) -> dict[str, str]:
    """Creates a topic and a subscription for each feed; returns the topics."""
    topics = {feed: f"projects/{PROJECT}/topics/{feed}" for feed in FEEDS}
    with grpc.insecure_channel(address) as channel:
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        for feed, topic in topics.items():
            publisher.create_topic(name=topic)
            subscriber.create_subscription(name=f"projects/{PROJECT}/subscriptions/{feed}", topic=topic)
    return topics


def main() -> int:
    """Runs the demonstration; returns the exit code of the job, or of the audit if that finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m examples.live_demo")
    parser.add_argument("--output", required=True, help="directory of the job's output; emptied first")
    parser.add_argument("--rate", type=float, default=300, help="messages a second (default 300)")
    parser.add_argument("--seconds", type=float, help="stop after so many seconds, as Ctrl-C would")
    options = parser.parse_args()
    shutil.rmtree(options.output, ignore_errors=True)
    job = [
        sys.executable, "-m", "pipelines.data_streamer", "--streaming", f"--streams={STREAMS}",
        *(f"--{feed}_subscription=projects/{PROJECT}/subscriptions/{feed}" for feed in FEEDS),
        f"--output={options.output}", "--aggregate_every=10s", "--publish_every=10s",
    ]  # fmt: skip
    with servers() as environment:
        topics = create(environment["PUBSUB_EMULATOR_HOST"])
        signal.signal(signal.SIGINT, _leave_to_the_job)
        with Fleet(environment["PUBSUB_EMULATOR_HOST"], topics, options.rate) as fleet:
            running = subprocess.Popen(job, env={**os.environ, **environment})
            if options.seconds:
                threading.Timer(options.seconds, running.send_signal, [signal.SIGINT]).start()
            code = running.wait()
            fleet.stop()
        print(f"\nThe fleet published {fleet.published:,} messages; what the job had not pulled stays in Pub/Sub.")
        print(f"The web server took {_Webhook.records:,} records in {_Webhook.requests:,} requests.")
    sys.stdout.flush()
    return code or commands.main(["audit", options.output])


def _leave_to_the_job(*_: object) -> None:
    """Ctrl-C reaches the job too, which shares the terminal: it stops, and this program goes on with what follows."""


if __name__ == "__main__":
    sys.exit(main())
