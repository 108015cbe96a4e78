"""Starts the servers of the demonstration, runs the job against them, and shows what arrived.

    python -m examples.demo --events=GLOB --usage=GLOB --output=DIR

The servers live as long as this program: one for HTTP, which is the web server and Datadog's intake, and moto for
Kinesis.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

HOST = "127.0.0.1"
STREAMS = Path(__file__).with_name("streams.yaml")
REJECTIONS, REGION = "demo-rejections", "eu-central-1"


class _Receiver(BaseHTTPRequestHandler):
    """Counts the records that it is sent, by path."""

    protocol_version = "HTTP/1.1"
    requests: Counter[str] = Counter()
    records: Counter[str] = Counter()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.headers.get("Content-Encoding"):
            case "gzip":
                body = gzip.decompress(body)
            case "deflate":
                body = zlib.decompress(body)
        self.requests[self.path] += 1
        self.records[self.path] += len(json.loads(body))
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.send_response(202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """All servers; gives the environment variables with which the job finds them."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    web = ThreadingHTTPServer((HOST, 0), _Receiver)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    amazon = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    amazon.start()
    try:
        yield {
            "DEMO_WEBHOOK": f"http://{HOST}:{web.server_port}",
            "DEMO_AWS": f"http://{HOST}:{amazon.get_host_and_port()[1]}",
            "DEMO_DATADOG": f"http://{HOST}:{web.server_port}",
            "DEMO_DATADOG_KEY": "demo",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
        }
    finally:
        amazon.stop()
        web.shutdown()


def main() -> int:
    """Runs the demonstration; returns the exit code of the job."""
    with servers() as environment:
        os.environ.update(environment)
        kinesis = boto3.client("kinesis", region_name=REGION, endpoint_url=environment["DEMO_AWS"])
        kinesis.create_stream(StreamName=REJECTIONS, ShardCount=1)
        job = [sys.executable, "-m", "pipelines.data_streamer", f"--streams={STREAMS}", *sys.argv[1:]]
        code = subprocess.run(job, check=False).returncode
        print("\nWhat arrived at the servers of this demonstration")
        for path, records in _Receiver.records.items():
            print(f"  HTTP {path:<19} {records:>6,} records in {_Receiver.requests[path]:,} requests")
        print(f"  Kinesis {REJECTIONS:<16} {_kinesis_records(kinesis):>6,} records")
    return code


def _kinesis_records(kinesis: boto3.client) -> int:
    """Records in the data stream."""
    (shard,) = kinesis.list_shards(StreamName=REJECTIONS)["Shards"]
    begin = {"StreamName": REJECTIONS, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
    place, count = kinesis.get_shard_iterator(**begin)["ShardIterator"], 0
    while True:
        answer = kinesis.get_records(ShardIterator=place, Limit=10_000)
        count += len(answer["Records"])
        place = answer.get("NextShardIterator")
        if not answer["Records"] or place is None:
            return count


if __name__ == "__main__":
    sys.exit(main())
