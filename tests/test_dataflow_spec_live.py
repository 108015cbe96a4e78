"""The streaming job spec that the real DataflowRunner makes of the live job; no service but a storage emulator is
reached.

Labels, states and coders are pinned in ``golden/live_dataflow.txt``, and in ``golden/live_local.txt`` for the graph of
this machine: a job is updated by them. After a change that is meant, write them again with
``python -m tests.test_dataflow_spec_live``.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from pipelines.job import Job, JobError, prepare
from pipelines.live_streamer import build_live
from tests import test_dataflow_spec
from tests.graphs import PICKLED, labels_of, pickled_shuffles, streams_text
from tests.test_dataflow_spec import BUCKET, ROOT, SECRET, SECRET_VARIABLE, Submission, submitted
from transforms.run import Run

GOLDEN = Path(__file__).with_name("golden")
SUBSCRIPTIONS = ("projects/acme-iot/subscriptions/events", "projects/acme-iot/subscriptions/usage")


emulator = test_dataflow_spec.emulator


@pytest.fixture(scope="module")
def submission(emulator: str) -> Submission:
    """The live job, handed to the DataflowRunner as `pipelines.launch` does it."""
    return submitted(emulator, arguments(), build_live)


def arguments(*more: str) -> list[str]:
    return [
        "--runner=DataflowRunner", "--streaming", f"--project={BUCKET}", "--region=europe-west3", "--no_auth",
        "--job_name=data-streamer-live-test", f"--template_location=gs://{BUCKET}/template.json",
        f"--staging_location=gs://{BUCKET}/staging", f"--temp_location=gs://{BUCKET}/temp",
        "--sdk_container_image=europe-west3-docker.pkg.dev/acme-iot/data-streamer/batch:1",
        "--sdk_location=container", f"--events_subscription={SUBSCRIPTIONS[0]}",
        f"--usage_subscription={SUBSCRIPTIONS[1]}", f"--streams=gs://{BUCKET}/streams.yaml",
        f"--output=gs://{BUCKET}/output", *more,
    ]  # fmt: skip


def graph(directory: Path, streams: int, spill: str | None) -> beam_runner_api_pb2.Pipeline:
    """The graph of a live job with that many streams, on Dataflow (no spill directory) or on this machine."""
    path = directory / "streams.yaml"
    path.write_text(streams_text(streams), "utf-8")
    empty = directory / "events.ndjson"
    empty.touch()
    more = [f"--streams={path}"] if streams else []
    job = prepare([f"--events={empty}", f"--output={directory}/output", *more])
    pipeline = beam.Pipeline(options=beam.options.pipeline_options.PipelineOptions(["--streaming"]))
    build_live(pipeline, live_job(job, spill))
    return pipeline.to_runner_api()


def live_job(job: Job, spill: str | None) -> Job:
    from transforms.run import Live

    live = Live(((0, SUBSCRIPTIONS[0]), (1, SUBSCRIPTIONS[1])), "/nowhere")
    run: Run = dataclasses.replace(job.run, writer="live", live=live, spill=spill)
    return dataclasses.replace(job, run=run)


def pinned(proto: beam_runner_api_pb2.Pipeline) -> list[str]:
    """What must stay: labels, coders of what crosses a shuffle or has state, and names of states and timers."""
    lines = [f"label {label}" for label in labels_of(proto)]
    components = proto.components
    for step in components.transforms.values():
        for name, state in stateful(step):
            lines.append(f"state {step.unique_name} {name} {state}")
    for step in shuffles(proto):
        for collection in step.inputs.values():
            lines.append(
                f"coder {step.unique_name} {coder_text(components, components.pcollections[collection].coder_id)}"
            )
    return sorted(lines)


def shuffles(proto: beam_runner_api_pb2.Pipeline) -> list[beam_runner_api_pb2.PTransform]:
    """Steps whose input crosses a shuffle: groupings, and steps with state."""
    return [
        step
        for step in proto.components.transforms.values()
        if step.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn or stateful(step)
    ]


def stateful(step: beam_runner_api_pb2.PTransform) -> list[tuple[str, str]]:
    """Names and kinds of the states and timers of a step."""
    if step.spec.urn != common_urns.primitives.PAR_DO.urn:
        return []
    payload = beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
    domains = beam_runner_api_pb2.TimeDomain.Enum
    states = [(name, spec.WhichOneof("spec")) for name, spec in payload.state_specs.items()]
    timers = [(name, domains.Name(spec.time_domain)) for name, spec in payload.timer_family_specs.items()]
    return [(name, str(kind)) for name, kind in sorted(states + timers)]


def coder_text(components: beam_runner_api_pb2.Components, coder: str) -> str:
    known = components.coders[coder]
    parts = ", ".join(coder_text(components, part) for part in known.component_coder_ids)
    name = known.spec.urn.removeprefix("beam:coder:")
    return f"{name}({parts})" if parts else name


def golden(name: str) -> list[str]:
    return (GOLDEN / f"live_{name}.txt").read_text("utf-8").splitlines()


def test_it_is_a_streaming_job(submission: Submission) -> None:
    assert submission.spec["type"] == "JOB_TYPE_STREAMING"
    options = submission.spec["environment"]["sdkPipelineOptions"]["options"]
    assert options["streaming"] is True


def test_the_source_is_the_native_one(submission: Submission) -> None:
    payloads = [
        beam_runner_api_pb2.PubSubReadPayload.FromString(step.spec.payload).subscription
        for step in submission.pipeline.components.transforms.values()
        if step.spec.urn == common_urns.composites.PUBSUB_READ.urn
    ]
    assert sorted(payloads) == sorted(SUBSCRIPTIONS)


def test_steps_with_state_are_as_designed(submission: Submission) -> None:
    found = {
        step.unique_name: dict(stateful(step))
        for step in submission.pipeline.components.transforms.values()
        if stateful(step)
    }
    ours = {re.sub(r"/ParDo\(\w+\)$", "", name): kinds for name, kinds in found.items()}
    timers = {name: {kind for kind in kinds.values() if kind.endswith("TIME")} for name, kinds in ours.items()}
    assert timers == {
        "KeepCells/State/Keep": {"PROCESSING_TIME", "EVENT_TIME"},
        "KeepCells/State/Write": set(),
        "KeepCells/BuryRefused/Gather": {"PROCESSING_TIME", "EVENT_TIME"},
        "KeepCells/BuryRefused/Bury": set(),
        "KeepBooks/BuryDead/Gather": {"PROCESSING_TIME", "EVENT_TIME"},
        "KeepBooks/BuryDead/Bury": set(),
        "KeepCells/SendStreams/Send": {"PROCESSING_TIME", "EVENT_TIME"},
        "KeepBooks/PublishLedger/Publish": {"PROCESSING_TIME", "EVENT_TIME"},
    }


def test_no_pickle_crosses_a_shuffle_or_enters_state(submission: Submission) -> None:
    proto = submission.pipeline
    assert pickled_shuffles(proto) == []
    components = proto.components
    texts = [
        coder_text(components, components.pcollections[collection].coder_id)
        for step in shuffles(proto)
        for collection in step.inputs.values()
    ]
    assert texts
    names = {name.removeprefix("beam:coder:") for name in PICKLED}
    assert [text for text in texts if any(name in text for name in names)] == []


def test_labels_states_and_coders_are_the_pinned_ones(submission: Submission, tmp_path: Path) -> None:
    assert pinned(graph(tmp_path, 3, None)) == golden("dataflow")
    labels = labels_of(submission.pipeline)
    assert len(labels) == len(set(labels))
    states = [line for line in golden("dataflow") if line.startswith("state ")]
    assert set(states) - set(pinned(submission.pipeline)) == set()


def test_the_local_graph_is_the_pinned_one(tmp_path: Path) -> None:
    assert pinned(graph(tmp_path, 3, str(tmp_path))) == golden("local")


@pytest.mark.parametrize("streams", [0, 50])
@pytest.mark.parametrize("side", ["dataflow", "local"])
def test_streams_are_data_not_graph(tmp_path: Path, streams: int, side: str) -> None:
    assert pinned(graph(tmp_path, streams, None if side == "dataflow" else str(tmp_path))) == golden(side)


def test_no_local_path_is_taken_along(submission: Submission) -> None:
    code_of_beam = re.compile(re.escape(str(Path(beam.__file__).parent)).encode() + rb"/[\w/]+\.py")
    texts: dict[str, Any] = {
        name: code_of_beam.sub(b"", text)
        for name, text in submission.texts.items()
        if not name.endswith("/submission_environment_dependencies.txt")
    }
    local = {str(ROOT), str(Path.home()), sys.prefix, tempfile.gettempdir() + "/", os.getcwd()} - {"/"}
    assert [f"{name}: {path}" for name, text in texts.items() for path in local if path.encode() in text] == []


def test_no_secret_is_taken_along(submission: Submission) -> None:
    texts = submission.texts
    assert [name for name, text in texts.items() if SECRET.encode() in text] == []
    assert [name for name, text in texts.items() if SECRET_VARIABLE.encode() in text] != []


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--metrics_port=9090", "--metrics_port: is for a live job on this machine"),
        ("--dataflow_service_options=streaming_mode_at_least_once", "would count records twice"),
        ("--close_after=60s", "--close_after: 60 s is too short"),
    ],
)
def test_what_does_not_go_together_with_dataflow(emulator: str, option: str, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", emulator)
        client = storage.Client(BUCKET, AnonymousCredentials())
        client.bucket(BUCKET).blob("streams.yaml").upload_from_string(streams_text(3))
        with pytest.raises(JobError) as caught:
            prepare(arguments(option))
    assert text in str(caught.value)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        for side, place in (("dataflow", None), ("local", scratch)):
            text = "\n".join(pinned(graph(Path(scratch), 3, place))) + "\n"
            (GOLDEN / f"live_{side}.txt").write_text(text, "utf-8")
