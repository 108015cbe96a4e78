"""The destination type ``bigquery``."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.destinations import DestinationOptions
from transforms.deliver import storage
from transforms.deliver.answer import Answer
from transforms.deliver.bigquery import errors, tables, writing
from transforms.deliver.bigquery.content import Content
from transforms.deliver.bigquery.loading import Loader, day_of, parsed, path_of
from transforms.deliver.bigquery.offsets import DIRECTORY, Offsets
from transforms.deliver.bigquery.options import BigQueryOptions
from transforms.deliver.bigquery.tables import Tables, Target, target_of
from transforms.deliver.destination import Outcome, StreamDefinition
from transforms.deliver.failures import Failure, FailureKind, SetupError
from transforms.deliver.parts import Part
from transforms.deliver.push.attempts import until_settled
from transforms.deliver.push.batch import Batch, Limits
from transforms.deliver.push.identity import shards_of
from transforms.deliver.push.lane import deliver_lane
from transforms.deliver.push.pushed import PushedDestination
from transforms.deliver.push.sender import Sender
from transforms.deliver.selection import Selection
from transforms.deliver.storage import StoredFile

MOST_ROWS, MOST_BYTES = 5_000, 9_000_000
"""Rows and bytes of a request of the Storage Write API."""

_TEXT_BYTES = 4_000_000
"""Bytes of JSON that make a request: the same rows as Arrow are about as large, seldom twice."""


class BigQueryDestination(PushedDestination[BigQueryOptions]):
    """Puts the selected rows into a table of its own, with the columns of the stream's table and ``load_id``.

    The table is partitioned by the day of ``hour`` and clustered by organisation and device; cost and volumes are
    BIGNUMERIC, exact. It is created where it is missing, and gets columns that are missing to it (NULLABLE); nothing
    else of it is changed: a column of another type turns the stream to error. Format and shape do not apply.

    **load** (the default, for batch jobs): the rows of one writer and day are one Parquet file and one load job.
    Guarantee: exactly once. Each row carries the digest of its load, so that the table itself tells what is there: a
    retried bundle and a second run find their load and do nothing; a second run with another filter deletes the rows
    that the same writer had put there on these days, and loads the others. Rows of other writers are never touched: two
    writers may load the same day. Between deleting and loading, readers see the day without the writer's rows. All or
    nothing: no row is a dead letter. Order: none. `audit` counts the rows of each load again. A live job must use
    storage_write: each of its bundles would replace those before.

    Load jobs are free of charge; the queries that look and delete read three columns of one day. BigQuery takes 1,500
    load jobs a table and day, failed ones included (BigQuery: Quotas and limits): a run over more than 1,500 days
    leaves the others pending.

    **storage_write**: rows go to the Storage Write API as Arrow record batches of up to 5,000 rows and 9 MB (it takes
    10 MB), and can be read at once. Guarantee: at least once, in order within a shard; with ``exactly_once``, each
    batch goes to its own offset in a stream of its own, where BigQuery knows what it has, for as long as the same
    records come in the same batches (a retried bundle, a killed job that is run again, what waits in the spool). Where
    a second run has another filter, its rows come beside those of the first. Rows that BigQuery refuses become dead
    letters, and the others of the request are sent again without them. `audit` can check receipts only.

    Time-outs, 429, 5xx, rateLimitExceeded, backendError and quotaExceeded are tried again with back-off; no permission,
    no dataset, no table and a schema that does not fit turn the stream to error. Credentials are the worker's own
    (application default credentials), with roles/bigquery.jobUser on the project and roles/bigquery.dataEditor on the
    dataset. BIGQUERY_EMULATOR_HOST (http://HOST:PORT) is heeded, and for the Storage Write API
    BIGQUERY_STORAGE_EMULATOR_HOST (HOST:PORT).
    """

    options_model: ClassVar[type[DestinationOptions]] = BigQueryOptions
    recountable: ClassVar[bool] = True
    packs: ClassVar[bool] = False
    extra: ClassVar[str | None] = tables.EXTRA

    @classmethod
    def validate(cls, stream: StreamDefinition) -> list[str]:
        """A shape other than table, and batches that are too large or not sent at all."""
        options = stream.destination
        assert isinstance(options, BigQueryOptions)
        mistakes = []
        if stream.shape != "table":
            mistakes.append(f"takes the columns of the stream's table, not shape {stream.shape}: leave shape out")
        if options.method == "load" and (stream.batch.size or stream.batch.seconds):
            mistakes.append("sends no batches with method load: leave batch out, or use method storage_write")
        if options.method == "storage_write" and (stream.batch.size or 0) > MOST_ROWS:
            mistakes.append(f"takes batches of 1 to {MOST_ROWS:,} records: lower batch.size")
        return mistakes

    @classmethod
    def place(cls, stream: StreamDefinition) -> str | None:
        """The table."""
        return f"bigquery://{target_of(stream).name.lower()}"

    def setup(self) -> None:
        """Make the clients; nothing is asked yet."""
        options = self.options
        self._appender = None
        try:
            self._client = tables.connect(options.project, options.location)
            if options.method == "storage_write":
                self._appender = writing.Appender(writing.connect(), options.timeout)
        except Exception as error:
            if isinstance(error, SetupError):
                raise
            raise SetupError(errors.of_error("BigQuery", error)) from None
        self._tables = Tables(self._client, options)
        self._loader = Loader(self._client, self._tables, options)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        if self._appender is not None:
            self._appender.close()

    def preflight(self, stream: StreamDefinition, output: str) -> Failure | None:
        """Whether the dataset is there, and the table fits or can be made. Nothing is changed."""
        del output
        target = target_of(stream)
        try:
            failure, table, _ = self._tables.look(target)
        except Exception as error:  # noqa: BLE001 - as in `setup`
            return errors.of_error(str(target), error)
        wanted = self.options.location
        if failure is None and table is not None and wanted and (table.location or wanted).lower() != wanted.lower():
            text = f"{target} lies in {table.location}, not in {wanted}"
            return Failure(FailureKind.MISCONFIGURED, text, "correct location, or leave it out")
        return failure

    def lanes(self, part: Part, rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
        """By the day, which a load job takes; else by the device."""
        if self.options.method == "load":
            return np.full(rows.num_rows, day_of(part.hour), np.int64)
        return shards_of(rows, self.options.shards)

    def deliver_lane(
        self,
        parts: Iterable[tuple[Part, Selection]],
        stream: StreamDefinition,
        output: str,
        until: float | None = None,
    ) -> Iterator[tuple[Part, Outcome]]:
        """Deliver the parts of one shard."""
        if self.options.method == "load":
            yield from self._load_lane(parts, stream, until, lambda content: _kept(output, target_of(stream), content))
        else:
            yield from self._write_lane(parts, stream, output, until)

    def deliver(self, part: Part, rows: Selection, stream: StreamDefinition, output: str) -> Outcome:
        """Deliver one part by itself, beside whatever lies there."""
        if self.options.method == "load":
            ((_, outcome),) = self._load_lane([(part, rows)], stream, None, lambda _: None)
            return outcome
        return super().deliver(part, rows, stream, output)

    def _load_lane(
        self,
        parts: Iterable[tuple[Part, Selection]],
        stream: StreamDefinition,
        until: float | None,
        kept_of: Callable[[Content], Collection[int | None] | None],
    ) -> Iterator[tuple[Part, Outcome]]:
        """Gathers the parts by writer and day, and loads each as a whole, up to the first failure."""
        target = target_of(stream)
        with tempfile.TemporaryDirectory(prefix="data-streamer-bigquery-") as directory:
            contents: dict[tuple[str, str, int, bool], Content] = {}
            for part, rows in parts:
                key = (part.writer, part.table, day_of(part.hour), part.waited)
                if key not in contents:
                    contents[key] = Content(part.writer, part.table, os.path.join(directory, str(len(contents))))
                contents[key].add(part, rows.rows)
            failure: Failure | None = None
            for (_, table, day, _), content in contents.items():
                file = None
                if failure is None:
                    failure = _of_time(until) or _of_content(stream, table)
                if failure is None:
                    file = content.file()
                    kept = kept_of(content)
                    put = partial(self._loader.put, target, day, content.writer, file, kept)
                    failure = until_settled(put, self.options.retry, until)
                    os.unlink(file.stored.path)
                if failure is not None or file is None:
                    yield from ((part, Outcome(failure=failure)) for part in content.parts)
                    continue
                path = path_of(target.name, day, content.writer, file.load)
                files = [StoredFile(path, file.stored.row_count, file.stored.bytes, file.stored.checksum)]
                for part, count in zip(content.parts, content.counts, strict=True):
                    yield part, Outcome(count, files)
                    files = []  # the file is of all parts: it is listed with the first

    def limits(self, stream: StreamDefinition) -> Limits:
        """Those of the Storage Write API, and the stream's batch."""
        return Limits(min(stream.batch.size or MOST_ROWS, MOST_ROWS), _TEXT_BYTES, MOST_BYTES)

    def _write_lane(
        self, parts: Iterable[tuple[Part, Selection]], stream: StreamDefinition, output: str, until: float | None
    ) -> Iterator[tuple[Part, Outcome]]:
        if not self.options.exactly_once:
            yield from super().deliver_lane(parts, stream, output, until)
            return
        remaining = iter(parts)
        first = next(remaining, None)
        if first is None:
            return
        offsets = Offsets.read(output, stream.name, first[0].writer, first[0].shard)
        sender = Sender(lambda batch: self._send(batch, offsets), self.options.retry, self._breaker, self._pace, until)
        yield from deliver_lane(itertools.chain([first], remaining), stream, self.limits(stream), sender)

    def send(self, batch: Batch) -> Answer:
        """One attempt at the default stream."""
        return self._send(batch, None)

    def _send(self, batch: Batch, offsets: Offsets | None) -> Answer:
        """Appends a batch; where rows of it are refused, again without them."""
        target = target_of(batch.stream)
        try:
            failure = self._tables.ready(target)
        except Exception as error:  # noqa: BLE001 - as in `setup`
            failure = errors.of_error(str(target), error)
        if failure is not None:
            return Answer(failure)
        refused: dict[int, Failure] = {}
        places = np.arange(len(batch))
        while len(places):
            answer = self._append(target, batch.take(places), offsets)
            if answer.failure is not None:
                if not refused:
                    return answer
                return Answer(failures=refused | dict.fromkeys(places.tolist(), answer.failure))
            if not answer.failures:
                return Answer(failures=refused, said=answer.said)
            refused |= {int(places[at]): why for at, why in answer.failures.items()}
            places = np.delete(places, list(answer.failures))
        return Answer(failures=refused)

    def _append(self, target: Target, batch: Batch, offsets: Offsets | None) -> Answer:
        """One request."""
        assert self._appender is not None
        rows = writing.arrow_of(batch.rows)
        packed = rows.serialize().to_pybytes()
        if len(packed) > MOST_BYTES:
            text = f"{target}: {len(batch):,} rows have {len(packed):,} bytes, a request takes {MOST_BYTES:,}"
            return Answer(Failure(FailureKind.TOO_LARGE, text, "lower batch.size"))
        fresh = target in self._tables.made
        name, offset = writing.default_of(target), None
        if offsets is not None:
            if offsets.stream is None:
                made = self._appender.create(writing.parent_of(target))
                if isinstance(made, writing.Appended):
                    return Answer(writing.failure_of(target, made, fresh))
                offsets.begin(made)
            name, offset = str(offsets.stream), offsets.of(batch)
        answer = self._appender.append(name, rows, packed, offset)
        if answer.refused:
            if offsets is not None:
                offsets.free(batch)
            return Answer(failures={at: writing.refused(target, said) for at, said in answer.refused.items()})
        if answer.code == 0 or (offset is not None and answer.code == writing.ALREADY_EXISTS):
            return Answer(said=f"{len(batch):,} rows appended")
        if offsets is not None and writing.is_lost(answer):
            offsets.drop()
            text = f"{target}: the write stream {name.rsplit('/', 1)[1]} is gone, or does not end where it should"
            return Answer(Failure(FailureKind.TRANSIENT, text, "deliver what is pending: another one is made"))
        if answer.code == writing.NOT_FOUND:
            self._tables.forget(target)
        return Answer(writing.failure_of(target, answer, fresh))

    def sweep(
        self, stream: StreamDefinition, output: str, writer: str, listed: Collection[str], before: Collection[str]
    ) -> Failure | None:
        """Delete the rows of loads that the writer had committed, on days for which it lists none any more. (On the
        others, the load that it lists has replaced them.) What cannot be deleted now is noted for its next run.
        """
        noted = storage.join(output, DIRECTORY, stream.name, f"old-{writer}.json")
        old = set(before)
        if noted in storage.list_files(storage.join(output, DIRECTORY, stream.name)):
            old.update(json.loads(storage.read(noted)))
        kept: dict[tuple[str, int], set[int | None]] = {}
        for table, day, _, load in filter(None, map(parsed, listed)):
            kept.setdefault((table, day), {None}).add(load)
        stale = {found[:2] for found in map(parsed, old - set(listed)) if found is not None}
        for table, day in sorted(stale):
            failure = until_settled(
                partial(self._loader.remove, table, writer, day, kept.get((table, day), {None})), self.options.retry
            )
            if failure is not None:
                storage.publish(noted, json.dumps(sorted(old - set(listed))).encode())
                text = f"rows that an earlier run loaded, and this one did not, could not be deleted: {failure.error}"
                return Failure(failure.kind, text, f"{failure.remedy}; then run the job again")
        storage.remove(noted)
        return None

    def recount(self, paths: Sequence[str]) -> Mapping[str, int] | Failure:
        """Rows that lie in tables now, by load, as `audit` asks."""
        writers: dict[str, set[str]] = {}
        for table, _, writer, _ in filter(None, map(parsed, paths)):
            writers.setdefault(table, set()).add(writer)
        counted = dict.fromkeys(paths, 0)
        for table, names in sorted(writers.items()):
            try:
                found = self._tables.all_loads(table, names)
            except Exception as error:  # noqa: BLE001 - as in `setup`
                return errors.of_error(f"BigQuery table {table}", error)
            counted |= {path_of(table, day, writer, load): rows for (writer, day, load), rows in found.items()}
        return counted

    def try_out(self, part: Part, rows: pa.RecordBatch, stream: StreamDefinition, output: str) -> Answer:
        """One attempt at one sample record; a loaded one is deleted again."""
        if self.options.method == "storage_write":
            return super().try_out(part, rows, stream, output)
        outcome = self.deliver(part, Selection(rows), stream, output)
        if outcome.failure is not None:
            return Answer(outcome.failure)
        target = target_of(stream)
        failure = self._loader.remove(target.name, part.writer, day_of(part.hour), ())
        loaded = f"loaded 1 row into {target.name}"
        return Answer(
            said=f"{loaded}, which could not be deleted: {failure.error}" if failure else f"{loaded}, and deleted it"
        )


def _of_time(until: float | None) -> Failure | None:
    if until is None or time.monotonic() <= until:
        return None
    return Failure(FailureKind.TRANSIENT, "there was no time left to deliver", "deliver what is pending")


def _of_content(stream: StreamDefinition, table: str) -> Failure | None:
    if table == stream.content:
        return None
    text = f"stream {stream.name} carries {stream.content} now, but {table} wait for it"
    return Failure(
        FailureKind.MISCONFIGURED, text, "give it its content back, deliver, then change it under another name"
    )


def _kept(output: str, target: Target, content: Content) -> Collection[int | None]:
    """The loads that count beside what waited: those that the writer's ledger lists. Beside what a run brings: none."""
    if not content.parts[0].waited:
        return ()
    # The ledger knows the destinations, not the other way round, but for this.
    from transforms.ledger.commit import listed_files

    day = day_of(content.parts[0].hour)
    listed = [parsed(file.path) for file in listed_files(output, content.writer)]
    counting = (target.name, day, content.writer)
    return {None, *(found[3] for found in listed if found is not None and found[:3] == counting)}
