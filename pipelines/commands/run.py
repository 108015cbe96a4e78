"""``data-streamer run``: the job, with the options of `pipelines.data_streamer`."""

from __future__ import annotations

import click

from pipelines.data_streamer import main
from pipelines.options import streamer_help


class _Run(click.Command):
    """All arguments go to the job as they are: it knows Beam's options too, and reports every mistake at once."""

    def format_help(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(streamer_help(context.command_path))

    def get_short_help_str(self, limit: int = 45) -> str:
        return "Run the job."


@click.command(
    cls=_Run,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Run the job; the options are those of ``python -m pipelines.data_streamer``."""
    return main(arguments)
