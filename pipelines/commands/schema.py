"""``data-streamer schema``: the JSON Schema of the streams file, or the schema of a table."""

from __future__ import annotations

import json

import click

from pipelines.screen import console_of, print_line, print_prose, print_table, table_of
from schemas.definition import did_you_mean
from schemas.derive import avro_schema, bigquery_table, description_of
from schemas.tables import TABLES, Table

STREAMS = "streams"


@click.command()
@click.argument("name", metavar="streams|TABLE")
@click.option(
    "--format", "form", type=click.Choice(["table", "arrow", "bigquery", "avro"]), default="table", show_default=True,
    help="Form of a table's schema.",
)  # fmt: skip
def command(name: str, form: str) -> int:
    """Print the JSON Schema of the streams file, or the schema of a table of the warehouse.

    Editors complete a streams file that begins with `# yaml-language-server: $schema=FILE`.
    """
    if name != STREAMS and name not in TABLES:
        names = [STREAMS, *TABLES]
        raise click.UsageError(f"{name!r} is none of {', '.join(names)}{did_you_mean(name, names)}")
    if name == STREAMS:
        from transforms.route.definitions import streams_json_schema  # knows every destination: slow to import

        if form != "table":
            raise click.UsageError(f"--format={form} is for tables; the schema of the streams file is JSON Schema")
        _print_json(streams_json_schema())
    elif form == "bigquery":
        _print_json(bigquery_table(TABLES[name]))
    elif form == "avro":
        _print_json(avro_schema(TABLES[name]))
    elif form == "arrow":
        click.echo(TABLES[name].schema.to_string(show_field_metadata=False))
    else:
        _print_columns(TABLES[name])
    return 0


def _print_json(content: object) -> None:
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))


def _print_columns(table: Table) -> None:
    console = console_of()
    print_prose(console, f"{table.name}: {table.description}")
    for title, names in (("key", table.key), ("labels", table.labels), ("sums", table.sums)):
        if names:
            print_prose(console, f"{title}: {', '.join(names)}")
    print_line(console)
    shown = table_of(("column", "type", "meaning"))
    shown.columns[0].no_wrap = shown.columns[1].no_wrap = True
    for field in table.schema:
        kind = str(field.type).replace("timestamp[us, tz=UTC]", "timestamp")
        shown.add_row(field.name, kind, description_of(field))
    print_table(console, shown)
