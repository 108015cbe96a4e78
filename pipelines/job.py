"""What a job is, and how options and files become one: everything is checked before anything starts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.live.options import live_of, stream_mistakes
from pipelines.masks import key_mistakes
from pipelines.options import check_options
from pipelines.preflight import Preflight, look_ahead, look_at_subscriptions
from pipelines.reasons_file import read_reasons
from pipelines.runners import DATAFLOW_RUNNER, LOCAL_RUNNER, runner_mistakes, runner_of
from schemas.file_systems import missing_client
from schemas.masks import MaskEntry
from schemas.reasons import REASON_TABLE, Reason, ReasonsError, reason_names
from schemas.records import FEEDS
from schemas.streams import Stream
from schemas.streams_file import StreamsFileError
from schemas.tables import SCHEMA_VERSION
from transforms.deliver import storage
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.pending import PendingResult
from transforms.deliver.registry import DESTINATIONS
from transforms.gather.cells import MAX_BUCKETS
from transforms.ledger.counts import InputEntry
from transforms.read.blocks import BlockPlan, plan_blocks
from transforms.read.inputs import InputError, InputFile, expand_inputs, writer_id
from transforms.route.definitions import load_report_mask, load_streams
from transforms.run import Run

BLOCK_BYTES = 16 << 20
"""Bytes of input that are decoded at once: 8 to 32 MiB measured alike; slices stay above 1,000 rows."""

META_FILE = "warehouse/_meta.json"
FORMAT_VERSION = 1


class JobError(Exception):
    """Mistakes found before the run, all of them; nothing was started or written.

    Attributes:
      mistakes: one text each: what, where, what was expected, what to do.
    """

    def __init__(self, mistakes: Sequence[str]):
        super().__init__("\n".join(mistakes))
        self.mistakes = list(mistakes)


@dataclass(frozen=True)
class Job:
    """A job that is ready to be built into a pipeline.

    Attributes:
      run: what every step knows.
      plans: what to read.
      inputs: the input files.
      streams: the stream definitions; secrets in them are references.
      options: Beam's options.
      block_bytes: size of a block.
      warnings: what was found before the run and does not keep it from starting.
      report_mask: what the report hides; None where no streams file says so.
      held: streams that are not delivered in this run, and why: earlier records still wait, and must not be overtaken.
    """

    run: Run
    plans: Sequence[BlockPlan]
    inputs: Sequence[InputFile]
    streams: Sequence[Stream]
    options: PipelineOptions = field(repr=False)
    block_bytes: int = BLOCK_BYTES
    warnings: Sequence[str] = ()
    report_mask: Sequence[MaskEntry] | None = None
    held: Mapping[str, Failure] = field(default_factory=dict)

    @property
    def stream_facts(self) -> list[dict[str, Any]]:
        """Name, title, content, destination type and state of each stream, for the run file."""
        return [
            {
                "name": stream.name,
                "title": stream.title,
                "content": stream.content,
                "destination": stream.destination.type,
                "state": stream.state,
            }
            for stream in self.streams
        ]

    @property
    def input_entries(self) -> list[InputEntry]:
        """A ledger entry for each input file, with its size."""
        return [InputEntry(FEEDS[file.feed], file.path, 0, 0, None, None, bytes=file.size) for file in self.inputs]

    @property
    def local(self) -> bool:
        """Whether workers share this machine's disk: the job waits, shows progress and writes the report."""
        return runner_of(self.options) == LOCAL_RUNNER

    @property
    def live_here(self) -> bool:
        """Whether this is a live job whose worker is the launching process."""
        return self.run.live is not None and runner_of(self.options) != DATAFLOW_RUNNER

    def with_run(self, **changes: Any) -> Job:
        """The same job with other fields of its run."""
        return replace(self, run=replace(self.run, **changes))

    def holding(self, waited: Sequence[PendingResult]) -> Job:
        """The same job, holding back the pushed streams whose earlier records could not be delivered."""
        pushed = {stream.name for stream in self.streams if DESTINATIONS[stream.destination.type].pushes(stream)}
        held = {
            result.stream: Failure(FailureKind.TRANSIENT, result.error, result.remedy or "")
            for result in waited
            if result.error is not None and result.stream in pushed
        }
        return replace(self, held=held)


Build = Callable[[beam.Pipeline, Job], None]
"""Adds a job to a pipeline."""


def prepare(arguments: Sequence[str]) -> Job:
    """Makes a job of command line arguments.

    Raises:
      JobError: every mistake in the options, the globs, the files of streams and reasons, the warehouse's settings,
        and the destinations.
    """
    given, mistakes = check_options(arguments)
    # Files are looked at before there is a pipeline, which would tell them endpoints and credentials.
    told = {name: value for name, value in vars(given).items() if value is not None}
    options = PipelineOptions([], **told)
    FileSystems.set_options(options)
    mistakes.extend(runner_mistakes(options))
    output = _output(given.output, runner_of(options), mistakes)
    live = live_of(given, options, output, mistakes)
    if not (live or given.events or given.usage):
        mistakes.append("--events, --usage: both missing; at least one feed is needed")
    if given.processes is not None and given.processes < 1:
        mistakes.append(f"--processes: {given.processes} is not a number of processes; expected 1 or more")
    reasons = _reasons(given.reasons, mistakes)
    streams = _streams(_readable("streams", given.streams, mistakes), reasons, mistakes)
    if live is not None:
        mistakes.extend(f"--streams: {given.streams}: {mistake}" for mistake in stream_mistakes(streams))
    events, usage = (_readable(feed, getattr(given, feed), mistakes) for feed in FEEDS)
    inputs = _inputs(events, usage, mistakes)
    buckets = _buckets(output, given.buckets, mistakes)
    here = runner_of(options) == LOCAL_RUNNER or (live is not None and runner_of(options) != DATAFLOW_RUNNER)
    report_mask = _report_mask(given.streams, streams, here, mistakes)
    ahead = Preflight() if given.no_preflight else look_ahead(streams, output, here)
    mistakes.extend(f"--streams: {given.streams}: {mistake}" for mistake in ahead.mistakes)
    if live is not None and not given.no_preflight:
        sources = look_at_subscriptions(live.subscriptions, here)
        mistakes.extend(sources.mistakes)
        ahead.warnings.extend(sources.warnings)
    if mistakes:
        raise JobError(mistakes)
    writer = writer_id(inputs) if live is None else os.path.basename(live.directory)
    run = Run(output=output, writer=writer, buckets=buckets, reasons=reasons, live=live)
    return Job(
        run,
        plan_blocks(inputs, BLOCK_BYTES),
        inputs,
        streams,
        PipelineOptions(list(arguments)),
        warnings=ahead.warnings,
        report_mask=report_mask,
    )


