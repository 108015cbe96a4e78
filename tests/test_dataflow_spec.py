"""The job spec that the real DataflowRunner makes of the job, against a storage emulator; no service is reached."""

from __future__ import annotations

import base64
import binascii
import bz2
import dataclasses
import json
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import google.auth
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from rich.console import Console

from pipelines import launch
from pipelines.data_streamer import build
from pipelines.job import Job, prepare
from schemas.destinations import SecretReference
from schemas.streams import Stream
from tests.graphs import EVENT, labels_of, pickled_shuffles, streams_text
from tests.servers.storage import storage_emulator
from transforms.deliver.files import FilesOptions

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "acme-iot"
SECRET_VARIABLE, SECRET = "DATA_STREAMER_TEST_TOKEN", "correct-horse-battery-staple"


class SignedFilesOptions(FilesOptions):
    """Options of a destination that needs a secret."""

    token: SecretReference


@dataclasses.dataclass(frozen=True)
class Submission:
    """What the runner wrote: the job spec, the portable pipeline, and the names of all objects of the bucket."""

    spec: dict[str, Any]
    pipeline: beam_runner_api_pb2.Pipeline
    objects: dict[str, bytes]

    @property
    def texts(self) -> dict[str, bytes]:
        """Everything that the job would take along, by name: decoded payloads, options, staged files."""
        texts = {f"object {name}": content for name, content in self.objects.items()}
        for key, step in self.pipeline.components.transforms.items():
            texts[f"step {step.unique_name or key}"] = decoded(step.spec.payload)
        for key, coder in self.pipeline.components.coders.items():
            texts[f"coder {key}"] = decoded(coder.spec.payload)
        return texts


def decoded(payload: bytes) -> bytes:
    """The payload, followed by every pickle in it, unpacked: Beam compresses them and writes them as base 64."""
    parts = [payload]
    for found in re.findall(rb"[A-Za-z0-9+/]{40,}={0,2}", payload):
        for inflate in (bz2.decompress, zlib.decompress):
            try:
                parts.append(inflate(base64.b64decode(found + b"=" * (-len(found) % 4))))
            except (OSError, ValueError, binascii.Error, zlib.error):
                continue  # no pickle of this kind
    return b"\n".join(parts)


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    """Address of a storage emulator with an empty bucket, for the time of this module."""
    with storage_emulator(BUCKET) as server:
        yield server.address


@pytest.fixture(scope="module")
def submission(emulator: str) -> Submission:
    """The job, handed to the DataflowRunner as `pipelines.launch` does it."""
    return submitted(emulator, arguments(), build)


