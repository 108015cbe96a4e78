"""``data-streamer sql``: one query on the views of an output directory."""

from __future__ import annotations

import csv
import sys

import click
import msgspec

from pipelines.commands.errors import mistakes
from pipelines.remote import opened
from pipelines.screen import console_of
from warehouse.layout import WarehouseError
from warehouse.sql import Answer, cell_text, query, show

_TABLE_ROWS = 100
"""Rows that a table shows unless told otherwise: it is for people."""

_encoder = msgspec.json.Encoder(decimal_format="number")


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path())
@click.argument("statement", metavar="QUERY")
@click.option("--limit", type=click.IntRange(min=1), help="Most rows (default: 100 in a table, else all).")
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", help="Form of the answer.",
    show_default=True,
)  # fmt: skip
def command(directory: str, statement: str, limit: int | None, form: str) -> int:
    """Ask the warehouse: one query on its tables and views (docs/queries.md); - reads it from standard input.

    \b
    data-streamer sql DIR "SELECT category, severity, count(*) FROM events GROUP BY ALL"
    data-streamer sql DIR "SHOW TABLES"
    """
    statement = sys.stdin.read() if statement == "-" else statement
    if not statement.strip():
        raise click.UsageError('QUERY is empty: give one SQL statement, such as "SHOW TABLES"')
    with mistakes(WarehouseError, between=None), opened(directory) as output:
        answer = query(output, statement, limit or (_TABLE_ROWS if form == "table" else None))
    if form == "table":
        show(answer, console_of())
    elif form == "csv":
        _print_csv(answer)
    else:
        _print_json(answer)
    return 0


def _print_csv(answer: Answer) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows([cell_text(value) for value in row] for row in answer.rows)


def _print_json(answer: Answer) -> None:
    """An array of objects, one a line; decimals are numbers with all their digits."""
    rows = (_encoder.encode(dict(zip(answer.columns, row, strict=True))).decode() for row in answer.rows)
    click.echo("[" + ",\n".join(rows) + "]")
