"""``data-streamer types``: the catalogue of event types."""

from __future__ import annotations

import click

from pipelines.commands.errors import MISTAKES
from pipelines.screen import console_of, print_line, print_table, table_of
from schemas.event_types import CATEGORIES, EVENT_TYPES, EventType


@click.command()
@click.argument("word", required=False)
def command(word: str | None) -> int:
    """List the event types: id, name, category, usual severity, and the state that they put a device in.

    WORD is an id, a category, or a part of a name. The catalogue is schemas/event_types.json, described in
    docs/event-types.md. Type ids that it does not know get the category `other`.
    """
    found = [kind for kind in EVENT_TYPES.values() if word is None or _fits(kind, word.casefold())]
    if not found:
        click.echo(f"error: {word!r} is no id, no category and no part of a name; categories are "
                   f"{', '.join(CATEGORIES)}", err=True)  # fmt: skip
        return MISTAKES
    console = console_of()
    for category, title in CATEGORIES.items():
        kinds = [kind for kind in found if kind.category == category]
        if not kinds:
            continue
        table = table_of(("id", "name", "severity", "outcome", "state"), ("id",), f"{title} ({category})")
        table.columns[1].min_width, table.columns[2].min_width = 38, 8
        for kind in kinds:
            outcome = "" if kind.outcome == "not_applicable" else kind.outcome
            table.add_row(str(kind.id), kind.name, kind.severity, outcome, kind.device_state or "")
        print_table(console, table)
        print_line(console)
    return 0


def _fits(kind: EventType, word: str) -> bool:
    names = (kind.name, *kind.other_names)
    return word == str(kind.id) or word == kind.category or any(word in name.casefold() for name in names)
