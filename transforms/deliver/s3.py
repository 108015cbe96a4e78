"""Destination type ``s3``: files in a bucket of Amazon S3, or of a store that speaks its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from pydantic import Field

from schemas.destinations import DestinationOptions
from transforms.deliver.archive import ArchiveDestination, ArchiveOptions, ObjectStore, ObjectStoreError
from transforms.deliver.aws import EXTRA, AwsOptions, client_errors, of_client_error, session_client

_NOT_KNOWN = (405, 501)
"""How stores answer that do not know what they are asked for."""


class S3Options(AwsOptions, ArchiveOptions):
    """Files in a bucket of Amazon S3."""

    type: Literal["s3"] = Field(default="s3", description="Type of the destination.")


class S3Destination(ArchiveDestination[S3Options]):
    """Writes the files of a stream to a bucket of Amazon S3, or of a store with its protocol (``endpoint``).

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

    Throttling, time-outs and 5xx are tried again with back-off. Missing rights, bucket or credentials turn the stream
    to error, and its records stay pending. Rights needed: ``s3:PutObject``; to remove old files ``s3:ListBucket``
    (without it a warning says that they may stay) and ``s3:DeleteObject`` (without it the stream is in error where
    there are any); ``s3:GetObject`` for `audit`. With ``role_arn`` all is done in that role.

    Before a run it is asked whether the bucket is there (HeadBucket, which needs ``s3:ListBucket``: a refusal is left
    to what follows), and whether files may be written: an upload in parts is begun where the stream's files go, and
    given up at once, which leaves no object. Without ``s3:AbortMultipartUpload`` the begun upload stays, empty, until
    a lifecycle rule of the bucket removes it. A store that knows no uploads in parts shows the right with the first
    file.

    Limits: 5 GB for an object (Amazon S3 API reference, PutObject), which 100,000 entries do not reach.
    """

    options_model: ClassVar[type[DestinationOptions]] = S3Options
    extra: ClassVar[str | None] = EXTRA
    scheme: ClassVar[str] = "s3"

    def connect(self) -> ObjectStore:
        """A client, with the role's credentials where there is a role."""
        own = self.options
        return _S3(session_client("s3", own.region, own.role_arn, own.external_id, own.endpoint, own.timeout))


class _S3(ObjectStore):
    def __init__(self, client: Any):
        self._client, self._errors = client, client_errors()

    def check(self, url: str) -> None:
        names = _names(url)
        with self._told(f"s3://{names['Bucket']}", passing=(403,)):
            self._client.head_bucket(Bucket=names["Bucket"])
        with self._told(url, passing=_NOT_KNOWN):
            upload = self._client.create_multipart_upload(**names)["UploadId"]
            with self._told(url, passing=(403,)):
                self._client.abort_multipart_upload(**names, UploadId=upload)

    def put(self, url: str, data: bytes) -> None:
        with self._told(url):
            self._client.put_object(**_names(url), Body=data, ContentType="application/octet-stream")

    def get(self, url: str) -> bytes:
        with self._told(url):
            try:
                body = self._client.get_object(**_names(url))["Body"]
            except self._client.exceptions.NoSuchKey:
                raise FileNotFoundError(url) from None
            return bytes(body.read())

    def remove(self, url: str) -> None:
        with self._told(url):
            self._client.delete_object(**_names(url))

    def list_objects(self, url: str) -> Iterator[str]:
        names = _names(url)
        with self._told(url):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=names["Bucket"], Prefix=names["Key"])
            for page in pages:
                yield from (f"s3://{names['Bucket']}/{found['Key']}" for found in page.get("Contents", ()))

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _told(self, where: str, passing: tuple[int, ...] = ()) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            response = getattr(error, "response", None) or {}
            if response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in passing:
                raise ObjectStoreError(of_client_error(where, error)) from None


def _names(url: str) -> dict[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}
