"""Archives in Cloud Storage and S3, by the real clients: names, sizes, replays, rights, and stores that fail."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from email.utils import formatdate
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import requests
from google.api_core.exceptions import ServiceUnavailable
from pydantic import ValidationError

from schemas.streams import Batch
from tests.servers.aws import REGION, Aws, aws_emulator
from tests.servers.http import Answer, Request, receiver
from tests.servers.proxy import Fault, HttpProxy, http_proxy
from tests.servers.storage import CloudStorage, storage_emulator
from tests.transforms.deliver.support import HOUR, WRITER, Stream, part_of, rows_of
from transforms.deliver import formats, registry, storage
from transforms.deliver.archive import ArchiveDestination, ArchiveOptions, ObjectStore, ObjectStoreError
from transforms.deliver.failures import FailureKind
from transforms.deliver.gcs import GcsDestination, GcsOptions
from transforms.deliver.gcs import _failure as gcs_failure
from transforms.deliver.parts import Part
from transforms.deliver.s3 import S3Destination, S3Options
from transforms.deliver.selection import Selection
from warehouse.recount import count_rows, problem

BUCKET = "acme-iot"
CELL = "dt=2021-11-15/hh=20"
ROWS = rows_of("usage", *({"usage_id": number} for number in range(1, 4)))
ONCE: dict[str, Any] = {"retry": {"attempts": 1}}
TWICE: dict[str, Any] = {"retry": {"attempts": 2, "seconds": 30}, "timeout": 1}


@dataclass
class Cloud:
    """An object store behind a proxy.

    Attributes:
      scheme: of its URLs.
      proxy: what the destinations' clients reach it by.
      server: what holds the objects.
    """

    scheme: str
    proxy: HttpProxy
    server: CloudStorage | Aws

    def stream(self, name: str, form: str = "ndjson", shape: str = "table", **options: Any) -> Stream:
        """A stream to this store."""
        kind: type[ArchiveOptions] = GcsOptions if self.scheme == "gs" else S3Options
        destination = kind.model_validate({"bucket": BUCKET, **options})
        return Stream(name=name, format=form, shape=shape, destination=destination)

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Content of objects by name."""
        if isinstance(self.server, Aws):
            return self.server.objects(BUCKET, prefix)
        return self.server.objects(prefix)


@pytest.fixture(scope="module")
def s3() -> Iterator[Cloud]:
    with aws_emulator() as server, http_proxy(server.address) as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value.replace(server.address, proxy.address))
        server.create_bucket(BUCKET)
        yield Cloud("s3", proxy, server)


@pytest.fixture(scope="module")
def gcs() -> Iterator[Cloud]:
    with storage_emulator(BUCKET) as server, http_proxy(server.address) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", proxy.address)
        yield Cloud("gs", proxy, server)


