"""The tables of streams in BigQuery: made from our schemas, extended by columns, asked what lies in them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from schemas.derive import bigquery_table
from schemas.tables import TABLES
from transforms.deliver.bigquery.options import BigQueryOptions
from transforms.deliver.destination import StreamDefinition
from transforms.deliver.failures import Failure, FailureKind, MissingExtraError

if TYPE_CHECKING:
    from google.cloud import bigquery

EXTRA = "gcp"
NO_RETRY: Any = None
"""Each request is made once: whoever asks tries again. (The clients' types do not know that they take None.)"""

LOAD_ID = "load_id"
"""Column that tells which load brought a row: beside the columns of the stream's table, only in BigQuery."""

_LOAD_ID = {
    "name": LOAD_ID,
    "type": "INTEGER",
    "mode": "NULLABLE",
    "description": "digest of the content of the load that brought the row; null where it was written row by row",
}
_SAME = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "BIGDECIMAL": "BIGNUMERIC", "DECIMAL": "NUMERIC"}


@dataclass(frozen=True, slots=True)
class Target:
    """The table of a stream.

    Attributes:
      project, dataset, table: its name.
      content: the table of ours that its rows are of.
    """

    project: str
    dataset: str
    table: str
    content: str

    @property
    def name(self) -> str:
        """``project.dataset.table``."""
        return f"{self.project}.{self.dataset}.{self.table}"

    def __str__(self) -> str:
        return f"BigQuery table {self.name}"


def target_of(stream: StreamDefinition) -> Target:
    """The table of a stream to BigQuery."""
    options: Any = stream.destination
    table = options.table or stream.name.replace("-", "_")
    return Target(options.project, options.dataset, table, stream.content)


def connect(project: str, location: str | None) -> bigquery.Client:
    """A client; nothing is asked yet. BIGQUERY_EMULATOR_HOST is heeded, without credentials.

    Raises:
      MissingExtraError: it is not installed.
      google.auth.exceptions.GoogleAuthError: there are no credentials.
    """
    try:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import bigquery
    except ImportError:
        raise MissingExtraError("google-cloud-bigquery", EXTRA) from None
    anonymous = AnonymousCredentials() if os.environ.get("BIGQUERY_EMULATOR_HOST") else None
    return bigquery.Client(project, anonymous, location=location)


