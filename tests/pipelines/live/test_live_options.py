"""Options of a live job: every mistake is found before the start."""

from __future__ import annotations

import socket
from argparse import ArgumentTypeError
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import preflight
from pipelines.job import JobError, prepare
from pipelines.live import options, prism
from pipelines.live.options import live_of, span
from pipelines.options import check_options
from transforms.deliver.failures import Failure, FailureKind
from transforms.read.subscriber import MissingSubscription

EVENTS, USAGE = "projects/p/subscriptions/events", "projects/p/subscriptions/usage"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Prism is found, whether there is one or not, and subscriptions are as they should be."""
    monkeypatch.setattr(options, "find_prism", lambda location: tmp_path / "prism")
    monkeypatch.setattr(preflight, "look_at", lambda subscription: None)


def mistakes(*arguments: str) -> list[str]:
    with pytest.raises(JobError) as raised:
        prepare(arguments)
    return raised.value.mistakes


def test_a_live_job(tmp_path: Path) -> None:
    job = prepare(
        [
            "--streaming", f"--events_subscription={EVENTS}", f"--usage_subscription={USAGE}", f"--output={tmp_path}/o",
            "--name=fleet-1", "--aggregate_every=2m", "--max_delay=100ms", "--publish_every=5", "--close_after=3h",
        ]
    )  # fmt: skip
    live = job.run.live
    assert live is not None
    assert live.subscriptions == ((0, EVENTS), (1, USAGE))
    assert (live.aggregate_every, live.max_delay, live.publish_every, live.close_after) == (120, 0.1, 5, 10_800)
    assert job.run.writer == "fleet-1"
    assert live.directory == f"{tmp_path}/o/.live/fleet-1"
    assert not (tmp_path / "o").exists()


def test_subscriptions_are_looked_at_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        EVENTS: MissingSubscription(FailureKind.MISCONFIGURED, f"{EVENTS}: answered NOT_FOUND", "create it"),
        USAGE: Failure(
            FailureKind.TRANSIENT, f"Pub/Sub subscription {USAGE}: answered UNAVAILABLE", "see that it is up"
        ),
    }
    monkeypatch.setattr(preflight, "look_at", answers.get)
    arguments = [
        "--streaming", f"--events_subscription={EVENTS}", f"--usage_subscription={USAGE}", f"--output={tmp_path}/o"
    ]  # fmt: skip
    (mistake,) = mistakes(*arguments)
    assert mistake == f"--events_subscription: {EVENTS}: answered NOT_FOUND; create it"
    (warning,) = prepare([*arguments[:1], *arguments[2:]]).warnings
    assert warning.startswith("--usage_subscription: ") and "UNAVAILABLE" in warning
    # Who launches need not be allowed to read, where workers elsewhere do.
    refused = Failure(FailureKind.MISCONFIGURED, "Pub/Sub subscription: no right to pull", "grant it")
    subscriptions = [(0, EVENTS), (1, USAGE), (1, "usage")]
    monkeypatch.setattr(preflight, "look_at", {EVENTS: answers[EVENTS], USAGE: refused}.__getitem__)
    assert len(preflight.look_at_subscriptions(subscriptions, here=True).mistakes) == 2
    assert len(preflight.look_at_subscriptions(subscriptions, here=False).mistakes) == 1
    assert prepare([*arguments, "--no_preflight"]).warnings == []


def test_what_holds_without_options(tmp_path: Path) -> None:
    live = prepare(["--streaming", f"--usage_subscription={USAGE}", f"--output={tmp_path}"]).run.live
    assert live is not None
    assert live.subscriptions == ((1, USAGE),)
    assert (live.aggregate_every, live.max_delay, live.publish_every, live.close_after) == (30, 1, 60, 7200)
    assert live.directory.endswith("/.live/live")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = "\n".join(
            mistakes(
                "--streaming", "--events=*.json", "--usage_subscription=usage", f"--output={tmp_path}",
                "--name=0123456789abcdef", "--aggregate_every=soon", "--processes=2", f"--metrics_port={port}",
                "--runner=FlinkRunner",
            )
        )  # fmt: skip
    for text in (
        "--events: files are for a batch run; leave it out, or leave out --streaming",
        "--usage_subscription: 'usage' is no subscription; expected its full name, projects/PROJECT/subscriptions/NAME",
        "--name: '0123456789abcdef' is no name of a writer",
        "--aggregate_every: 'soon' is no time; expected seconds, or such as 500ms, 0.1s, 5m, 2h",
        "--processes: a live job has one worker process",
        f"--metrics_port: {port} is taken by another process",
        "--runner: a live job runs on this machine, on PrismRunner, or on DataflowRunner, not on FlinkRunner",
    ):
        assert text in found, found


def test_it_writes_on_this_machine() -> None:
    found: list[str] = []
    given, _ = check_options(["--streaming", f"--events_subscription={EVENTS}"])
    live_of(given, PipelineOptions([]), "gs://bucket/dir", found)
    (text,) = found
    assert text.startswith(
        "--output: gs://bucket/dir is remote; a live job on this machine keeps its journal and spool beside its output"
    )


def test_streaming_needs_a_subscription(tmp_path: Path) -> None:
    (found,) = mistakes("--streaming", f"--output={tmp_path}")
    assert found.startswith("--events_subscription, --usage_subscription: both missing; --streaming needs at least one")


def test_both_feeds_from_one_subscription(tmp_path: Path) -> None:
    both = (f"--events_subscription={EVENTS}", f"--usage_subscription={EVENTS}")
    (found,) = mistakes("--streaming", *both, f"--output={tmp_path}")
    assert "each feed needs its own" in found


def test_options_of_a_live_job_without_streaming(tmp_path: Path) -> None:
    found = mistakes(f"--events_subscription={EVENTS}", "--max_delay=1s", f"--output={tmp_path}")
    assert "--events_subscription: is for a live job; add --streaming, or leave it out" in found
    assert "--max_delay: is for a live job; add --streaming, or leave it out" in found


def test_prism_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "find_prism", prism.find_prism)
    monkeypatch.setattr(prism, "BUILT", tmp_path / "none")
    monkeypatch.setattr(prism, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = mistakes("--streaming", f"--events_subscription={EVENTS}", f"--output={tmp_path}/o")
    assert "needs Prism" in found and "make prism" in found and "go install" in found and "--prism_location" in found


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("0.1s", 0.1), ("500ms", 0.5), ("5m", 300), ("2h", 7200), ("1.5", 1.5)]
)
def test_spans(text: str, seconds: float) -> None:
    assert span(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "soon", "1d", "1 s"])
def test_no_spans(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no time"):
        span(text)
