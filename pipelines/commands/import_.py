"""``data-streamer import``: emnify's data streams as a streams file of ours."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from pipelines.commands.errors import COMPLETE, MISTAKES
from schemas.emnify_streams import convert
from schemas.streams_file import StreamsFileError
from transforms.route.definitions import check_text


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--output", "-o", metavar="FILE", help="Streams file to write (default: standard output).")
def command(file: Any, output: str | None) -> int:
    """Read emnify's data streams, one or a list as GET /api/v2/data_stream gives them; write a streams file of ours.

    Secrets are not taken over: each becomes a reference to an environment variable, and the list of these is printed.
    Every header counts as one, and a URL with a query, a user or a part that looks like a token.
    Exit code 2 if something cannot be read; then nothing is written.
    """
    try:
        payload = json.load(file)
    except ValueError as error:
        raise click.UsageError(f"{file.name} is no JSON: {error}") from None
    found = convert(payload)
    text = _as_yaml(found.streams)
    mistakes = list(found.mistakes)
    if not mistakes:
        try:
            check_text(text, "imported")
        except StreamsFileError as error:
            mistakes = [str(mistake) for mistake in error.mistakes]
    if mistakes:
        for mistake in mistakes:
            click.echo(f"{file.name}: {mistake}", err=True)
        return MISTAKES
    if output is None:
        click.echo(text, nl=False)
    else:
        Path(output).write_text(text, "utf-8")
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    for variable, what in found.variables.items():
        click.echo(f"set {variable}: {what}", err=True)
    return COMPLETE


def _as_yaml(streams: list[dict[str, Any]]) -> str:
    sink = io.StringIO()
    yaml = YAML()
    yaml.width = 120
    yaml.dump({"streams": streams}, sink)
    return sink.getvalue()
