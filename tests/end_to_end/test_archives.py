"""Streams to Cloud Storage and S3: what lies there is what the filter takes; runs again, narrowed, failing, audited."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import commands
from tests.end_to_end import jobs, runs
from tests.servers.aws import REGION, Aws, aws_emulator
from tests.servers.proxy import Fault, HttpProxy, http_proxy
from tests.servers.storage import CloudStorage, storage_emulator

BUCKET = "acme-iot-archive"
LITTLE = {"retry": {"attempts": 2, "seconds": 5}, "timeout": 2}


class Site:
    """A feed, an output directory, and an archive in each store; S3 is reached by options of the stream alone: the
    environment knows neither its address nor the role.
    """

    def __init__(self, root: Path, feed: Path, gcs: CloudStorage, s3: Aws, proxy: HttpProxy) -> None:
        self.root, self.feed, self.gcs, self.s3, self.proxy = root, feed, gcs, s3, proxy
        self.output, self.name = root / "output", root.name.replace("_", "-").lower()

    def streams(self, endpoint: int | None = None, s3_bucket: str = BUCKET) -> Path:
        own = {
            "bucket": s3_bucket, "prefix": f"{self.name}/exports", "region": REGION, "external_id": "organisation-4711",
            "role_arn": "arn:aws:iam::123456789012:role/data-streamer", "endpoint": self.proxy.address,
        }  # fmt: skip
        chosen = {} if endpoint is None else {"filter": {"endpoint": [endpoint]}}
        return jobs.write_streams(
            self.root / "streams.yaml",
            {"name": "exports", "content": "usage", "format": "csv", "shape": "csv", **chosen,
             "destination": {"type": "s3", **own, **LITTLE}},
            {"name": "events", "content": "events",
             "destination": {"type": "gcs", "bucket": BUCKET, "prefix": f"{self.name}/{{stream}}", **LITTLE}},
        )  # fmt: skip

    def run(self, streams: Path, *options: str, code: int = 0) -> str:
        feeds = {feed: f"{self.feed}/{feed}/*/*" for feed in runs.RECORD_TABLES}
        return jobs.run(self.output, *options, streams=streams, code=code, **feeds)

    def exported(self) -> dict[str, bytes]:
        return self.s3.objects(BUCKET, f"{self.name}/exports/")

    def exported_ids(self) -> list[int]:
        files = self.exported().values()
        return sorted(int(row["id"]) for data in files for row in csv.DictReader(io.StringIO(data.decode())))

    def archived_ids(self) -> list[int]:
        files = self.gcs.objects(f"{self.name}/events/").values()
        return sorted(json.loads(line)["event_id"] for data in files for line in gzip.decompress(data).splitlines())

    def ids(self, table: str, condition: str = "true") -> list[int]:
        column = {"events": "event_id", "usage": "usage_id"}[table]
        return [key for (key,) in runs.ask(self.output, f"SELECT {column} FROM {table} WHERE {condition} ORDER BY 1")]


def command(*arguments: Any) -> jobs.Done:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = commands.main([str(argument) for argument in arguments])
    return jobs.Done(code, printed.getvalue())


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[CloudStorage, Aws, HttpProxy]]:
    with storage_emulator(BUCKET) as gcs, aws_emulator() as s3, http_proxy(s3.address) as proxy:
        s3.create_bucket(BUCKET)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**gcs.environment, **s3.environment}.items():
                patch.setenv(name, value)
            # Roles are given by STS; the address of S3 itself is the stream's own.
            patch.delenv("AWS_ENDPOINT_URL")
            patch.setenv("AWS_ENDPOINT_URL_STS", s3.address)
            yield gcs, s3, proxy


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("feed")
    runs.feed(directory, devices=5, days=1, seed=3)
    return directory


@pytest.fixture
def site(tmp_path: Path, feed: Path, servers: tuple[CloudStorage, Aws, HttpProxy]) -> Iterator[Site]:
    servers[2].inject(Fault.NONE)
    yield Site(tmp_path, feed, *servers)
    servers[2].inject(Fault.NONE)


def test_archives_hold_what_the_filters_take_and_follow_them(site: Site) -> None:
    site.run(site.streams())
    assert site.exported_ids() == site.ids("usage") != [] and site.archived_ids() == site.ids("events") != []
    done = command("audit", site.output)
    assert done.code == 0 and "recounted in its files" in done.text, done.text

    before = site.exported()
    site.run(site.streams())
    assert site.exported() == before

    ((endpoint,),) = runs.ask(site.output, "SELECT min(endpoint_id) FROM usage")
    site.proxy.inject(Fault.FORBIDDEN, only=lambda method, path: method == "DELETE")
    text = site.run(site.streams(endpoint), code=3)
    assert "could not be removed" in text and site.exported().keys() == before.keys()

    site.proxy.inject(Fault.NONE)
    site.run(site.streams(endpoint))
    narrowed = site.ids("usage", f"endpoint_id = {endpoint}")
    assert site.exported_ids() == narrowed and 0 < len(narrowed) < len(site.ids("usage"))
    assert command("audit", site.output).code == 0


def test_the_audit_sees_what_changed_in_the_store(site: Site) -> None:
    site.run(site.streams())
    first, second, *_ = sorted(site.exported())
    client = site.s3.client("s3")
    client.put_object(Bucket=BUCKET, Key=first, Body=b"changed")
    client.delete_object(Bucket=BUCKET, Key=second)
    done = command("audit", site.output)
    assert done.code == 1, done.text
    assert f"s3://{BUCKET}/{first} is cut short" in done.text and f"s3://{BUCKET}/{second} is missing" in done.text
    site.proxy.inject(Fault.FORBIDDEN)
    done = command("audit", site.output)
    assert done.code == 1 and "cannot be read" in done.text and "403" in done.text, done.text


@pytest.mark.parametrize("fault", [Fault.HANG, pytest.param(Fault.UNAVAILABLE, marks=pytest.mark.slow)])
def test_a_store_at_fault_holds_back_its_own_stream_only(site: Site, fault: Fault) -> None:
    site.proxy.inject(fault)
    text = site.run(site.streams(), code=3)
    assert "exports" in text and site.archived_ids() == site.ids("events") != [] and site.exported() == {}
    assert command("audit", site.output).code == 0
    site.proxy.inject(Fault.NONE)
    done = command("deliver", site.output, f"--streams={site.streams()}")
    assert done.code == 0, done.text
    assert site.exported_ids() == site.ids("usage")
    done = command("audit", site.output)
    assert done.code == 0 and "stream exports: " in done.text, done.text


def test_a_bucket_that_is_not_there_is_found_before_the_run(site: Site) -> None:
    text = site.run(site.streams(s3_bucket="nowhere-at-all"), code=2)
    assert "s3://nowhere-at-all" in text and "create it" in text and not site.output.exists()
    text = site.run(site.streams(s3_bucket="nowhere-at-all"), "--no_preflight", code=3)
    assert site.archived_ids() == site.ids("events") != []
