"""``data-streamer report``: writes the report of an output directory again."""

from __future__ import annotations

import click

from pipelines.commands.errors import mistakes
from pipelines.remote import renew_report
from warehouse.layout import WarehouseError


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path())
def command(directory: str) -> int:
    """Write DIR/report.html again, from the warehouse; prints its path."""
    with mistakes(WarehouseError):
        click.echo(renew_report(directory))
    return 0