def _output(given: str | None, runner: str, mistakes: list[str]) -> str:
    if not given:
        mistakes.append("--output: missing; it names the directory that the job writes")
        return ""
    if storage.is_remote(given):
        return _remote_output(given.rstrip("/"), mistakes)
    if runner == "DataflowRunner":
        mistakes.append(f"--output: {given} is local; workers on Dataflow need a bucket, such as gs://BUCKET/DIR")
    there = path = os.path.abspath(given)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        mistakes.append(f"--output: {there} is not a directory; choose another one")
    elif not os.access(there, os.W_OK | os.X_OK):
        mistakes.append(f"--output: you may not write in {there}; get the right to, or choose another directory")
    return path


def _remote_output(output: str, mistakes: list[str]) -> str:
    if _readable("output", output, mistakes) is None:
        return ""
    try:
        FileSystems.match(
            [f"{output}/{META_FILE}*"]
        )  # a look for one file would take a missing bucket for a missing file
    except (BeamIOError, ValueError) as error:
        mistakes.append(f"--output: {output} cannot be listed ({error}); check the address and your permission")
        return ""
    return output


def _readable(option: str, paths: str | None, mistakes: list[str]) -> str | None:
    """Returns the paths, or None where they name an object store whose client is not installed."""
    for path in (paths or "").split(","):
        missing = missing_client(path.strip())
        if missing is not None:
            mistakes.append(f"--{option}: {path.strip()} needs {missing[0]}, which is not installed: {missing[1]}")
            paths = None
    return paths


def _reasons(path: str | None, mistakes: list[str]) -> tuple[Reason, ...]:
    try:
        return read_reasons(path)
    except ReasonsError as error:
        mistakes.extend(str(error).splitlines())
        return REASON_TABLE


def _streams(path: str | None, reasons: tuple[Reason, ...], mistakes: list[str]) -> Sequence[Stream]:
    if not path:
        return []
    try:
        return load_streams(path, reasons=reason_names(reasons))
    except StreamsFileError as error:
        mistakes.extend(str(mistake) for mistake in error.mistakes)
        return []


def _report_mask(
    path: str | None, streams: Sequence[Stream], here: bool, mistakes: list[str]
) -> Sequence[MaskEntry] | None:
    """Returns what the report hides, once the streams file has no mistakes; looks for keys if the workers are here."""
    if not path or mistakes:
        return None
    mask = load_report_mask(path)
    if here:
        mistakes.extend(key_mistakes(streams, mask))
    return mask


def _inputs(events: str | None, usage: str | None, mistakes: list[str]) -> Sequence[InputFile]:
    if not (events or usage):
        return []
    try:
        return expand_inputs(events, usage)
    except InputError as error:
        mistakes.extend(str(error).splitlines())
        return []


def _buckets(output: str, wanted: int | None, mistakes: list[str]) -> int:
    """Returns the buckets of the warehouse under `output`: as it was created, else as wanted, else 1."""
    if wanted is not None and not 1 <= wanted <= MAX_BUCKETS:
        mistakes.append(f"--buckets: {wanted} is out of range; expected 1 to {MAX_BUCKETS}")
    meta = read_meta(output) if output else None
    if meta is None:
        return wanted or 1
    if meta["format_version"] > FORMAT_VERSION:
        mistakes.append(
            f"{output}/{META_FILE}: format {meta['format_version']} is newer than this program's ({FORMAT_VERSION}); "
            "update it"
        )
    if wanted is not None and wanted != meta["buckets"]:
        mistakes.append(
            f"--buckets: {output} was created with {meta['buckets']}, which is fixed; leave the option out, or choose "
            "another --output"
        )
    return int(meta["buckets"])


def read_meta(output: str) -> dict[str, Any] | None:
    """Returns the settings of the warehouse under `output`, or None where there is none yet."""
    path = storage.join(output, META_FILE)
    return json.loads(storage.read(path)) if FileSystems.exists(path) else None


def write_meta(run: Run) -> None:
    """Creates the settings of a new warehouse; those of an existing one stay."""
    if read_meta(run.output) is None:
        meta = {"format_version": FORMAT_VERSION, "buckets": run.buckets, "schema_version": SCHEMA_VERSION}
        storage.publish(storage.join(run.output, META_FILE), json.dumps(meta, indent=1).encode())


__all__ = ["BLOCK_BYTES", "Build", "Job", "JobError", "prepare", "read_meta", "write_meta"]
