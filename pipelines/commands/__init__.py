"""The command line: ``data-streamer COMMAND``. One module per command; each is imported when it is called.

Exit codes: 0 done; 1 a difference found by the audit, or a crash; 2 mistakes found before anything was done; 3 done,
but a running stream has pending records or an error. Answers go to standard output, errors and progress to standard
error.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import keyword
import sys
from collections.abc import Sequence
from typing import Any

import click

from pipelines.commands.errors import CRASHED, print_crash, print_mistakes
from pipelines.screen import stop_printing
from schemas.definition import did_you_mean

COMMANDS: dict[str, str] = {
    "run": "Run the job: feeds in, streams, warehouse and report out.",
    "validate": "Check a streams file; say in words how each filter was read.",
    "import": "Write emnify's data streams as a streams file.",
    "explain": "Show what becomes of single records, step by step.",
    "status": "Show how the live jobs of an output directory stand.",
    "audit": "Prove from an output directory that nothing was lost.",
    "report": "Write the report of an output directory again.",
    "test": "Send one marked sample record to a stream's destination.",
    "deliver": "Deliver what is pending, in order.",
    "device": "Show one device's timeline: signalling and usage.",
    "sql": "Ask the warehouse: one query on its views.",
    "simulate": "Make feeds of known truth.",
    "types": "List the event types.",
    "reasons": "List the reasons of rejections and failures.",
    "schema": "Print the schema of the streams file or of a table.",
}
"""Name and purpose of each command: the module of that name in this package holds it as ``command``; a name that is
a word of Python has an underscore there."""


class _Commands(click.Group):
    """A group that imports a command's module when the command is called: most of them need what is slow to import."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = f"{name}_" if keyword.iskeyword(name) else name
        command: click.Command = importlib.import_module(f"pipelines.commands.{module}").command
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = did_you_mean(name, list(COMMANDS)) or f" (commands are {', '.join(COMMANDS)})"
            raise click.UsageError(f"{name!r} is no command{near}", context)
        return super().resolve_command(context, arguments)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Commands,
    no_args_is_help=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done; 1 the audit found a difference, or a crash; 2 mistakes, nothing was done; 3 done, but "
    "a running stream has pending records.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=lambda *given: _print_version(*given),
    help="Show the version and exit.",
)  # fmt: skip
@click.option("--debug", is_flag=True, help="After a crash show the whole traceback.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Data Streamer: IoT connectivity events and usage records, from raw feeds to streams, warehouse and report.

    `data-streamer COMMAND --help` tells about one command.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _print_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        try:
            version = importlib.metadata.version("data-streamer")
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed: run from its source)"
        click.echo(f"data-streamer {version}")
        context.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code. The console script ``data-streamer``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with cli.make_context("data-streamer", list(given)) as context:
            outcome: Any = cli.invoke(context)
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except click.exceptions.Exit as done:  # --help, --version
        return done.exit_code
    except click.ClickException as error:
        print_mistakes(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        stop_printing()
        return 0
    except Exception as error:  # noqa: BLE001 - whatever it was, it is told in one place, with its cause
        print_crash(error, given)
        return CRASHED


__all__ = ["COMMANDS", "cli", "main"]