@pytest.fixture(params=["gcs", "s3"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    found: Cloud = request.getfixturevalue(request.param)
    found.proxy.inject(Fault.NONE)
    return found


def made(stream: Stream) -> ArchiveDestination[Any]:
    destination = registry.DESTINATIONS[stream.destination.type](stream.destination)
    assert isinstance(destination, ArchiveDestination)
    return destination


def deliver(stream: Stream, rows: pa.RecordBatch = ROWS, **part: Any) -> Any:
    with closing(made(stream)) as destination:
        destination.setup()
        return destination.deliver(part_of(stream.name, stream.content, **part), Selection(rows), stream, "/out")


def many(count: int) -> pa.RecordBatch:
    """Rows that differ by their id."""
    rows = ROWS.take(pa.array(np.zeros(count, np.int64)))
    return rows.set_column(rows.schema.names.index("usage_id"), "usage_id", pa.array(range(count), pa.int64()))


# Names


def names(stream: Stream, *writers: str) -> list[str]:
    destination = made(stream)
    parts = (Part("archive", "usage", HOUR, *place) for place in product((0, 2, 3), writers, (0, 3, 4)))
    return [destination.path_of(part, stream, number) for part in parts for number in (0, 3, 4)]


@pytest.mark.parametrize(("form", "shape"), [("ndjson", "table"), ("csv", "csv")])
def test_no_two_files_of_any_writers_have_one_name_and_each_writer_knows_its_own(form: str, shape: str) -> None:
    stream = Stream(format=form, shape=shape, destination=S3Options(bucket=BUCKET))
    # Names end in what looks like a bucket and a pane: no hyphen may be read as another writer's.
    writers = ("job", "job-2", "job-2-3", "job-2-3-4", WRITER)
    paths = names(stream, *writers)
    assert len(set(paths)) == len(paths)
    for writer in writers:
        own, objects, destination = set(names(stream, writer)), Listed(set(paths)), made(stream)
        destination._store = objects
        assert destination.sweep(stream, "/out", writer, (), ()) is None
        assert objects.left == set(paths) - own


class Listed(ObjectStore):
    """Objects by their URLs alone."""

    def __init__(self, left: set[str]) -> None:
        self.left = left

    def list_objects(self, url: str) -> Iterator[str]:
        yield from [path for path in self.left if path.startswith(url)]

    def remove(self, url: str) -> None:
        self.left.remove(url)

    check = put = get = close = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("content", "form", "shape", "number", "name"),
    [
        ("usage", "csv", "csv", 0, f"part={WRITER}-0-0/cdr_20211115_200000.csv"),
        ("events", "csv", "csv", 0, f"part={WRITER}-0-0/events_20211115_200000.csv"),
        ("usage", "csv", "csv", 2, f"part={WRITER}-0-0.2/cdr_20211115_200000.csv"),
        ("usage", "csv", "table", 0, f"part-{WRITER}-0-0.csv"),
        ("usage", "ndjson", "csv", 2, f"part-{WRITER}-0-0.2.ndjson.gz"),
    ],
)
def test_files_are_named_by_what_they_hold(content: str, form: str, shape: str, number: int, name: str) -> None:
    stream = Stream(content=content, format=form, shape=shape, destination=GcsOptions(bucket=BUCKET))
    path = made(stream).path_of(part_of("archive", content), stream, number)
    assert path == f"gs://{BUCKET}/archive/{CELL}/{name}"


@pytest.mark.parametrize(
    ("prefix", "directory"),
    [("", CELL), ("/a/{stream}/", f"a/archive/{CELL}"), ("{content}/{date}", "usage/2021-11-15/hh=20"),
     ("{hour}/{writer}/{bucket}-{pane}", f"20/{WRITER}/0-0/dt=2021-11-15")],
)  # fmt: skip
def test_a_prefix_has_the_places_of_a_path(prefix: str, directory: str) -> None:
    stream = Stream(destination=S3Options(bucket=BUCKET, prefix=prefix))
    assert made(stream).path_of(part_of(), stream).rsplit("/", 1)[0] == f"s3://{BUCKET}/{directory}"


@pytest.mark.parametrize(
    ("given", "says"),
    [({"prefix": "{day}"}, "{day} is none of"), ({"flush_size": 9_999}, "10000"), ({"flush_size": 100_001}, "100000"),
     ({"rotate_interval": 9}, "10"), ({"rotate_interval": 901}, "900"), ({"bucket": "Acme"}, "bucket"),
     ({"rate": {"requests_per_second": 1}}, "must be 1 where a rate is given"), ({"external_id": "x1"}, "role_arn")],
)  # fmt: skip
def test_mistakes_in_options_are_found_at_once(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        S3Options.model_validate({"bucket": BUCKET, **given})
    assert says in str(error.value)


def test_two_streams_do_not_share_files() -> None:
    def streams(first: Stream, second: Stream) -> list[tuple[int, str]]:
        return [(at, field) for at, field, _ in registry.check_streams([first, second])]

    usage = Stream("a", format="csv", shape="csv", destination=S3Options(bucket=BUCKET, prefix="x"))
    assert streams(usage, replace(usage, name="b")) == [(1, "destination")]
    assert streams(usage, replace(usage, name="b", content="events")) == []
    assert streams(usage, replace(usage, name="b", destination=GcsOptions(bucket=BUCKET, prefix="x"))) == []
    assert streams(usage, replace(usage, name="b", destination=S3Options(bucket=BUCKET))) == []


def test_a_batch_is_a_mistake() -> None:
    stream = Stream(destination=S3Options(bucket=BUCKET), batch=Batch(size=5))
    assert "flush_size" in " ".join(made(stream).validate(stream))


def test_hours_are_spread_over_the_shards() -> None:
    destination = made(Stream(destination=S3Options(bucket=BUCKET, shards=3)))
    shards = [destination.lanes(part_of(hour=HOUR + 3_600_000_000 * hour), ROWS) for hour in range(24)]
    assert all(len(set(lanes.tolist())) == 1 for lanes in shards)
    assert {int(lanes[0]) for lanes in shards} == {0, 1, 2}


# What lies in the bucket


@pytest.mark.parametrize(
    ("form", "shape"), [(name, shape) for name, form in formats.FORMATS.items() for shape in form.shapes]
)
def test_every_format_and_shape_lies_there_as_it_was_packed(cloud: Cloud, form: str, shape: str) -> None:
    stream = cloud.stream(f"{form}-{shape}", form, shape)
    outcome = deliver(stream)
    (file,), ((name, data),) = outcome.files, cloud.objects(f"{stream.name}/").items()
    assert (outcome.delivered, outcome.failure) == (3, None)
    assert file.path == f"{cloud.scheme}://{BUCKET}/{name}" and name.startswith(f"{stream.name}/{CELL}/")
    assert data == formats.encode(form, shape, "usage", ROWS)
    assert (file.row_count, file.bytes, file.checksum) == (3, len(data), storage.checksum(data))
    with closing(made(stream)) as destination:
        destination.setup()
        assert count_rows(file.path, destination.opened) == 3
        assert problem(file.path, 3, file.bytes, file.checksum, destination.opened) is None
        assert "has changed" in str(problem(file.path, 3, file.bytes, storage.checksum(b""), destination.opened))
        assert problem(f"{file.path}x", None, None, None, destination.opened) == "is missing"


def test_more_than_the_flush_size_becomes_files_in_order(cloud: Cloud) -> None:
    stream = cloud.stream("large", "parquet")
    rows = many(25_000)
    outcome = deliver(stream, rows)
    assert outcome.delivered == 25_000 and [file.row_count for file in outcome.files] == [10_000, 10_000, 5_000]
    assert [file.path.rsplit("/", 1)[1] for file in outcome.files] == [
        f"part-{WRITER}-0-0.parquet", f"part-{WRITER}-0-0.1.parquet", f"part-{WRITER}-0-0.2.parquet"
    ]  # fmt: skip
    found = cloud.objects("large/")
    ids = [
        pa.parquet.read_table(pa.BufferReader(found[file.path.split("/", 3)[3]])).column("usage_id").to_pylist()
        for file in outcome.files
    ]
    assert sum(ids, []) == list(range(25_000))


def test_a_file_that_is_sent_in_several_requests_arrives_whole(cloud: Cloud) -> None:
    stream = cloud.stream("long", "json")
    (file,) = deliver(stream, many(10_000)).files
    assert file.bytes > 8 << 20  # from there on Cloud Storage's client sends in parts
    (data,) = cloud.objects("long/").values()
    assert [record["usage_id"] for record in json.loads(data)] == list(range(10_000))


def test_the_same_part_again_leaves_the_same_objects(cloud: Cloud) -> None:
    stream = cloud.stream("again", "csv", "csv")
    first, before = deliver(stream), cloud.objects("again/")
    assert deliver(stream).files == first.files and cloud.objects("again/") == before != {}


def test_two_writers_leave_each_others_files(cloud: Cloud) -> None:
    stream = cloud.stream("two", "csv", "csv")
    deliver(stream, writer="one")
    (own,) = deliver(stream, ROWS.slice(1), writer="two").files
    before = cloud.objects("two/")
    assert len(before) == 2
    with closing(made(stream)) as destination:
        destination.setup()
        assert destination.sweep(stream, "/out", "two", {own.path}, ()) is None
        assert cloud.objects("two/") == before
        assert destination.sweep(stream, "/out", "two", (), ()) is None
    assert list(cloud.objects("two/")) == [f"two/{CELL}/part=one-0-0/cdr_20211115_200000.csv"]


def test_a_sweep_also_removes_what_was_listed_elsewhere(cloud: Cloud) -> None:
    moved, stream = cloud.stream("moved", prefix="elsewhere"), cloud.stream("moved")
    (old,), (new,) = deliver(moved).files, deliver(stream).files
    with closing(made(stream)) as destination:
        destination.setup()
        assert destination.sweep(stream, "/out", WRITER, {new.path}, {old.path, f"{old.path}-gone"}) is None
    assert cloud.objects("elsewhere/") == {} and len(cloud.objects("moved/")) == 1


def test_credentials_that_only_write_are_told_that_old_files_stay(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    stream = cloud.stream("write-only")
    deliver(stream)
    cloud.proxy.inject(Fault.FORBIDDEN, only=lambda method, path: "prefix=" in path)
    with closing(made(stream)) as destination, caplog.at_level(logging.WARNING):
        destination.setup()
        assert destination.sweep(stream, "/out", WRITER, (), ()) is None
    assert "stream write-only: its files cannot be listed" in caplog.text
    assert len(cloud.objects("write-only/")) == 1


def test_a_file_that_cannot_be_removed_is_a_failure(cloud: Cloud) -> None:
    stream = cloud.stream("stale")
    deliver(stream)
    cloud.proxy.inject(Fault.FORBIDDEN, only=lambda method, path: method == "DELETE")
    with closing(made(stream)) as destination:
        destination.setup()
        failure = destination.sweep(stream, "/out", WRITER, (), ())
    assert failure is not None and failure.kind is FailureKind.MISCONFIGURED
    assert "could not be removed" in failure.error and failure.remedy.endswith("then run the job again")


def test_a_sample_is_written_and_removed(cloud: Cloud) -> None:
    stream = cloud.stream("sample", "csv", "csv")
    with closing(made(stream)) as destination:
        destination.setup()
        answer = destination.try_out(part_of("sample"), ROWS.slice(0, 1), stream, "/out")
    assert answer.failure is None and answer.said.startswith(f"wrote {cloud.scheme}://{BUCKET}/sample/{CELL}/part=")
    assert answer.said.endswith("and removed it") and cloud.objects("sample/") == {}


# Faults


def preflight(stream: Stream) -> Any:
    with closing(made(stream)) as destination:
        destination.setup()
        return destination.preflight(stream, "/out")


def test_a_missing_bucket_is_found_before_the_run_and_is_not_tried_again(cloud: Cloud) -> None:
    assert preflight(cloud.stream("there")) is None
    stream = cloud.stream("missing", bucket="nowhere-at-all")
    found = preflight(stream)
    assert found.kind is FailureKind.MISCONFIGURED and f"{cloud.scheme}://nowhere-at-all" in found.error
    cloud.proxy.inject(Fault.NONE)
    outcome = deliver(stream)
    assert (outcome.delivered, outcome.files, outcome.failure.kind) == (0, [], FailureKind.MISCONFIGURED)
    assert cloud.proxy.requests == 1 and "create" in outcome.failure.remedy


def test_s3_is_asked_for_the_right_to_write_where_the_files_go_and_nothing_stays(s3: Cloud) -> None:
    stream, asked = s3.stream("asked", prefix="asked/{date}"), []

    def of_uploads(method: str, path: str) -> bool:
        asked.append((method, path))
        return method == "POST" and "uploads" in path

    s3.proxy.inject(Fault.FORBIDDEN, only=of_uploads)
    found = preflight(stream)
    assert found.kind is FailureKind.MISCONFIGURED and "right" in found.remedy and s3.proxy.faults == 1
    assert f"/{BUCKET}/asked/1970-01-01/hh%3D00/part-preflight-" in asked[-1][1]
    s3.proxy.inject(Fault.NONE)
    assert preflight(stream) is None
    assert not s3.objects("asked/") and not s3.server.uploads(BUCKET)
    # Whoever may write need not be allowed to give an upload up: it stays, empty, and the stream runs.
    s3.proxy.inject(Fault.FORBIDDEN, only=lambda method, path: method == "DELETE")
    assert preflight(stream) is None and s3.proxy.faults == 1
    assert not s3.objects("asked/")
    s3.proxy.inject(Fault.NONE)


@pytest.mark.parametrize("fault", [Fault.UNAUTHORISED, Fault.FORBIDDEN])
def test_a_refusal_is_not_tried_again(cloud: Cloud, fault: Fault) -> None:
    cloud.proxy.inject(fault)
    outcome = deliver(cloud.stream("refused"))
    assert (outcome.delivered, outcome.failure.kind, cloud.proxy.requests) == (0, FailureKind.MISCONFIGURED, 1)


@pytest.mark.parametrize(
    "fault", [Fault.ERROR, Fault.UNAVAILABLE, Fault.THROTTLED, Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.HANG]
)
def test_what_passes_is_tried_again(cloud: Cloud, fault: Fault) -> None:
    stream = cloud.stream(f"passing-{fault.name.lower()}", **TWICE)
    # Of the requests, every second one from the first on.
    numbers = iter(range(10))
    cloud.proxy.inject(fault, only=lambda method, path: next(numbers) % 2 == 0)
    outcome = deliver(stream)
    assert (outcome.delivered, outcome.failure, cloud.proxy.faults) == (3, None, 1)
    cloud.proxy.inject(Fault.NONE)
    assert len(cloud.objects(f"{stream.name}/")) == 1


def test_a_rate_holds_from_one_delivery_to_the_next(cloud: Cloud) -> None:
    stream = cloud.stream("paced", shards=1, rate={"requests_per_second": 0.01})
    first, second = ([(part_of("paced", pane=pane), Selection(ROWS))] for pane in range(2))
    with closing(made(stream)) as destination:
        destination.setup()
        until = time.monotonic() + 30
        assert [outcome.delivered for _, outcome in destination.deliver_lane(first, stream, "/out", until)] == [3]
        # Its turn comes after the end of the time that there is.
        ((_, outcome),) = destination.deliver_lane(second, stream, "/out", until)
    assert outcome.failure is not None and "no time left" in outcome.failure.error and cloud.proxy.requests == 1


@pytest.mark.parametrize(("given", "seconds"), [("7", 7), ("soon", None), (None, None)])
def test_cloud_storage_may_ask_to_wait_for_seconds(given: str | None, seconds: float | None) -> None:
    failure = gcs_failure("gs://acme-iot", asking(given))
    assert (failure.kind, failure.retry_after) == (FailureKind.TRANSIENT, seconds)


def test_cloud_storage_may_ask_to_wait_until_a_date() -> None:
    failure = gcs_failure("gs://acme-iot", asking(formatdate(time.time() + 100, usegmt=True)))
    assert 90 < (failure.retry_after or 0) <= 100


def asking(given: str | None) -> Exception:
    """What the client raises at a 503 that asks to wait."""
    response = requests.Response()
    response.status_code = 503
    response.headers.update({} if given is None else {"Retry-After": given})
    return ServiceUnavailable("busy", response=response)


def test_a_store_that_hangs_leaves_all_pending_in_bounded_time_and_takes_them_later(cloud: Cloud) -> None:
    stream = cloud.stream("hanging", **TWICE)
    parts = [(part_of("hanging", pane=pane), Selection(ROWS)) for pane in range(3)]
    cloud.proxy.inject(Fault.HANG)
    started = time.monotonic()
    with closing(made(stream)) as destination:
        destination.setup()
        outcomes = [outcome for _, outcome in destination.deliver_lane(parts, stream, "/out")]
        assert time.monotonic() - started < 10
        assert [outcome.failure.kind for outcome in outcomes if outcome.failure] == [FailureKind.TRANSIENT] * 3
        assert cloud.proxy.requests == 2  # the others wait
        failure = destination.preflight(stream, "/out")
        assert failure is not None and failure.kind is FailureKind.TRANSIENT
        assert destination.sweep(stream, "/out", WRITER, (), ()) is not None
        with pytest.raises(ObjectStoreError):
            destination.opened(f"{cloud.scheme}://{BUCKET}/x")
        cloud.proxy.inject(Fault.NONE)
        again = [outcome for _, outcome in destination.deliver_lane(parts, stream, "/out")]
    assert [outcome.delivered for outcome in again] == [3, 3, 3] and len(cloud.objects("hanging/")) == 3


def test_no_attempt_begins_after_the_deadline(cloud: Cloud) -> None:
    cloud.proxy.inject(Fault.UNAVAILABLE)
    stream = cloud.stream("late")
    with closing(made(stream)) as destination:
        destination.setup()
        started = time.monotonic()
        parts = [(part_of("late", pane=pane), Selection(ROWS)) for pane in range(2)]
        outcomes = [outcome for _, outcome in destination.deliver_lane(parts, stream, "/out", started + 1)]
    assert time.monotonic() - started < 5 and all(outcome.failure for outcome in outcomes)


def test_a_part_of_which_one_file_fails_waits_as_a_whole_and_is_replaced(cloud: Cloud) -> None:
    stream = cloud.stream("halves", "csv", "csv", **ONCE)
    rows = many(20_001)
    numbers = iter(range(10))
    cloud.proxy.inject(Fault.UNAVAILABLE, only=lambda method, path: next(numbers) == 1)
    outcome = deliver(stream, rows)
    assert (outcome.delivered, outcome.files, outcome.rest) == (0, [], None)
    assert outcome.failure.kind is FailureKind.TRANSIENT and len(cloud.objects("halves/")) == 1
    cloud.proxy.inject(Fault.NONE)
    (first, second, third) = deliver(stream, rows).files
    assert [first.row_count, second.row_count, third.row_count] == [10_000, 10_000, 1]
    assert len(cloud.objects("halves/")) == 3


# Clients


def test_a_role_is_assumed_with_its_external_id_and_used() -> None:
    given = b"""<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAOFTHEROLE</AccessKeyId>
    <SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>
    <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""

    def script(number: int, request: Request) -> Answer:
        return Answer(200, given if request.method == "POST" else b"")

    role = "arn:aws:iam::123456789012:role/data-streamer"
    with receiver(script) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "own"}.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL_STS", server.address)
        options = S3Options(
            bucket=BUCKET, region=REGION, role_arn=role, external_id="org-4711", endpoint=server.address
        )
        outcome = deliver(Stream(destination=options))
        assert outcome.delivered == 3, outcome.failure
        asked, put = server.requests
    assert b"ExternalId=org-4711" in asked.body and b"RoleArn=" in asked.body
    assert "Credential=own/" in asked.headers["authorization"]
    assert put.method == "PUT" and "Credential=ASIAOFTHEROLE/" in put.headers["authorization"]
    assert put.headers["x-amz-security-token"] == "token"


def test_a_role_of_the_real_sts_emulator_writes(s3: Cloud) -> None:
    s3.proxy.inject(Fault.NONE)
    role = {"role_arn": "arn:aws:iam::123456789012:role/data-streamer", "external_id": "org-4711", "region": REGION}
    assert deliver(s3.stream("role", **role)).delivered == 3 and len(s3.objects("role/")) == 1


@pytest.mark.parametrize(
    ("options", "unset", "says"),
    [
        (S3Options(bucket=BUCKET, region=REGION), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "no credentials"),
        (GcsOptions(bucket=BUCKET), ("STORAGE_EMULATOR_HOST",), "DefaultCredentialsError"),
    ],
    ids=["s3", "gcs"],
)
def test_missing_credentials_are_told(
    options: Any, unset: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in (*unset, "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "CLOUDSDK_CONFIG", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    from transforms.deliver.lanes import Destinations

    stream: Any = Stream(destination=options)
    found = Destinations({stream.name: stream}).of(stream.name)
    failure = found.preflight(stream, "/out") if isinstance(found, ArchiveDestination) else found
    assert failure.kind is FailureKind.MISCONFIGURED and says in failure.error  # type: ignore[union-attr]


def test_classes_say_what_audit_can_do() -> None:
    for kind in (GcsDestination, S3Destination):
        assert kind.recountable and kind.pushes(Stream()) and kind.extra
