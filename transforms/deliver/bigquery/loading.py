"""Load jobs: the rows of one writer and day are put into the table once, whatever happened before.

The column ``load_id`` tells which load each row came with: the table itself says what lies there. A load job is all or
nothing, so the rows of a load are there completely or not at all. Before a load, the writer's rows of that day that are
of no load that counts are deleted; a load that is there already is not loaded again. What BigQuery remembers of jobs
(for six months) only keeps two attempts at the same load from running side by side: they have the same job id.

Which loads count? In a run, the lane holds all that the writer has for the stream and day: only the load of these rows
counts, and it replaces what the writer put there before, with whatever filter. What comes from the spool is a part of
that: beside it counts what the writer's ledger lists of the stream and day, and nothing else. So these end well:

- the job is killed between deleting, loading and committing: its repetition, or that of the bundle, finds less, more or
  nothing in the table, and puts it right;
- content A was loaded, then B with another filter, then A again: A's job is known to BigQuery as done, but the table
  says that its rows are gone, so it is loaded by the next job id;
- the stream was paused, or BigQuery was away, when B was to replace A: B waits in the spool, the ledger of B lists no
  load, and A is deleted when B is delivered from there;
- a delivery from the spool is killed before it is settled: the ledger does not list its load, and the next delivery
  finds exactly it, or deletes it where the rows that wait have changed since;
- the method was changed: rows of the other method have no ``load_id``. A run replaces them as it does loads, but beside
  what waited they stay, since no ledger tells whether they count.
"""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transforms.deliver import storage
from transforms.deliver.bigquery import errors
from transforms.deliver.bigquery.content import File
from transforms.deliver.bigquery.options import BigQueryOptions
from transforms.deliver.bigquery.tables import NO_RETRY, Tables, Target
from transforms.deliver.failures import Failure, FailureKind, of_missing_file_system, of_remote_error

if TYPE_CHECKING:
    from google.cloud import bigquery

_log = logging.getLogger(__name__)

SCHEME = "bigquery"
_PATH = re.compile(rf"{SCHEME}://([^/]+)/(\d+)/([^/]+)/(\d+)")
_DAY = 86_400_000_000
_MOST_JOBS = 1_000
"""Most job ids of one load that are tried: each job that failed has used one up."""


def day_of(hour: int) -> int:
    """Days since 1970-01-01 of an hour in microseconds, UTC."""
    return hour // _DAY


def path_of(table: str, day: int, writer: str, load: int) -> str:
    """What the ledger calls a load: ``bigquery://<project.dataset.table>/<day>/<writer>/<load_id>``."""
    return f"{SCHEME}://{table}/{day}/{writer}/{load}"


def parsed(path: str) -> tuple[str, int, str, int] | None:
    """Table, day, writer and load of such a path; None of other paths."""
    match = _PATH.fullmatch(path)
    return (match[1], int(match[2]), match[3], int(match[4])) if match else None


