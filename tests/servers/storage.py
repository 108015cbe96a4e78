"""Cloud Storage: gcp-storage-emulator."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.servers.processes import HOST, Process, answers, free_port

PROJECT = "local-project"


@dataclass(frozen=True)
class CloudStorage:
    """A running emulator.

    Attributes:
      address: ``http://127.0.0.1:PORT``.
      bucket: name of the bucket that it was started with.
      environment: variables that point a client to it.
      process: to stop it and start it again; what it stored survives only where it has a directory.
    """

    address: str
    bucket: str
    environment: dict[str, str]
    process: Process

    def client(self) -> storage.Client:
        """A client that needs neither credentials nor environment."""
        return storage.Client(PROJECT, AnonymousCredentials(), client_options={"api_endpoint": self.address})

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Content of the bucket's objects by name."""
        bucket = self.client().bucket(self.bucket)
        return {blob.name: blob.download_as_bytes(raw_download=True) for blob in bucket.list_blobs(prefix=prefix)}


@contextmanager
def storage_emulator(bucket: str, directory: Path | None = None) -> Iterator[CloudStorage]:
    """An emulator of Cloud Storage with one empty bucket; in memory, if no directory is given.

    It ignores ``ifGenerationMatch=0``. Skips the test where gcp-storage-emulator is not installed.
    """
    if importlib.util.find_spec("gcp_storage_emulator") is None:
        pytest.skip("Cloud Storage emulator: gcp-storage-emulator is not installed: pip install -e '.[dev]'")
    port = free_port()
    address = f"http://{HOST}:{port}"
    command = [
        sys.executable, "-m", "gcp_storage_emulator", *([f"--data-dir={directory}"] if directory else []), "start",
        f"--host={HOST}", f"--port={port}", f"--default-bucket={bucket}", *([] if directory else ["--in-memory"]),
    ]  # fmt: skip
    ready = f"{address}/storage/v1/b/{bucket}"
    with Process("Cloud Storage emulator", command, lambda: answers(ready)) as process:
        yield CloudStorage(address, bucket, {"STORAGE_EMULATOR_HOST": address}, process)
