"""The Storage Write API: rows as Arrow record batches, appended to the default stream or at offsets of one's own."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from transforms.dead_letters import scrub
from transforms.deliver.bigquery.tables import EXTRA, Target
from transforms.deliver.failures import Failure, FailureKind, MissingExtraError

if TYPE_CHECKING:
    from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
    from google.cloud.bigquery_storage_v1.types import AppendRowsRequest, AppendRowsResponse

EMULATOR = "BIGQUERY_STORAGE_EMULATOR_HOST"
"""Environment variable: HOST:PORT of an emulator of the Storage Write API, spoken to without TLS and credentials."""

_BIG = pa.decimal256(76, 38)
"""How Arrow shows a BIGNUMERIC (BigQuery: Supported Protocol Buffers and Arrow data types)."""


def connect() -> BigQueryWriteClient:
    """A client; nothing is asked yet.

    Raises:
      MissingExtraError: it is not installed.
      google.auth.exceptions.GoogleAuthError: there are no credentials.
    """
    try:
        import grpc
        from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
        from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
    except ImportError:
        raise MissingExtraError("google-cloud-bigquery-storage", EXTRA) from None
    address = os.environ.get(EMULATOR)
    if not address:
        return BigQueryWriteClient()
    return BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=grpc.insecure_channel(address)))


def arrow_of(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Rows in the types that the Storage Write API documents: BIGNUMERIC as decimal256(76, 38), INT64 as int64."""
    kinds = [_kind(each.type) for each in rows.schema]
    columns = [column.cast(kind) for column, kind in zip(rows.columns, kinds, strict=True)]
    names = zip(rows.schema.names, kinds, strict=True)
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema([pa.field(name, kind) for name, kind in names]))