class Loader:
    """Loads files into tables. Every failure of BigQuery is returned, none raised.

    Args:
      client: the client.
      tables: its tables.
      options: the destination's options.
    """

    def __init__(self, client: bigquery.Client, tables: Tables, options: BigQueryOptions):
        self._client, self._tables, self._options = client, tables, options

    def put(
        self, target: Target, day: int, writer: str, file: File, kept: Collection[int | None] | None
    ) -> Failure | None:
        """One attempt to have a load, and the loads that are kept, as the only rows of a writer and day.

        Args:
          target: the table.
          day: the day.
          writer: whose rows they are.
          file: the file.
          kept: loads that count beside it, None among them standing for rows that were written row by row; no
            collection: leave whatever is there.
        """
        try:
            failure = self._tables.ready(target)
            return failure if failure is not None else self._put(target, day, writer, file, kept)
        except Exception as error:  # noqa: BLE001 - clients raise many kinds: `of_error` sorts them, and raises others
            failure = errors.of_error(str(target), error)
            if failure.kind is FailureKind.MISCONFIGURED:
                self._tables.forget(target)
            return failure

    def remove(self, table: str, writer: str, day: int, kept: Collection[int | None]) -> Failure | None:
        """One attempt to delete a writer's rows of a day, those of some loads apart."""
        from google.api_core.exceptions import NotFound

        try:
            self._tables.delete(table, writer, day, kept)
        except NotFound:
            return None  # with the table, the rows are gone
        except Exception as error:  # noqa: BLE001 - as above
            return errors.of_error(f"BigQuery table {table}", error)
        return None

    def _put(
        self, target: Target, day: int, writer: str, file: File, kept: Collection[int | None] | None
    ) -> Failure | None:
        location = self._tables.location(target)
        found = self._own(target, day, writer)
        whole = found.get(file.load) == file.stored.row_count
        if kept is not None:
            counted = {*kept, file.load} if whole else {*kept} - {file.load}
            if found.keys() - counted:
                self._tables.delete(target.name, writer, day, counted, location)
        return None if whole else self._load(target, day, writer, file)

    def _own(self, target: Target, day: int, writer: str) -> dict[int | None, int]:
        """The writer's rows of the day, by load."""
        return self._tables.loads(target.name, writer, day, self._tables.location(target))

    def _load(self, target: Target, day: int, writer: str, file: File) -> Failure | None:
        stem = f"data-streamer-{target.dataset}-{target.table}-{writer}-{day}-{file.load}"
        with self._staged(stem, file) as source:
            if isinstance(source, Failure):
                return source
            for number in range(_MOST_JOBS):
                name = f"{stem}-{number}"
                job, ours = self._job(target, name, source)
                failure = self._ended(target, job)
                if ours:
                    return failure
                if failure is None and self._own(target, day, writer).get(file.load) == file.stored.row_count:
                    return None
                # Of an earlier attempt: it failed, or its rows were deleted since.
        text = f"{target}: {_MOST_JOBS:,} load jobs of the same rows failed, {name} was the last"
        return Failure(FailureKind.MISCONFIGURED, text, f"see what it says (bq show --job=true {name})")

    def _job(self, target: Target, name: str, source: str) -> tuple[Any, bool]:
        """A load job of that name, and whether it was started now: BigQuery refuses to start one twice."""
        from google.api_core.exceptions import Conflict

        location = self._tables.location(target)
        try:
            return self._started(target, name, source, location), True
        except Conflict:
            job = self._client.get_job(name, target.project, location, retry=NO_RETRY, timeout=self._options.timeout)
            return job, False

    def _started(self, target: Target, name: str, source: str, location: str | None) -> bigquery.LoadJob:
        from google.cloud import bigquery

        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
            create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
            decimal_target_types=[bigquery.DecimalTargetType.BIGNUMERIC],
        )
        if storage.is_remote(source):
            return self._client.load_table_from_uri(
                source,
                target.name,
                name,
                location=location,
                job_config=config,
                retry=NO_RETRY,
                timeout=self._options.timeout,
            )
        with open(source, "rb") as file:
            return self._client.load_table_from_file(
                file,
                target.name,
                size=os.path.getsize(source),
                num_retries=0,
                job_id=name,
                location=location,
                job_config=config,
                timeout=self._options.timeout,
            )

    def _ended(self, target: Target, job: bigquery.LoadJob) -> Failure | None:
        """Waits for a job, and returns why it failed, if it did; None where it did not."""
        self._tables.wait(job)
        if not job.error_result:
            return None
        return errors.of_job(f"{target}: load job {job.job_id}", job.error_result)

    @contextmanager
    def _staged(self, stem: str, file: File) -> Iterator[str | Failure]:
        """Where a job finds the file: here, or in Cloud Storage until it has ended."""
        staging = self._options.staging
        if staging is None:
            yield file.stored.path
            return
        missing = of_missing_file_system(staging)
        if missing is not None:
            yield missing
            return
        # A name of each attempt: one that ends must not take away what another one's job still reads.
        url = storage.join(staging, f"{stem}-{uuid.uuid4().hex[:12]}.parquet")
        try:
            storage.copy(file.stored.path, url)
        except Exception as error:  # noqa: BLE001 - clients of object stores raise many kinds
            yield of_remote_error(url, error)
            return
        try:
            yield url
        finally:
            _discard(url)


def _discard(url: str) -> None:
    try:
        storage.remove(url)
    except Exception as error:  # noqa: BLE001 - the rows are loaded; what stays there costs a little
        _log.warning("%s could not be removed (%s): remove it, or let the bucket delete old objects", url, error)
