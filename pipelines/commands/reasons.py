"""``data-streamer reasons``: the table that texts are normalised by."""

from __future__ import annotations

import click

from pipelines.commands.errors import mistakes
from pipelines.reasons_file import read_reasons
from pipelines.screen import console_of, print_line, print_prose, print_table, table_of
from schemas.reasons import OTHER_REASON, REASON_TABLE, SOURCE_DOMAINS, ReasonsError


@click.command()
@click.option("--reasons", "file", metavar="FILE", help="Your own rows, in the form of schemas/reasons.yaml.")
def command(file: str | None) -> int:
    """List the reasons of rejections and failures, in the order in which they are tried; the first that fits wins.

    Texts are regular expressions on an event's description in lower case.
    """
    with mistakes(ReasonsError):
        table = read_reasons(file)
    console = console_of()
    shown = table_of(("reason", "domain", "types", "text"))
    shown.columns[0].no_wrap = shown.columns[1].no_wrap = True
    shown.columns[3].overflow = "fold"
    own = len(table) - len(REASON_TABLE)
    for number, row in enumerate(table):
        text = "any" if row.text is None else row.text
        reason = f"{row.reason} *" if number < own else row.reason
        shown.add_row(reason, row.domain, " ".join(map(str, row.types)), text)
    print_table(console, shown)
    print_line(console)
    domains = ", ".join(f"{source} → {domain}" for source, domain in SOURCE_DOMAINS.items())
    print_prose(console, f"Rejected or failed, and no row fits: {OTHER_REASON}, domain by source: {domains}.")
    if own:
        print_line(console, f"* from {file}")
    return 0
