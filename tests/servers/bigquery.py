"""BigQuery, with its Storage Write API: local-bigquery, which speaks REST and gRPC over DuckDB."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

from tests.servers.processes import HOST, Process, Unavailable, accepts, answers, free_port, made_once, run

PROJECT = "local-project"
_REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements" / "bigquery-emulator.txt"
_MAJOR_MINOR = (3, 13)
"""The Python that local-bigquery needs."""


@dataclass(frozen=True)
class BigQuery:
    """A running emulator.

    Attributes:
      address: ``http://127.0.0.1:PORT``, of REST.
      write_address: ``127.0.0.1:PORT`` of the Storage Write API, gRPC without TLS.
      environment: variables that point Google's client of REST to it.
      process: it keeps its data when it is stopped and started again.
    """

    address: str
    write_address: str
    environment: dict[str, str]
    process: Process

    def client(self) -> bigquery.Client:
        """A client that needs neither credentials nor environment."""
        return bigquery.Client(PROJECT, AnonymousCredentials(), client_options={"api_endpoint": self.address})

    @contextmanager
    def write_client(self) -> Iterator[BigQueryWriteClient]:
        """A client of the Storage Write API."""
        with grpc.insecure_channel(self.write_address) as channel:
            yield BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))

    def create_dataset(self, name: str) -> None:
        self.client().create_dataset(name)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query answers, in its order."""
        return [tuple(row.values()) for row in self.client().query_and_wait(query)]


@contextmanager
def bigquery_emulator(environment: dict[str, str] | None = None) -> Iterator[BigQuery]:
    """An emulator of BigQuery without datasets of ours.

    It knows no permissions and no quotas, and takes decimals of more than 38 digits in Parquet as binary floats.
    Its own environment is made once per machine (Python 3.13 and 600 MB below ~/.cache/data-streamer); the test is
    skipped where that cannot be done.

    Args:
      environment: of the emulator, such as the ``environment`` of a ``CloudStorage`` that it loads gs:// objects from.
    """
    try:
        installed = made_once("local-bigquery", _REQUIREMENTS, _install)
    except Unavailable as error:
        pytest.skip(f"BigQuery emulator: {error}")
    port, write_port = free_port(), free_port()
    address = f"http://{HOST}:{port}"
    with tempfile.TemporaryDirectory(prefix="local-bigquery-") as data:
        command = [
            str(installed / "venv/bin/local-bigquery"), f"--host={HOST}", f"--port={port}",
            f"--grpc-port={write_port}", f"--project={PROJECT}", f"--data-dir={data}", "serve",
        ]  # fmt: skip
        ready = f"{address}/bigquery/v2/projects/{PROJECT}/datasets"
        with Process(
            "BigQuery emulator",
            command,
            lambda: answers(ready) and accepts(write_port),
            {"HOME": str(installed / "home"), **(environment or {})},
        ) as process:
            yield BigQuery(address, f"{HOST}:{write_port}", {"BIGQUERY_EMULATOR_HOST": address}, process)


def _install(directory: Path) -> None:
    """An environment of the emulator, and a home directory in which DuckDB finds its extensions."""
    python, venv = _python(), directory / "venv"
    run([python, "-m", "venv", venv], "making a virtual environment of Python 3.13")
    requirements: list[str | Path] = ["--require-hashes", "--quiet", "--requirement", _REQUIREMENTS]
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    command: list[str | Path]
    if uv:
        command = [uv, "pip", "install", "--python", venv / "bin/python", *requirements]
    else:
        command = [venv / "bin/python", "-m", "pip", "install", "--disable-pip-version-check", *requirements]
    run(command, "installing local-bigquery")
    ask = "import duckdb; print(duckdb.__version__, duckdb.sql('PRAGMA platform').fetchone()[0])"
    told = subprocess.run([venv / "bin/python", "-c", ask], check=True, capture_output=True, text=True, timeout=60)
    version, platform = told.stdout.split()
    extensions = directory / "home" / ".duckdb" / "extensions" / f"v{version}" / platform
    extensions.mkdir(parents=True)
    for extension in venv.glob("lib/*/site-packages/duckdb_extension_*/**/*.duckdb_extension"):
        (extensions / extension.name).symlink_to(extension)


def _python() -> Path:
    """A Python 3.13 of this machine.

    Raises:
      Unavailable: none was found that runs.
    """
    found = [Path(sys.executable), *(Path(path) for path in [shutil.which("python3.13")] if path)]
    found += sorted((Path.home() / ".pyenv" / "versions").glob("3.13*/bin/python3.13"), reverse=True)
    found += sorted((Path.home() / ".local/share/uv/python").glob("cpython-3.13*/bin/python3.13"), reverse=True)
    for candidate in found:
        ask = "import ensurepip, sys, venv; print(*sys.version_info[:2])"
        told = subprocess.run([candidate, "-c", ask], check=False, capture_output=True, text=True, timeout=60)
        if told.returncode == 0 and told.stdout.split() == [str(part) for part in _MAJOR_MINOR]:
            return candidate
    raise Unavailable("local-bigquery needs Python 3.13, and none was found (python3.13 on PATH, pyenv, uv)")
