"""``data-streamer simulate``: feeds of known truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipelines.commands.errors import mistakes
from pipelines.screen import console_of, print_line, print_table, table_of
from simulator import SimulationOptions, simulate
from simulator.options import RENDERINGS

HELP = {
    "devices": "Devices of the fleet.",
    "days": "Days of the feed, 1 to 366.",
    "seed": "The same seed and options give the same bytes.",
    "duplicates": "Copies of records at other places of the feed.",
    "conflicts": "Second records with the id of another one, but another time, device, severity or volume.",
    "malformed": "Lines that cannot become a record, of every kind of fault.",
    "late": "Records that arrive ten minutes to a day after their time.",
    "shuffled": "Records that arrive in no order within their file's hours.",
    "odd": "Valid records with numbers as texts, unknown fields, other forms of time, very large ids.",
    "empty": "Empty lines.",
    "misplaced": "Records of one kind in the files of the other feed.",
    "rerendered": "Share of the duplicates that come in another rendering.",
    "gzipped": "Share of the records in the current rendering that lie in gzip files.",
    "unpriced": "Usage records without a cost.",
    "over_long": "Lines of more than 16 MB.",
    "over_long_bytes": "Length of such a line.",
    "renderings": f"Weights of the renderings ({', '.join(RENDERINGS)}), as NAME=WEIGHT,…",
    "start": "First day (UTC).",
}
"""Help of each field of `SimulationOptions`."""


class _Weights(click.ParamType):
    """``current=0.9,csv=0.1`` as a mapping."""

    name = "NAME=WEIGHT,…"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> dict[str, float]:
        if isinstance(value, dict):
            return value
        try:
            pairs = (item.partition("=") for item in str(value).split(",") if item.strip())
            return {name.strip(): float(weight) for name, _, weight in pairs}
        except ValueError:
            return self.fail(f"{value!r} is not of the form current=0.9,csv=0.1", parameter, context)


def _options(function: Callable[..., int]) -> Callable[..., int]:
    """One option per field of `SimulationOptions`, with its default."""
    for field in reversed(fields(SimulationOptions)):
        kind: Any = field.default if field.default is not MISSING else None
        default = kind if kind is not None else field.default_factory()
        shown: Any = True if kind is not None else ",".join(f"{name}={weight}" for name, weight in default.items())
        metavar = {int: "N", float: "SHARE", str: "YYYY-MM-DD"}.get(type(default))
        function = click.option(
            f"--{field.name.replace('_', '-')}", field.name, default=default, show_default=shown, metavar=metavar,
            type=_Weights() if isinstance(default, dict) else type(default), help=HELP[field.name],
        )(function)  # fmt: skip
    return function


@click.command()
@click.option("--output", required=True, metavar="DIR", help="Directory of its own; an earlier simulation is replaced.")
@_options
def command(output: str, **given: Any) -> int:
    """Make feeds of known truth: DIR/events, DIR/usage, and DIR/truth.json with what the job must find in them.

    Shares are of the unique records, between 0 and 1.
    """
    with mistakes(ValueError, between="; "):
        options = SimulationOptions(**given)
    screen = console_of(stderr=True)
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar,
        mistakes(FileExistsError),
    ):
        task = bar.add_task("records", total=None)
        summary = simulate(
            options, output, lambda done, expected: bar.update(task, completed=done, total=max(done, expected))
        )
    seconds = time.monotonic() - started
    console = console_of()
    rate = summary.records / max(seconds, 0.001)
    print_line(
        console,
        f"{summary.records:,} unique records of {options.devices:,} devices over {options.days} "
        f"day{'s' * (options.days != 1)} in {seconds:.1f} s ({rate:,.0f}/s), {summary.size / 1e6:,.1f} MB",
    )
    _print_totals(console, summary.truth["feeds"])
    print_line(console)
    for name, place in (("events", "events/*/*"), ("usage", "usage/*/*"), ("truth", "truth.json")):
        print_line(console, f"  {name:<7} {summary.directory}/{place}")
    return 0


def _print_totals(console: Any, feeds: dict[str, dict[str, Any]]) -> None:
    names = [name for name, value in next(iter(feeds.values())).items() if isinstance(value, int)]
    table = table_of(("feed", *(name.replace("_", " ") for name in names)), [name.replace("_", " ") for name in names])
    for feed, totals in feeds.items():
        table.add_row(feed, *(f"{totals[name]:,}" for name in names))
    print_table(console, table)
