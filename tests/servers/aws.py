"""S3, Kinesis and STS: one moto server."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.servers.processes import HOST, Process, answers, free_port

REGION = "eu-central-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Environment of a client that gets no credentials elsewhere."""


@dataclass(frozen=True)
class Aws:
    """A running server of the Amazon services.

    Attributes:
      address: ``http://127.0.0.1:PORT``, of all services.
      environment: variables that point a client to it, and its credentials.
      process: what it stored is gone once it ends.
    """

    address: str
    environment: dict[str, str]
    process: Process

    def client(self, service: str) -> Any:
        """A boto3 client that needs no environment."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.address,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def create_bucket(self, name: str) -> None:
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Content of a bucket's objects by name."""
        client = self.client("s3")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        names = [found["Key"] for page in pages for found in page.get("Contents", ())]
        return {name: client.get_object(Bucket=bucket, Key=name)["Body"].read() for name in names}

    def uploads(self, bucket: str) -> list[str]:
        """Names of objects whose upload in parts was begun and neither ended nor given up."""
        return [found["Key"] for found in self.client("s3").list_multipart_uploads(Bucket=bucket).get("Uploads", ())]

    def create_stream(self, name: str, shards: int = 2) -> None:
        """A Kinesis stream, once it is active."""
        client = self.client("kinesis")
        client.create_stream(StreamName=name, ShardCount=shards)
        client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})

    def records(self, stream: str) -> list[KinesisRecord]:
        """All records of a Kinesis stream, shard by shard, in the order of their sequence numbers."""
        client = self.client("kinesis")
        found: list[KinesisRecord] = []
        for shard in client.list_shards(StreamName=stream)["Shards"]:
            iterator = client.get_shard_iterator(
                StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while True:
                page = client.get_records(ShardIterator=iterator, Limit=10_000)
                found += [
                    KinesisRecord(shard["ShardId"], record["PartitionKey"], record["Data"])
                    for record in page["Records"]
                ]
                if not page["Records"]:
                    break
                iterator = page["NextShardIterator"]
        return found


@dataclass(frozen=True)
class KinesisRecord:
    shard: str
    key: str
    data: bytes


@contextmanager
def aws_emulator() -> Iterator[Aws]:
    """An emulator of S3, Kinesis, STS and more, without buckets and streams; it checks no signature.

    Skips the test where moto or boto3 are not installed.
    """
    for module, package in (("moto", "moto[server]"), ("boto3", "apache-beam[aws]")):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"S3 and Kinesis emulator: {package} is not installed: pip install -e '.[dev]'")
    port = free_port()
    address = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    with Process("S3 and Kinesis emulator", command, lambda: answers(f"{address}/moto-api/data.json")) as process:
        yield Aws(address, {**CREDENTIALS, "AWS_ENDPOINT_URL": address}, process)
