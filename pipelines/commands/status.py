"""``data-streamer status``: how a live job stands."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from pipelines.commands.errors import COMPLETE, INCOMPLETE, Mistakes
from pipelines.live.status import STOPPED, Status, read_statuses
from pipelines.live.view import picture
from pipelines.lock import is_locked
from pipelines.screen import console_of, print_line, print_table, table_of

_STALE = 15.0
"""Seconds after which a running job should have said again how it stands."""


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one live job a line.")
def command(directory: str, as_json: bool) -> int:
    """Show how the live jobs of an output directory stand.

    Each stream is Running, Paused, Error (with the reason) or Pending: its records wait although nothing fails. Exit
    code 3 if a stream is in error, or a job did not end in order.
    """
    if not Path(directory).is_dir():
        raise Mistakes([f"{directory}: is no directory; name the output directory of a live job"])
    try:
        statuses = read_statuses(directory)
    except msgspec.DecodeError as error:
        raise Mistakes(
            [f"{directory}/.live: a status file cannot be read ({error}); it is written again soon"]
        ) from error
    if not statuses:
        raise Mistakes([f"{directory}: no live job has run here; start one with --streaming"])
    running = is_locked(directory)
    codes = [_print(status, running, as_json) for status in statuses]
    return max(codes, default=COMPLETE)


def _print(status: Status, running: bool, as_json: bool) -> int:
    console = console_of()
    killed = status.state != STOPPED and not running
    failed = any(stream.state == "Error" for stream in status.streams)
    if as_json:
        print_line(console, msgspec.json.encode(status).decode())
        return INCOMPLETE if failed or killed else COMPLETE
    if console.is_terminal:
        console.print(picture(status))
    else:
        _print_plain(status)
    age = time.time() - status.updated
    if killed:
        print_line(console, "The job did not end in order: start it again, it takes up what is left.")
    elif status.state != STOPPED and age > _STALE:
        print_line(console, f"This is {age:,.0f} s old: the job does not answer.")
    return INCOMPLETE if failed or killed else COMPLETE


def _print_plain(status: Status) -> None:
    """A job and its streams where there is no terminal: lines for other programs."""
    from pipelines.live.view import line

    console = console_of()
    print_line(console, f"{status.writer}: {line(status)}, {status.ids:,} ids held")
    if not status.streams:
        return
    numbers = ("delivered", "dead", "pending", "oldest")
    table = table_of(("stream", "state", *numbers, "reason"), numbers)
    for stream in status.streams:
        oldest = "" if stream.oldest_seconds is None else f"{stream.oldest_seconds:,.1f} s"
        table.add_row(
            stream.name, stream.state, f"{stream.delivered:,}", f"{stream.dead_letters:,}", f"{stream.pending:,}",
            oldest, stream.reason or "",
        )  # fmt: skip
    print_table(console, table)


__all__ = ["command"]