def submitted(emulator: str, arguments: Sequence[str], sentence: Callable[[beam.Pipeline, Job], None]) -> Submission:
    """What the runner writes of a job."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", emulator)
        patch.setenv(SECRET_VARIABLE, SECRET)
        patch.setattr(google.auth, "default", lambda **_: (AnonymousCredentials(), BUCKET))
        client = storage.Client(BUCKET, AnonymousCredentials())
        bucket = client.bucket(BUCKET)
        bucket.blob("raw/events.json").upload_from_string(json.dumps(EVENT) + "\n")
        bucket.blob("streams.yaml").upload_from_string(streams_text(3))
        job = prepare(list(arguments))
        assert not job.live_here
        assert launch.submit(with_secret(job), sentence, Console(quiet=True)) == launch.COMPLETE
        objects = {blob.name: blob.download_as_bytes() for blob in client.list_blobs(BUCKET)}
    (pipeline,) = (content for name, content in objects.items() if name.endswith("/pipeline.pb"))
    return Submission(json.loads(objects["template.json"]), beam_runner_api_pb2.Pipeline.FromString(pipeline), objects)


def arguments() -> list[str]:
    return [
        "--runner=DataflowRunner",
        f"--project={BUCKET}",
        "--region=europe-west3",
        "--no_auth",
        "--job_name=data-streamer-test",
        f"--template_location=gs://{BUCKET}/template.json",
        f"--staging_location=gs://{BUCKET}/staging",
        f"--temp_location=gs://{BUCKET}/temp",
        "--sdk_container_image=europe-west3-docker.pkg.dev/acme-iot/data-streamer/batch:1",
        "--sdk_location=container",
        f"--events=gs://{BUCKET}/raw/*.json",
        f"--streams=gs://{BUCKET}/streams.yaml",
        f"--output=gs://{BUCKET}/output",
    ]


def with_secret(job: Job) -> Job:
    """The job with one more stream, whose destination needs a secret."""
    options = SignedFilesOptions(type="files", token=SecretReference(env=SECRET_VARIABLE))
    return dataclasses.replace(
        job, streams=[*job.streams, Stream(name="signed", content="events", destination=options)]
    )


def test_it_is_a_batch_job_on_the_pinned_sdk(submission: Submission) -> None:
    assert submission.spec["type"] == "JOB_TYPE_BATCH"
    (pool,) = submission.spec["environment"]["workerPools"]
    images = {image["containerImage"] for image in pool["sdkHarnessContainerImages"]}
    assert images == {"europe-west3-docker.pkg.dev/acme-iot/data-streamer/batch:1"}


def test_steps_and_labels_are_those_of_the_graph(submission: Submission) -> None:
    golden = (ROOT / "tests" / "golden" / "labels.txt").read_text("utf-8").splitlines()
    labels = labels_of(submission.pipeline)
    assert len(labels) == len(set(labels))
    # The runner drops composites without steps (Create has one), and expands some of Beam's; ours are all there.
    assert {label for label in golden if not label.endswith("/MaybeReshuffle")} - set(labels) == set()
    ours = {label.split("/")[0] for label in golden}
    assert {label.split("/")[0] for label in labels} == ours


def test_no_pickle_crosses_a_shuffle(submission: Submission) -> None:
    assert pickled_shuffles(submission.pipeline) == []


def test_staging_is_complete(submission: Submission) -> None:
    (pool,) = submission.spec["environment"]["workerPools"]
    staged = {package["location"] for package in pool.get("packages", [])}
    prefix = f"storage.googleapis.com/{BUCKET}/"
    assert all(location.startswith(prefix) for location in staged)
    assert {location.removeprefix(prefix) for location in staged} - set(submission.objects) == set()
    # The image has the code: nothing of this machine's session is staged.
    assert [location for location in staged if location.endswith("pickled_main_session")] == []


def test_no_local_path_is_taken_along(submission: Submission) -> None:
    # Lambdas of Beam's own carry the name of the file that they were compiled from, for tracebacks; and Beam stages a
    # list of the packages of this machine, which nothing reads. Both say nothing about the job.
    code_of_beam = re.compile(re.escape(str(Path(beam.__file__).parent)).encode() + rb"/[\w/]+\.py")
    texts = {
        name: code_of_beam.sub(b"", text)
        for name, text in submission.texts.items()
        if not name.endswith("/submission_environment_dependencies.txt")
    }
    local = {str(ROOT), str(Path.home()), sys.prefix, tempfile.gettempdir() + "/", os.getcwd()} - {"/"}
    assert [f"{name}: {path}" for name, text in texts.items() for path in local if path.encode() in text] == []


def test_no_secret_is_taken_along(submission: Submission) -> None:
    texts = submission.texts
    assert [name for name, text in texts.items() if SECRET.encode() in text] == []
    # The look is in the right place: the reference is there.
    assert [name for name, text in texts.items() if SECRET_VARIABLE.encode() in text] != []


def test_slices_travel_themselves(submission: Submission) -> None:
    """Workers share no disk: no spill directory is in the graph."""
    assert [name for name, text in submission.texts.items() if b"/.run/" in text] == []


def test_the_look_into_payloads_unpacks_pickles() -> None:
    for deflate in (bz2.compress, zlib.compress):
        assert b"hidden in a pickle, long enough" in decoded(
            b"\x0a\x07" + base64.b64encode(deflate(b"hidden in a pickle, long enough to be found")) + b"\x12"
        )