class Tables:
    """Tables of one client, used by several threads. All methods may raise what the client raises; each request is
    made once.

    Args:
      client: the client.
      options: the destination's options.
    """

    def __init__(self, client: bigquery.Client, options: BigQueryOptions):
        self._client, self._create = client, options.create
        self._timeout, self._job_timeout = options.timeout, options.job_timeout
        self._ready: dict[Target, str | None] = {}
        self.made: set[Target] = set()
        """Tables that were made here: for minutes after that, other services of BigQuery may not know them yet."""
        self._lock = threading.Lock()

    def look(self, target: Target) -> tuple[Failure | None, bigquery.Table | None, list[dict[str, Any]]]:
        """What keeps rows from being put into a table, the table if there is one, and the columns that it lacks."""
        from google.api_core.exceptions import NotFound

        try:
            table = self._client.get_table(target.name, retry=NO_RETRY, timeout=self._timeout)
        except NotFound:
            self._client.get_dataset(f"{target.project}.{target.dataset}", retry=NO_RETRY, timeout=self._timeout)
            if self._create:
                return None, None, []
            remedy = f"create it by templates/warehouse/{target.content}.json, or let the stream: create: true"
            return Failure(FailureKind.MISCONFIGURED, f"{target} is missing", remedy), None, []
        found = {field.name.lower(): field for field in table.schema}
        wanted = _columns(target)
        for column in wanted:
            field = found.get(column["name"])
            if field is not None and not _fits(column, field):
                text = f"{target}: column {column['name']} is {field.field_type} {field.mode}"
                remedy = f"make it {column['type']} {column['mode']}, or name another table"
                return Failure(FailureKind.MISCONFIGURED, text, remedy), table, []
        ours = {column["name"] for column in wanted}
        foreign = [name for name, field in found.items() if field.mode == "REQUIRED" and name not in ours]
        if foreign:
            text = f"{target}: column {foreign[0]} is REQUIRED, and the stream does not have it"
            return Failure(FailureKind.MISCONFIGURED, text, "make it NULLABLE, or name another table"), table, []
        missing = [column for column in wanted if column["name"] not in found]
        if missing and not self._create:
            names = ", ".join(column["name"] for column in missing)
            remedy = "add them as NULLABLE by docs/tables.md, or let the stream: create: true"
            return Failure(FailureKind.MISCONFIGURED, f"{target} lacks columns: {names}", remedy), table, missing
        return None, table, missing

    def ready(self, target: Target) -> Failure | None:
        """Makes a table, or adds the columns that it lacks, where that is needed; asks once."""
        from google.cloud import bigquery

        with self._lock:
            if target in self._ready:
                return None
            failure, table, missing = self.look(target)
            if failure is not None:
                return failure
            if table is None:
                resource = bigquery_table(TABLES[target.content])
                resource["schema"]["fields"] = _columns(target)
                resource["tableReference"] = {
                    "projectId": target.project, "datasetId": target.dataset, "tableId": target.table
                }  # fmt: skip
                table = self._client.create_table(
                    bigquery.Table.from_api_repr(resource), exists_ok=True, retry=NO_RETRY, timeout=self._timeout
                )
                self.made.add(target)
            elif missing:
                # Added columns must be NULLABLE or REPEATED: ours are.
                table.schema = [*table.schema, *map(bigquery.SchemaField.from_api_repr, missing)]
                table = self._client.update_table(table, ["schema"], retry=NO_RETRY, timeout=self._timeout)
            self._ready[target] = table.location
            return None

    def forget(self, target: Target) -> None:
        """Looks again before the next rows: the table was not as it was found."""
        with self._lock:
            self._ready.pop(target, None)

    def location(self, target: Target) -> str | None:
        """Where a table that is ready lies; jobs must run there."""
        return self._ready.get(target)

    def loads(self, table: str, writer: str, day: int, location: str | None = None) -> dict[int | None, int]:
        """A writer's rows of a day in a table, by load.

        Args:
          table: ``project.dataset.table``.
          writer: whose rows.
          day: days since 1970-01-01, UTC.
          location: where it lies.
        """
        from google.cloud import bigquery

        sql = (
            f"SELECT {LOAD_ID}, COUNT(*) FROM `{table}` WHERE writer = @writer AND hour >= @start AND hour < @next "
            f"GROUP BY {LOAD_ID}"
        )
        parameters = [bigquery.ScalarQueryParameter("writer", "STRING", writer), *_day(day)]
        return dict(self._query(sql, parameters, location))

    def all_loads(self, table: str, writers: Collection[str]) -> dict[tuple[str, int, int], int]:
        """Rows of writers in a table, by writer, day and load; those that were written row by row are left out.

        Args:
          table: ``project.dataset.table``.
          writers: whose rows.
        """
        from google.cloud import bigquery

        # A table may insist on a filter of its partitions.
        sql = (
            f"SELECT writer, DIV(UNIX_SECONDS(hour), 86400), {LOAD_ID}, COUNT(*) FROM `{table}` "
            f"WHERE hour >= TIMESTAMP '1970-01-01' AND writer IN UNNEST(@writers) AND {LOAD_ID} IS NOT NULL "
            "GROUP BY 1, 2, 3"
        )
        parameters = [bigquery.ArrayQueryParameter("writers", "STRING", sorted(writers))]
        return {(writer, day, load): count for writer, day, load, count in self._query(sql, parameters, None)}

    def delete(
        self, table: str, writer: str, day: int, kept: Collection[int | None], location: str | None = None
    ) -> None:
        """Deletes a writer's rows of a day, those of some loads apart. Rows of other writers stay.

        Args:
          table: ``project.dataset.table``.
          writer: whose rows.
          day: days since 1970-01-01, UTC.
          kept: loads whose rows stay; None among them: and rows that were written row by row.
          location: where it lies.
        """
        from google.cloud import bigquery

        # Spelled out: whether null is in an empty list is seen differently.
        others = f"({LOAD_ID} IS NOT NULL AND {LOAD_ID} NOT IN UNNEST(@kept))"
        if None not in kept:
            others = f"({LOAD_ID} IS NULL OR {others})"
        sql = f"DELETE FROM `{table}` WHERE writer = @writer AND hour >= @start AND hour < @next AND {others}"
        parameters = [
            bigquery.ScalarQueryParameter("writer", "STRING", writer),
            bigquery.ArrayQueryParameter("kept", "INT64", sorted(load for load in kept if load is not None)),
            *_day(day),
        ]
        self._query(sql, parameters, location)

    def _query(self, sql: str, parameters: list[Any], location: str | None) -> list[Any]:
        from google.cloud import bigquery

        config = bigquery.QueryJobConfig(query_parameters=parameters, use_query_cache=False)
        job = self._client.query(
            sql, config, location=location, retry=NO_RETRY, job_retry=NO_RETRY, timeout=self._timeout
        )
        self.wait(job)
        result = job.result(retry=NO_RETRY, job_retry=NO_RETRY, timeout=self._timeout)
        return [tuple(row.values()) for row in result]

    def wait(self, job: Any) -> None:
        """Waits until a job has ended, well or not.

        Raises:
          TimeoutError: it takes longer than the options allow; it goes on.
        """
        until, pause = time.monotonic() + self._job_timeout, 0.1
        while not job.done(retry=NO_RETRY, timeout=self._timeout):
            if time.monotonic() > until:
                raise TimeoutError(f"job {job.job_id} is still under way")
            time.sleep(pause)
            pause = min(2 * pause, 5.0)


def _day(day: int) -> list[Any]:
    from google.cloud import bigquery

    start = datetime.fromtimestamp(day * 86_400, UTC)
    times = {"start": start, "next": start + timedelta(days=1)}
    return [bigquery.ScalarQueryParameter(name, "TIMESTAMP", time) for name, time in times.items()]


def _columns(target: Target) -> list[dict[str, Any]]:
    return [*bigquery_table(TABLES[target.content])["schema"]["fields"], _LOAD_ID]


def _fits(column: dict[str, Any], field: bigquery.SchemaField) -> bool:
    """Whether values of a column of ours go into a column that is there without a loss."""
    kind = _SAME.get(field.field_type, field.field_type)
    scale = field.scale
    precise = scale is None or int(scale) >= int(column.get("scale", 0))
    repeated = (field.mode == "REPEATED") == (column["mode"] == "REPEATED")
    return kind == column["type"] and precise and repeated and field.mode != "REQUIRED"
