"""Options of a live job (``--streaming``), and what has to hold for them."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import socket
from collections.abc import Sequence

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from pipelines.live.prism import PrismError, find_prism
from pipelines.lock import LIVE
from pipelines.runners import DATAFLOW_RUNNER, LOCAL_RUNNER, PRISM_RUNNER, runner_of
from schemas.records import FEEDS
from schemas.streams import Stream
from transforms.deliver import storage
from transforms.deliver.bigquery import BigQueryOptions
from transforms.run import Live

NAME, AGGREGATE_EVERY, MAX_DELAY, PUBLISH_EVERY, CLOSE_AFTER = "live", 30.0, 1.0, 60.0, 7200.0
"""What holds where no option says otherwise: name of the writer, and seconds."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_BATCH_WRITER = re.compile(r"[0-9a-f]{16}")
SUBSCRIPTION = re.compile(r"projects/[^/\s]+/subscriptions/[^/\s]+")
"""Full name of a subscription."""
_ONLY_LIVE = ("name", "aggregate_every", "max_delay", "publish_every", "close_after", "metrics_port")


def span(text: str) -> float:
    """Seconds of ``30``, ``0.1s``, ``500ms``, ``5m`` or ``2h``.

    Raises:
      argparse.ArgumentTypeError: it is none of these, or 0.
    """
    match = _SPAN.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; expected seconds, or such as 500ms, 0.1s, 5m, 2h")
    return float(match[1]) * _UNITS[match[2] or "s"]


