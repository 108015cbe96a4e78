"""Destination type ``gcs``: files in a bucket of Google Cloud Storage."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from pydantic import Field

from schemas.destinations import DestinationOptions
from transforms.deliver.archive import ArchiveDestination, ArchiveOptions, ObjectStore, ObjectStoreError
from transforms.deliver.failures import Failure, FailureKind, MissingExtraError, SetupError, of_remote_error
from transforms.deliver.push.http import retry_after

_CONNECT = 10.0
"""Most seconds for a connection."""

_RIGHTS = ("storage.objects.create", "storage.objects.delete")
"""What replacing an object needs (Cloud Storage documentation, IAM permissions for JSON methods: objects.insert)."""


class GcsOptions(ArchiveOptions):
    """Files in a bucket of Cloud Storage."""

    type: Literal["gcs"] = Field(default="gcs", description="Type of the destination.")
    project: str | None = Field(
        default=None,
        min_length=1,
        description="Project of the client; without it that of the worker's credentials.",
        examples=["acme-iot"],
    )


class GcsDestination(ArchiveDestination[GcsOptions]):
    """Writes the files of a stream to a bucket of Google Cloud Storage.

    All formats and shapes. Shape csv in format csv is emnify's export: its columns, and its file names
    ``cdr_YYYYMMDD_HHmmss.csv`` and ``events_YYYYMMDD_HHmmss.csv``, each in a directory ``part=…`` of its own. Other
    files are ``part-<writer>-<bucket>-<pane>.<extension>``. Directories are ``dt=YYYY-MM-DD/hh=HH`` unless ``prefix``
    says otherwise. A file has at most ``flush_size`` entries.

    A live job writes when entries have waited for ``rotate_interval``, or when ``flush_size`` of them wait in a lane,
    whichever comes first, and when it stops. What waits then of one hour is one file, with the name of its first pane,
    unless ``prefix`` has ``{bucket}`` or ``{pane}``.

    Guarantee: exactly once. A file has the name of its hour, writer and pane, never of a clock: written again it is
    replaced with the same bytes, two writers never write the same file, and a run removes the files that it wrote
    before and does not any more. A reader may meet files of a run that has not ended. Order: none between files.
    `audit` counts the files again.

    Throttling, time-outs and 5xx are tried again with back-off (``Retry-After`` is heeded). Missing rights, bucket or
    credentials turn the stream to error, and its records stay pending. Rights needed: ``storage.objects.create`` and
    ``.delete`` (to replace), which are asked for before a run; ``.list`` to remove old files (without it a warning says
    that they may stay); ``.get`` for `audit`. Credentials are the worker's application default ones.

    Limits: one write per second to the same object name (Cloud Storage documentation, Quotas), which only retries meet.
    """

    options_model: ClassVar[type[DestinationOptions]] = GcsOptions
    extra: ClassVar[str | None] = "gcp"
    scheme: ClassVar[str] = "gs"

    def connect(self) -> ObjectStore:
        """A client with the worker's credentials; none with an emulator (``STORAGE_EMULATOR_HOST``)."""
        try:
            from google.auth.exceptions import GoogleAuthError
            from google.cloud.storage import Client
        except ImportError:
            raise MissingExtraError("google-cloud-storage", "gcp") from None
        # It would ask for the bucket's region beside the first request, for traces that nobody here reads.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        try:
            client = Client(project=self.options.project)
        except GoogleAuthError as error:
            raise SetupError(_failure(f"gs://{self.options.bucket}", error)) from None
        except OSError:  # the client's word for credentials that name no project
            text = f"gs://{self.options.bucket}: the credentials name no project"
            raise SetupError(Failure(FailureKind.MISCONFIGURED, text, "name it: destination.project")) from None
        return _CloudStorage(client, self.options.timeout)


class _CloudStorage(ObjectStore):
    def __init__(self, client: Any, timeout: float):
        from google.api_core.exceptions import GoogleAPIError, NotFound
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
        from requests.exceptions import RequestException

        self._client = client
        self._once = {"timeout": (min(timeout, _CONNECT), timeout), "retry": None}
        self._missing = NotFound
        self._errors = (GoogleAPIError, GoogleAuthError, DataCorruption, InvalidResponse, RequestException)

    def check(self, url: str) -> None:
        bucket = url.removeprefix("gs://").partition("/")[0]
        with self._told(f"gs://{bucket}"):
            allowed = self._client.bucket(bucket).test_iam_permissions(list(_RIGHTS), **self._once)
        missing = [right for right in _RIGHTS if right not in allowed]
        if missing:
            text = f"gs://{bucket}: the job's account lacks {', '.join(missing)}"
            remedy = "give it the role Storage Object User on the bucket"
            raise ObjectStoreError(Failure(FailureKind.MISCONFIGURED, text, remedy))

    def put(self, url: str, data: bytes) -> None:
        with self._told(url):
            self._blob(url).upload_from_string(data, "application/octet-stream", checksum="crc32c", **self._once)

    def get(self, url: str) -> bytes:
        with self._told(url):
            try:
                return bytes(self._blob(url).download_as_bytes(raw_download=True, **self._once))
            except self._missing:
                raise FileNotFoundError(url) from None

    def remove(self, url: str) -> None:
        with self._told(url):
            try:
                self._blob(url).delete(**self._once)
            except self._missing:
                return

    def list_objects(self, url: str) -> Iterator[str]:
        bucket, name = _names(url)
        with self._told(url):
            for blob in self._client.list_blobs(bucket, prefix=name, fields="items(name),nextPageToken", **self._once):
                yield f"gs://{bucket}/{blob.name}"

    def close(self) -> None:
        self._client.close()

    def _blob(self, url: str) -> Any:
        bucket, name = _names(url)
        return self._client.bucket(bucket).blob(name)

    @contextmanager
    def _told(self, where: str) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise ObjectStoreError(_failure(where, error)) from None


def _failure(where: str, error: Exception) -> Failure:
    failure = of_remote_error(where, error)
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return dataclasses.replace(failure, retry_after=retry_after(headers.get("Retry-After")))


def _names(url: str) -> tuple[str, str]:
    bucket, _, name = url.removeprefix("gs://").partition("/")
    return bucket, name