def _kind(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal(kind):
        return _BIG
    return pa.int64() if pa.types.is_integer(kind) else kind


class Connection:
    """One connection to one write stream, for requests one after another. Used by one thread at a time."""

    def __init__(self, client: BigQueryWriteClient, stream: str, timeout: float):
        self.stream = stream
        self._client, self._timeout = client, timeout
        self._requests: queue.SimpleQueue[AppendRowsRequest | None] = queue.SimpleQueue()
        self._answers: Any = None

    def append(self, rows: pa.RecordBatch, packed: bytes, offset: int | None) -> AppendRowsResponse:
        """Appends rows, and waits for the answer, for a bounded time.

        Args:
          rows: the rows,
          packed: and themselves as Arrow IPC.
          offset: where in the write stream they go; None: at its end.

        Raises:
          grpc.RpcError: the connection broke, or no answer came in time.
        """
        from google.cloud.bigquery_storage_v1 import types

        request = types.AppendRowsRequest()
        request.arrow_rows.rows.serialized_record_batch = packed
        if offset is not None:
            request.offset = offset
        if self._answers is None:
            request.write_stream = self.stream
            request.arrow_rows.writer_schema.serialized_schema = rows.schema.serialize().to_pybytes()
            # Not by the client's own method: it waits for the first answer, however long that takes.
            call: Any = self._client.transport.append_rows
            self._answers = call(
                iter(self._requests.get, None), metadata=(("x-goog-request-params", f"write_stream={self.stream}"),)
            )
        self._requests.put(request)
        timer = threading.Timer(self._timeout, self._answers.cancel)
        timer.daemon = True
        timer.start()
        try:
            return next(self._answers)
        finally:
            timer.cancel()

    def close(self) -> None:
        """Ends the connection."""
        self._requests.put(None)
        if self._answers is not None:
            self._answers.cancel()


@dataclass(frozen=True, slots=True)
class Appended:
    """What BigQuery said to a request.

    Attributes:
      code: code of gRPC; 0: the rows are appended.
      said: its words about it.
      refused: why rows are refused, by their place; none of the request was appended then.
    """

    code: int = 0
    said: str = ""
    refused: Mapping[int, str] = field(default_factory=dict)


class Appender:
    """Appends rows to write streams, over connections that stay open. May be used by several threads.

    Args:
      client: the client.
      timeout: seconds to wait for each answer.
    """

    def __init__(self, client: BigQueryWriteClient, timeout: float):
        self._client, self._timeout = client, timeout
        self._idle: dict[str, list[Connection]] = {}
        self._lock = threading.Lock()

    def append(self, stream: str, rows: pa.RecordBatch, packed: bytes, offset: int | None) -> Appended:
        """One attempt at one request.

        Args:
          stream: name of the write stream.
          rows: the rows,
          packed: and themselves as Arrow IPC.
          offset: where in the write stream they go; None: at its end.
        """
        import grpc

        with self._lock:
            idle = self._idle.setdefault(stream, [])
            connection = idle.pop() if idle else Connection(self._client, stream, self._timeout)
        try:
            response = connection.append(rows, packed, offset)
        except (grpc.RpcError, StopIteration) as error:
            connection.close()
            if isinstance(error, grpc.Call):
                return Appended(error.code().value[0], str(error.details()))
            return Appended(UNAVAILABLE, "the connection was closed")
        if response.error.code and not response.row_errors:
            connection.close()  # BigQuery ends it after most errors
            return Appended(response.error.code, response.error.message)
        with self._lock:
            idle.append(connection)
        return Appended(response.error.code, refused={each.index: each.message for each in response.row_errors})

    def create(self, parent: str) -> str | Appended:
        """Makes a write stream of our own, whose rows can be read as soon as they are appended.

        Args:
          parent: the table, as `parent_of` gives it.

        Returns:
          its name; or what BigQuery said instead.
        """
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.cloud.bigquery_storage_v1 import types

        kind = types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
        try:
            made = self._client.create_write_stream(parent=parent, write_stream=kind, retry=None, timeout=self._timeout)
        except GoogleAPICallError as error:
            code = error.grpc_status_code
            return Appended(UNAVAILABLE if code is None else code.value[0], str(error.message))
        except RetryError:
            return Appended(UNAVAILABLE, "no answer")
        return str(made.name)

    def close(self) -> None:
        """Closes all connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        self._client.transport.close()


def parent_of(target: Target) -> str:
    """A table as the Storage Write API names it."""
    return f"projects/{target.project}/datasets/{target.dataset}/tables/{target.table}"


def default_of(target: Target) -> str:
    """The default stream of a table: at least once, without offsets."""
    return f"{parent_of(target)}/streams/_default"


def failure_of(target: Target, answer: Appended, fresh: bool = False) -> Failure:
    """The failure that a code of gRPC stands for.

    Args:
      target: the table.
      answer: what BigQuery said.
      fresh: whether the table was made a moment ago: the Storage Write API may not know it yet.
    """
    name, remedy = _CODES.get(answer.code, (f"code {answer.code}", None))
    words = f": {_words(answer.said)}" if answer.code in (NOT_FOUND, PERMISSION_DENIED) else ""
    text = f"{target}, Storage Write API: {name}{words}"
    if remedy is None or (fresh and answer.code == NOT_FOUND):
        return Failure(FailureKind.TRANSIENT, text, "deliver what is pending when BigQuery answers again")
    return Failure(FailureKind.MISCONFIGURED, text, remedy)


def refused(target: Target, said: str) -> Failure:
    """The failure of a row that BigQuery refuses."""
    return Failure(FailureKind.REJECTED, f"{target}: {_words(said)}", "see what BigQuery says about the record")


def is_lost(answer: Appended) -> bool:
    """Whether a write stream of our own is gone, or does not stand where it should."""
    if answer.code == INVALID_ARGUMENT:
        return "stream" in answer.said.lower()
    return answer.code in (NOT_FOUND, OUT_OF_RANGE)


def _words(said: str) -> str:
    return " ".join(scrub(said.encode()).decode(errors="replace").split())[:_SAID]


INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, OUT_OF_RANGE, UNAVAILABLE = 3, 5, 6, 7, 11, 14
"""Codes of gRPC that have a meaning here."""

_SAID = 300
_CODES = {
    1: ("no answer in time", None),
    2: ("UNKNOWN", None),
    INVALID_ARGUMENT: ("INVALID_ARGUMENT", "compare the table's schema with docs/tables.md"),
    4: ("DEADLINE_EXCEEDED", None),
    NOT_FOUND: ("NOT_FOUND", "create the table, or correct project, dataset and table"),
    PERMISSION_DENIED: ("PERMISSION_DENIED", "give the job's account roles/bigquery.dataEditor on the dataset"),
    8: ("RESOURCE_EXHAUSTED", None),
    9: ("FAILED_PRECONDITION", None),
    10: ("ABORTED", None),
    OUT_OF_RANGE: ("OUT_OF_RANGE", None),
    12: ("UNIMPLEMENTED", "name an endpoint that has the Storage Write API"),
    13: ("INTERNAL", None),
    UNAVAILABLE: ("UNAVAILABLE", None),
    16: ("UNAUTHENTICATED", "give the job credentials for BigQuery"),
}