class LiveOptions(PipelineOptions):
    """What a live job reads, and how often it does what."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group(
            "Live job (--streaming)",
            "Reads Pub/Sub until it is stopped (Ctrl-C, or SIGTERM): on this machine on Prism, Beam's own engine; on "
            "Dataflow until it is drained.",
        )
        for feed, records in (("events", "signalling events"), ("usage", "usage records")):
            group.add_argument(
                f"--{feed}_subscription",
                metavar="projects/P/subscriptions/S",
                help=f"Pub/Sub subscription of {records}: a record, a JSON array, or a record a line in each message, "
                "gzip or not. PUBSUB_EMULATOR_HOST is heeded.",
            )
        group.add_argument(
            "--name",
            metavar="NAME",
            help=f"Name of the live writer: the same again after a restart (default {NAME}).",
        )
        group.add_argument(
            "--aggregate_every",
            type=span,
            metavar="TIME",
            help="Seconds between two flushes of a cell: partial sums, parts of the warehouse, streams that store "
            f"(default {AGGREGATE_EVERY:g}; also 500ms, 5m, 2h).",
        )
        group.add_argument(
            "--max_delay",
            type=span,
            metavar="TIME",
            help="Most seconds that a record of a stream that sends waits for its batch to fill "
            f"(default {MAX_DELAY:g}).",
        )
        group.add_argument(
            "--publish_every",
            type=span,
            metavar="TIME",
            help=f"Seconds between two publications of the ledger (default {PUBLISH_EVERY:g}).",
        )
        group.add_argument(
            "--close_after",
            type=span,
            metavar="TIME",
            help=f"Seconds after the end of an hour until its cells close (default {CLOSE_AFTER:g}). Later records "
            "are not lost: they open their cell again.",
        )
        group.add_argument(
            "--metrics_port",
            type=int,
            metavar="PORT",
            help="Port of an endpoint for Prometheus, http://HOST:PORT/metrics, open to all addresses (default: none).",
        )


def live_of(given: argparse.Namespace, options: PipelineOptions, output: str, mistakes: list[str]) -> Live | None:
    """Returns how the live job works that the options ask for; None if they ask for a batch run.

    Args:
      given: the options by name.
      options: the same for Beam.
      output: the output directory.
      mistakes: error texts are added to it.
    """
    subscriptions = [
        (kind, getattr(given, f"{feed}_subscription"))
        for kind, feed in enumerate(FEEDS)
        if getattr(given, f"{feed}_subscription") is not None
    ]
    if not given.streaming:
        asked = [f"{feed}_subscription" for feed in FEEDS] + list(_ONLY_LIVE)
        mistakes.extend(
            f"--{name}: is for a live job; add --streaming, or leave it out"
            for name in asked
            if getattr(given, name) is not None
        )
        return None
    mistakes.extend(_source_mistakes(given, subscriptions))
    mistakes.extend(_place_mistakes(given, options, output))
    name = given.name or NAME
    if not _NAME.fullmatch(name) or _BATCH_WRITER.fullmatch(name):
        mistakes.append(
            f"--name: {name!r} is no name of a writer; expected a letter, then up to 39 letters, digits and hyphens, "
            "lower case, and not 16 hexadecimal digits, which are names of batch runs"
        )
    return Live(
        subscriptions=tuple(subscriptions),
        directory=os.path.join(output, LIVE, name),
        aggregate_every=given.aggregate_every or AGGREGATE_EVERY,
        max_delay=given.max_delay or MAX_DELAY,
        publish_every=given.publish_every or PUBLISH_EVERY,
        close_after=given.close_after or CLOSE_AFTER,
    )


def stream_mistakes(streams: Sequence[Stream]) -> list[str]:
    """Error texts for streams that a live job cannot serve."""
    return [
        f"stream {stream.name} (bigquery): method load replaces what the same job has loaded for a day, which a "
        "live job does again and again; use method: storage_write"
        for stream in streams
        if isinstance(stream.destination, BigQueryOptions) and stream.destination.method == "load"
    ]


def _source_mistakes(given: argparse.Namespace, subscriptions: list[tuple[int, str]]) -> list[str]:
    mistakes = [
        f"--{feed}: files are for a batch run; leave it out, or leave out --streaming"
        for feed in FEEDS
        if getattr(given, feed)
    ]
    if not subscriptions:
        mistakes.append(
            "--events_subscription, --usage_subscription: both missing; --streaming needs at least one, such as "
            "projects/P/subscriptions/S"
        )
    for kind, name in subscriptions:
        if not SUBSCRIPTION.fullmatch(name):
            mistakes.append(
                f"--{FEEDS[kind]}_subscription: {name!r} is no subscription; expected its full name, "
                "projects/PROJECT/subscriptions/NAME"
            )
    names = [name for _, name in subscriptions]
    if len(set(names)) < len(names):
        mistakes.append(
            f"--events_subscription, --usage_subscription: both are {names[0]}; each feed needs its own, since both "
            "would get half of the messages"
        )
    if subscriptions and importlib.util.find_spec("google.pubsub_v1") is None:
        mistakes.append(
            "--streaming: needs google-cloud-pubsub, which is not installed: pip install 'data-streamer[gcp]'"
        )
    return mistakes


def _place_mistakes(given: argparse.Namespace, options: PipelineOptions, output: str) -> list[str]:
    """Where the job runs and writes."""
    mistakes = []
    if runner_of(options) == DATAFLOW_RUNNER:
        return _dataflow_mistakes(given, options)
    if runner_of(options) not in (LOCAL_RUNNER, PRISM_RUNNER):
        mistakes.append(
            f"--runner: a live job runs on this machine, on {PRISM_RUNNER}, or on {DATAFLOW_RUNNER}, not on "
            f"{runner_of(options)}; leave the option out"
        )
    else:
        try:
            find_prism(given.prism_location)
        except PrismError as error:
            mistakes.append(str(error))
    if storage.is_remote(output):
        mistakes.append(
            f"--output: {output} is remote; a live job on this machine keeps its journal and spool beside its output: "
            "choose a directory of this machine, and deliver to the other place by a stream"
        )
    if given.processes is not None:
        mistakes.append("--processes: a live job has one worker process; leave the option out")
    if given.metrics_port is not None:
        if not 1 <= given.metrics_port <= 65_535:
            mistakes.append(f"--metrics_port: {given.metrics_port} is no port; expected 1 to 65535")
        elif _is_taken(given.metrics_port):
            mistakes.append(f"--metrics_port: {given.metrics_port} is taken by another process; choose another one")
        if importlib.util.find_spec("prometheus_client") is None:
            mistakes.append(
                "--metrics_port: needs prometheus-client, which is not installed: pip install 'data-streamer[metrics]'"
            )
    return mistakes


def _dataflow_mistakes(given: argparse.Namespace, options: PipelineOptions) -> list[str]:
    """What does not go together with Dataflow. That the output has to be a bucket is said where it is looked at."""
    mistakes = [
        f"--{name}: is for a live job on this machine; leave it out: Dataflow has views and metrics of its own"
        for name in ("metrics_port", "processes")
        if getattr(given, name) is not None
    ]
    services = options.view_as(GoogleCloudOptions).dataflow_service_options or []
    if "streaming_mode_at_least_once" in services:
        mistakes.append(
            "--dataflow_service_options: streaming_mode_at_least_once would count records twice; leave it out"
        )
    publish, flush = given.publish_every or PUBLISH_EVERY, given.aggregate_every or AGGREGATE_EVERY
    if (given.close_after or CLOSE_AFTER) < flush + 2 * publish:
        mistakes.append(
            f"--close_after: {given.close_after:g} s is too short: ids of a cell are read back from the warehouse once "
            f"it is closed, and have to be there; expected at least {flush + 2 * publish:g} s (--aggregate_every and "
            "twice --publish_every)"
        )
    return mistakes


def _is_taken(port: int) -> bool:
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("", port))
        except OSError:
            return True
    return False
