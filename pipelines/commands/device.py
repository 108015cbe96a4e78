"""``data-streamer device``: one device's timeline, and where its trouble lies."""

from __future__ import annotations

import click
from rich.text import Text

from pipelines.commands.errors import mistakes
from pipelines.remote import opened
from pipelines.screen import console_of, cut, print_line, print_prose, print_table, table_of
from warehouse.device import Entry, timeline
from warehouse.layout import WarehouseError

_WIDE = 140
"""Characters of a terminal from which on the texts of events have room beside the other columns."""


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path())
@click.argument("key", metavar="ID|ICCID|IMEI")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most entries, the newest.")
@click.option("--text/--no-text", default=None, help="Show the texts of events (default: where there is room).")
def command(directory: str, key: str, limit: int, text: bool | None) -> int:
    """Show one device's timeline: signalling and usage on one time axis, with reasons and domains, and a verdict.

    The device is given by its endpoint id, ICCID or IMEI. Times are UTC.
    """
    with mistakes(WarehouseError), opened(directory) as output:
        found = timeline(output, key, limit)
    console = console_of()
    print_prose(console, f"{found.label} (found by {found.matched})")
    print_line(console)
    with_text = text if text is not None else not console.is_terminal or console.width >= _WIDE
    columns = ["time (UTC)", "what", "network", "outcome", "domain", "text"]
    table = table_of(columns if with_text else columns[:-1])
    table.columns[0].no_wrap = table.columns[4].no_wrap = True
    for entry in found.entries:
        time, *cells = _cells(entry)[: len(table.columns)]
        table.add_row(time, *map(cut, cells), style=_style(entry))
    print_table(console, table)
    print_line(console)
    style = "green" if found.fault == "well" else "bold yellow" if found.fault == "unknown" else "bold red"
    print_prose(console, Text(found.verdict, style=style))
    return 0


def _cells(entry: Entry) -> tuple[str, ...]:
    if entry.kind == "usage":
        return (f"{entry.time:%Y-%m-%d %H:%M:%S}", f"usage: {entry.what}", entry.network, entry.text, "", "")
    told = entry.reason or (entry.outcome if entry.outcome != "not_applicable" else None) or ""
    return (f"{entry.time:%Y-%m-%d %H:%M:%S}", entry.what, entry.network, told, entry.domain or "", entry.text)


def _style(entry: Entry) -> str:
    if entry.outcome in ("rejected", "failed") or entry.severity == "CRITICAL":
        return "red"
    if entry.severity == "WARN" or entry.reason is not None:
        return "yellow"
    return "dim" if entry.kind == "usage" else ""
