"""How the job and the commands print: what fits a terminal, and is whole where a program reads it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_UNLIMITED = 10_000

_PICTURES = (
    {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"}
    | {127: 0x2421}
    | dict.fromkeys(range(128, 160), 0xFFFD)
)
"""Control characters as pictures of themselves: what stands in a record must not command a terminal."""


class _Console(Console):
    """A console that leaves it to the caller what a closed pipe means; rich would end the program."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console_of(stderr: bool = False) -> Console:
    """A console without automatic colours. Where it is no terminal, there are no colours and no limit of width."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return _Console(stderr=stderr, highlight=False, width=None if terminal else _UNLIMITED)


def table_of(columns: Sequence[str], right: Iterable[str] = (), title: str | None = None) -> Table:
    """An empty table without lines; the columns in `right` are numbers.

    Args:
      columns: headers.
      right: headers of columns that are aligned to the right.
      title: a line above.
    """
    numbers = set(right)
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold", header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=name in numbers)
    return table


def cut(text: str) -> Text:
    """A cell that stays on one line: where there is no room it ends in an ellipsis."""
    return Text(text.translate(_PICTURES), no_wrap=True, overflow="ellipsis")


def print_table(console: Console, table: Table) -> None:
    """Prints a table: in a terminal within its width, else each row on one line."""
    if console.is_terminal:
        console.print(table)
        return
    width = max(Measurement.get(console, console.options, table).maximum, 1)
    with console.capture() as captured:
        console.print(table, width=width)
    for line in captured.get().splitlines():
        print_line(console, line.rstrip())


def print_prose(console: Console, text: str | Text) -> None:
    """Prints sentences: in a terminal folded between words, else on one line."""
    console.print(_harmless(text))


def print_line(console: Console, text: str | Text = "") -> None:
    """Prints one line as it is, to be copied: a path, a command, a record. A terminal may fold it anywhere."""
    console.print(_harmless(text), soft_wrap=True)


def stop_printing() -> None:
    """Lets go of standard output: its reader (`| head`) has seen enough, and what is left in the buffer must not raise
    again when Python ends.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _harmless(text: str | Text) -> Text:
    if isinstance(text, str):
        return Text(text.translate(_PICTURES))
    text.plain = text.plain.translate(_PICTURES)  # one character for one: the styles stay in place
    return text
