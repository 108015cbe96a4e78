"""``data-streamer audit``: proves the ledger of an output directory."""

from __future__ import annotations

import click
from rich.text import Text

from pipelines.commands.errors import COMPLETE, CRASHED, mistakes
from pipelines.remote import opened
from pipelines.screen import console_of, print_line
from warehouse.audit import audit
from warehouse.layout import WarehouseError

_STYLES = {"ok": "green", "note": "dim", "FAIL": "bold red"}


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path())
def command(directory: str) -> int:
    """Prove from what lies in an output directory that nothing was lost.

    Checks every equation of the ledger, and counts every file again against its listed rows and checksum. Exit code 1
    and the first difference where something does not agree.
    """
    with mistakes(WarehouseError), opened(directory, whole=True) as output:
        result = audit(output)
    console = console_of()
    for line in result.lines:
        word, _, rest = line.partition(" ")
        print_line(console, Text.assemble((word, _STYLES.get(word, "")), " ", rest))
    return COMPLETE if result.ok else CRASHED
