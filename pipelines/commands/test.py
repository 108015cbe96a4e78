"""``data-streamer test``: sends one marked sample record to a stream's destination, and says what it answered."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence

import click
import pyarrow as pa

from pipelines.commands.errors import COMPLETE, INCOMPLETE, mistakes
from pipelines.screen import console_of, print_line, print_prose
from schemas.definition import did_you_mean
from schemas.destinations import SecretError
from schemas.reasons import ReasonsError, load_reasons, reason_names
from schemas.streams import Stream
from transforms.deliver.answer import Answer
from transforms.deliver.failures import SetupError
from transforms.deliver.parts import Part
from transforms.deliver.registry import DESTINATIONS
from transforms.deliver.sample import WRITER, sample_rows
from transforms.route.definitions import StreamsFileError, load_streams
from transforms.route.masking import compile_mask


@click.command()
@click.argument("name", metavar="STREAM")
@click.option("--streams", required=True, metavar="FILE", help="The streams file.")
@click.option("--reasons", metavar="FILE", help="Your own rows of the table of reasons: filters may name them.")
def command(name: str, streams: str, reasons: str | None) -> int:
    """Send one marked sample record to a stream's destination; print what it answered, and the time it took.

    The record's device and organisation are called data-streamer-test and have the id 0. The stream's filter does not
    apply, its shape, format and mask do. There is one attempt. Exit code 3 if the destination did not take the record.
    """
    with mistakes(ReasonsError):
        names = reason_names(load_reasons(reasons))
    with mistakes(StreamsFileError):
        stream = _named(name, load_streams(streams, reasons=names))
    console = console_of()
    started = time.monotonic()
    with mistakes(SecretError):
        answer = try_out(stream)
    seconds = time.monotonic() - started
    if answer.failure is None and not answer.failures:
        print_line(console, f"{name}: taken by {stream.destination.type} in {seconds:.2f} s")
        print_prose(console, f"  {answer.said}" if answer.said else "  it said nothing more")
        return COMPLETE
    failure = answer.failure or answer.failures[0]
    print_line(console, f"{name}: not taken by {stream.destination.type} ({failure.kind.value}, {seconds:.2f} s)")
    print_prose(console, f"  {failure.error}")
    print_prose(console, f"  {failure.remedy}")
    return INCOMPLETE


def _named(name: str, streams: Sequence[Stream]) -> Stream:
    for stream in streams:
        if stream.name == name:
            return stream
    known = [stream.name for stream in streams]
    near = did_you_mean(name, known) or f" (streams are {', '.join(known)})"
    raise click.UsageError(f"{name!r} is no stream of the file{near}")


def try_out(stream: Stream) -> Answer:
    """Sends the sample record, masked as the stream's own are, to its destination once; returns what it answered.

    Raises:
      SecretError: a secret, such as the key of the mask, cannot be read here.
    """
    rows = _masked(sample_rows(stream.content), stream)
    hour = int(rows.column("hour").cast(pa.int64())[0].as_py())
    part = Part(stream.name, stream.content, hour, 0, WRITER, 0)
    destination = DESTINATIONS[stream.destination.type](stream.destination)
    try:
        destination.setup()
    except SetupError as error:
        return Answer(error.failure)
    # What writes to the run's own directory writes to one that goes away.
    with tempfile.TemporaryDirectory(prefix="data-streamer-test-") as output:
        try:
            return destination.try_out(part, rows, stream, output)
        finally:
            destination.close()


def _masked(rows: pa.RecordBatch, stream: Stream) -> pa.RecordBatch:
    """What the stream's receiver may see of rows: a test must not show it more than a run does."""
    try:
        mask = compile_mask(stream)
    except SecretError as error:
        raise SecretError(f"stream {stream.name}: mask: {error}") from None
    return rows if mask is None else mask.apply(rows)
