"""``data-streamer validate``: every mistake of a streams file, and in words how each filter was read."""

from __future__ import annotations

import click

from pipelines.commands.errors import MISTAKES, mistakes
from pipelines.reasons_file import read_reasons
from pipelines.screen import console_of, print_line, print_prose
from schemas.masks import MaskEntry
from schemas.reasons import ReasonsError, reason_names
from schemas.streams import Stream
from transforms.route.definitions import StreamsFileError, load_streams
from transforms.route.explain import describe


@click.command()
@click.argument("file", type=click.Path())
@click.option("--reasons", metavar="FILE", help="Your own rows of the table of reasons: filters may name them.")
def command(file: str, reasons: str | None) -> int:
    """Check a streams file, and say in words how each filter was read.

    Every mistake is reported with line and column; exit code 2. No destination is touched.
    """
    with mistakes(ReasonsError):
        names = reason_names(read_reasons(reasons))
    try:
        streams = load_streams(file, reasons=names)
    except StreamsFileError as error:
        for mistake in error.mistakes:
            click.echo(str(mistake), err=True)
        count = len(error.mistakes)
        click.echo(f"{count} mistake{'s' * (count != 1)}", err=True)
        return MISTAKES
    console = console_of()
    print_line(console, f"{file}: {len(streams)} stream{'s' * (len(streams) != 1)}, no mistakes")
    for stream in streams:
        print_line(console)
        for line in in_words(stream):
            print_prose(console, line)
    return 0


def in_words(stream: Stream) -> list[str]:
    """A stream in words, one line each: what it is, what it takes, how and where it delivers."""
    title = f" ({stream.title})" if stream.title else ""
    paused = "; paused: records are kept pending" if stream.state == "paused" else ""
    options = stream.destination.model_dump(mode="json", exclude_defaults=True, exclude={"type"})
    place = "".join(f", {name} {value}" for name, value in options.items())
    masks = [f"  masks   {_mask_in_words(entry)}" for entry in stream.mask]
    return [
        f"{stream.name}{title}",
        f"  takes   {stream.content}: {describe(stream.filter)}",
        *masks,
        f"  sends   {stream.format} in shape {stream.shape}",
        f"  to      {stream.destination.type}{place}{paused}",
    ]


def _mask_in_words(entry: MaskEntry) -> str:
    how = {"drop": "dropped", "truncate": "truncated", "pseudonymise": "pseudonymised"}[entry.action]
    keep = f" to {entry.keep} characters" if entry.keep else ""
    key = f", key in {entry.key}" if entry.key else ""
    return f"{', '.join(entry.fields)}: {how}{keep}{key}"
