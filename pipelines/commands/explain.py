"""``data-streamer explain``: what becomes of single records, step by step, without writing anything."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from pipelines.commands.errors import Mistakes, mistakes
from pipelines.commands.trace import Sending, Trace, sendings, trace
from pipelines.reasons_file import read_reasons
from pipelines.screen import console_of, print_line
from schemas.reasons import ReasonsError, reason_names
from schemas.streams import Stream
from transforms.dead_letters import DeadLetter
from transforms.read import InputError, expand_inputs, plan_blocks, read_plan
from transforms.route.definitions import StreamsFileError, load_streams

_BLOCK_BYTES = 1 << 20
"""Little is read where few records are asked for."""

_STANDARD_INPUT = "data-streamer-standard-input"

_LINEAGE = ("writer", "pane", "source_file", "byte_offset", "ingest_time", "schema_version", "hour")
"""Columns that say nothing about the record itself, or are told elsewhere."""


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(min=1), default=5, show_default=True, help="Most records.")
@click.option("--feed", type=click.Choice(["events", "usage"]), help="What the files hold (default: by their names).")
@click.option("--streams", metavar="FILE", help="Streams file: say which streams take each record, and why.")
@click.option("--reasons", metavar="FILE", help="Your own rows of the table of reasons.")
@click.option("--buckets", type=click.IntRange(1, 2048), default=1, show_default=True, help="Buckets of the warehouse.")
@click.option("--find", metavar="TEXT", help="Only records that hold this text: an id, an ICCID, a word.")
def command(
    files: tuple[str, ...],
    limit: int,
    feed: str | None,
    streams: str | None,
    reasons: str | None,
    buckets: int,
    find: str | None,
) -> int:
    """Show what becomes of single records of feed files: any rendering and framing, gzip too.

    FILE may be a directory, or - for standard input.

    For each record: the decoded row, or why it is a dead letter; category, severity, outcome, reason and domain; its
    cell; which streams take it, which clause decided, and how each would send it. Nothing is written. Duplicates show
    only in a run.
    """
    with mistakes(ReasonsError, StreamsFileError):
        table = read_reasons(reasons)
        definitions = load_streams(streams, reasons=reason_names(table)) if streams else []
    console = console_of()
    shown = 0
    with tempfile.TemporaryDirectory(prefix="data-streamer-explain-") as scratch:
        for item in _records(_on_disk(files, Path(scratch)), feed):
            if find is not None and (isinstance(item, DeadLetter) or find.encode() not in item[3]):
                continue
            found = item if isinstance(item, DeadLetter) else trace(*item, table, buckets)
            if shown:
                print_line(console)
            _print_trace(console, found, definitions)
            shown += 1
            if shown == limit:
                break
    if not shown:
        raise click.UsageError("no record found" + (f" that holds {find!r}" if find else ""))
    return 0


def _on_disk(files: Sequence[str], scratch: Path) -> list[str]:
    """The files; of a directory all below it; standard input, which cannot be read twice, as a temporary file."""
    found = []
    for file in files:
        if file == "-":
            copy = scratch / _STANDARD_INPUT
            copy.write_bytes(sys.stdin.buffer.read())
            found.append(str(copy))
        elif Path(file).is_dir():
            found.extend(sorted(str(path) for path in Path(file).rglob("*") if path.is_file()))
        else:
            found.append(file)
    if not found:
        raise click.UsageError(f"no file lies in {', '.join(files)}")
    return found


Item = tuple[int, tuple[str, ...] | None, str, bytes, int]
"""Kind of the feed, header of a CSV file, path, bytes of the record, offset."""


def _records(files: Sequence[str], feed: str | None) -> Iterator[Item | DeadLetter]:
    """Records in the order of the files, and what the reader itself refuses."""
    groups: dict[str, list[str]] = {"events": [], "usage": []}
    for file in files:
        groups[feed or _feed_of(file)].append(file)
    try:
        inputs = expand_inputs(",".join(groups["events"]), ",".join(groups["usage"]))
    except InputError as error:  # it names the job's options, which this command has not
        raise Mistakes([re.sub(r"^--\w+=", "", line) for line in str(error).splitlines()]) from error
    for plan in plan_blocks(inputs, _BLOCK_BYTES):
        for block in read_plan(plan, _BLOCK_BYTES):
            header = block.header if block.framing == "csv" else None
            yield from block.faults
            for item, offset in zip(block.items, block.offsets.tolist(), strict=True):
                if item.strip():
                    yield block.feed, header, block.path, item, offset


def _feed_of(path: str) -> str:
    """Where records can be told apart the decoder does; the name decides for those that cannot."""
    words = path.lower()
    return "usage" if "usage" in words or "cdr" in words else "events"


def _print_trace(console: Console, found: Trace | DeadLetter, streams: Sequence[Stream]) -> None:
    if isinstance(found, DeadLetter):
        _print_dead(console, found)
        return
    row = found.row
    print_line(console, Text(f"{found.kind} record {row[found.id_column]}", style="bold"))
    _print_pair(console, "from", f"{_place(found.path)}, byte {found.offset:,}, rendering {found.rendering}")
    _print_pair(console, "cell", f"hour {found.hour}, bucket {found.bucket}")
    if found.kind == "events":
        inferred = " (inferred)" if row["severity_inferred"] else ""
        _print_pair(console, "category", f"{row['category']} (type {row['event_type_id']}, {row['event_type']})")
        _print_pair(console, "severity", f"{row['severity']}{inferred}")
        _print_pair(console, "outcome", str(row["outcome"]))
        told = f"{row['reason']}, domain {row['reason_domain']}" if row["reason"] else "none"
        _print_pair(console, "reason", told)
    _print_pair(console, "row", "")
    for name, value in row.items():
        if value is not None and name not in _LINEAGE:
            print_line(console, f"    {name:<22} {_one_line(value)}")
    for stream in streams:
        _print_stream(console, stream, sendings(stream, found))


def _print_dead(console: Console, letter: DeadLetter) -> None:
    print_line(console, Text(f"dead letter: {letter.reason}", style="bold red"))
    _print_pair(console, "from", f"{_place(letter.source_file)}, byte {letter.byte_offset:,}")
    _print_pair(console, "why", letter.message)
    if letter.json_path:
        _print_pair(console, "field", letter.json_path)
    if letter.payload is not None:
        size = len(letter.payload)
        _print_pair(console, "bytes", f"{size:,}: {_one_line(letter.payload[:200])}{' …' if size > 200 else ''}")


def _print_stream(console: Console, stream: Stream, found: Sending) -> None:
    taken = Text("takes it", style="green") if found.taken else Text("does not take it", style="dim")
    print_line(console, Text.assemble("  stream ", (stream.name, "bold"), " ", taken, f": {found.clause}"))
    if found.taken:
        paused = " (paused: kept pending)" if stream.state == "paused" else ""
        to = f"{stream.destination.type}, {stream.format} in shape {stream.shape}{paused}"
        print_line(console, f"    to {to}{found.note}:")
        for line in found.lines:
            print_line(console, f"      {line}")


def _place(path: str) -> str:
    return "standard input" if Path(path).name == _STANDARD_INPUT else path


def _print_pair(console: Console, name: str, text: str) -> None:
    print_line(console, f"  {name:<8} {text}".rstrip())


def _one_line(value: Any) -> str:
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return " ".join(text.split()) if isinstance(value, str | bytes) else text
