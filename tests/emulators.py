"""Object stores on loopback, each a process of its own that ends with the test; no service is reached."""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

AWS_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Environment of a client that gets no credentials elsewhere."""

_START = 60.0
"""Seconds that a server has to answer for the first time; a busy machine is slow."""


@contextmanager
def storage_emulator(bucket: str) -> Iterator[str]:
    """Address of an emulator of Cloud Storage with one empty bucket, for ``STORAGE_EMULATOR_HOST``.

    Skips the test where gcp-storage-emulator is not installed.
    """
    _need("gcp_storage_emulator", "gcp-storage-emulator")
    port = _free_port()
    options = ["start", "--host=127.0.0.1", f"--port={port}", "--in-memory", f"--default-bucket={bucket}"]
    address = f"http://127.0.0.1:{port}"
    with _server("gcp_storage_emulator", options, f"{address}/storage/v1/b/{bucket}"):
        yield address


@contextmanager
def s3_emulator() -> Iterator[str]:
    """Address of an emulator of S3 without buckets, for ``AWS_ENDPOINT_URL_S3``.

    Skips the test where moto or boto3 are not installed.
    """
    _need("moto", "moto[server]")
    _need("boto3", "apache-beam[aws]")
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    with _server("moto.server", ["-H", "127.0.0.1", "-p", str(port)], f"{address}/moto-api/data.json"):
        yield address


def _need(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{package} is not installed: pip install -e '.[dev]'")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _server(module: str, options: Sequence[str], url: str) -> Iterator[None]:
    server = subprocess.Popen(
        [sys.executable, "-m", module, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(url, server)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the server of {url} ended with {server.returncode}"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise TimeoutError(f"no answer from {url}")
