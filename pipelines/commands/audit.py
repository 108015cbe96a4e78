"""``data-streamer audit``: proves the ledger of an output directory."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click
from rich.text import Text

from pipelines.commands.errors import COMPLETE, CRASHED, mistakes
from pipelines.lock import is_locked, is_unfinished
from pipelines.remote import opened
from pipelines.screen import console_of, print_line
from warehouse.audit import AuditResult, audit
from warehouse.layout import WarehouseError, existing_output
from warehouse.published import published

EVERY = 60.0
"""Seconds between two audits of a run that is followed."""

_STYLES = {"ok": "green", "note": "dim", "FAIL": "bold red"}


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--follow", is_flag=True, help="Audit every minute while a run works in DIR, until it ends, or Ctrl-C.")
def command(directory: str, follow: bool) -> int:
    """Prove from what lies in an output directory that nothing was lost.

    Checks every equation of the ledger, and counts every file again against its listed rows and checksum. Exit code 1
    and the first difference where something does not agree. While a run works in DIR, what it has published is checked;
    a live job publishes every minute.
    """
    if follow:
        return _follow(directory)
    result = _audited(directory)
    _print(result)
    return COMPLETE if result.ok else CRASHED


def _audited(directory: str) -> AuditResult:
    with mistakes(WarehouseError), opened(directory, whole=True) as output:
        if not is_unfinished(directory):
            return audit(output)
        with published(output) as moment:
            result = audit(moment)
    result.lines.insert(0, "note  a run works here, or was killed: what it published last is audited")
    return result


def _follow(directory: str) -> int:
    """Audits while a run works in the directory, and once more when it has ended."""
    with mistakes(WarehouseError):
        existing_output(directory)
    console, code, told = console_of(), COMPLETE, False
    try:
        while True:
            running = is_locked(directory)
            result = _audited(directory)
            code = COMPLETE if result.ok else CRASHED
            if not told or not result.ok or not running:
                _print(result)
            told = True
            print_line(console, f"{datetime.now(UTC):%H:%M:%S} UTC  {result.lines[-1]}")
            if not running:
                return code
            time.sleep(EVERY)
    except KeyboardInterrupt:
        return code


def _print(result: AuditResult) -> None:
    console = console_of()
    for line in result.lines:
        word, _, rest = line.partition(" ")
        print_line(console, Text.assemble((word, _STYLES.get(word, "")), " ", rest))
