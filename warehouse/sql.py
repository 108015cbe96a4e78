"""Run one query on the views of an output directory and show the answer as a table."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from warehouse.layout import WarehouseError
from warehouse.views import connect

_NARROWEST = 11
"""Characters below which a column says nothing: a shortened date, or a shortened name and two blanks."""
_RIGHT = ("INT", "DECIMAL", "DOUBLE", "FLOAT")
_TIMES = ("TIMESTAMP", "DATE", "TIME")
_PICTURES = {code: 0x2400 + code for code in range(32)} | {127: 0x2421} | dict.fromkeys(range(128, 160), 0xFFFD)
"""Control characters as pictures of themselves: what stands in a record must not command a terminal."""


@dataclass(frozen=True)
class Answer:
    """Rows of a query.

    Attributes:
      columns: names of the columns.
      types: their DuckDB types, as text.
      rows: the rows; times are UTC, money and volumes are `decimal.Decimal`.
      more: there were more rows than were asked for.
    """

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    more: bool = False


def query(output: str | os.PathLike[str], sql: str, limit: int | None = None) -> Answer:
    """Run a query on the views of an output directory.

    Args:
      output: the output directory.
      sql: one statement; it sees the tables and views of docs/warehouse.md.
      limit: the most rows to return.

    Raises:
      WarehouseError: `output` is not an output directory, or DuckDB refuses the query; the message is DuckDB's.
    """
    with connect(output) as connection:
        try:
            cursor = connection.execute(sql)
            if not cursor.description:
                return Answer([], [], [])
            rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit + 1)
        except duckdb.Error as error:
            raise WarehouseError(f"query: {error}") from error
        columns = [str(column[0]) for column in cursor.description]
        types = [str(column[1]) for column in cursor.description]
    more = limit is not None and len(rows) > limit
    return Answer(columns, types, rows[:limit] if more else rows, more)


def show(answer: Answer, console: Console) -> None:
    """Print an answer as a table that fits the console: long values are cut with an ellipsis, no column is left out.

    Where there are too many columns to be read side by side, each row is printed as a block of lines. A console that is
    no terminal (a pipe, a file) gets the whole values.
    """
    if console.is_terminal and len(answer.columns) * _NARROWEST > console.width:
        _show_blocks(answer, console)
    else:
        _show_table(answer, console)
    rows = f"{len(answer.rows):,} row{'' if len(answer.rows) == 1 else 's'}"
    console.print(Text(f"{rows}, and more" if answer.more else rows, style="dim"))


def _show_blocks(answer: Answer, console: Console) -> None:
    width = max(len(name) for name in answer.columns)
    for number, row in enumerate(answer.rows, start=1):
        console.print(Text(f"row {number}", style="bold"))
        for name, value in zip(answer.columns, row, strict=True):
            line = Text(f"  {name:<{width}}  ", style="dim").append(Text(_shown(value), style="not dim"))
            console.print(line, no_wrap=True, overflow="ellipsis")


def _show_table(answer: Answer, console: Console) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, kind in zip(answer.columns, answer.types, strict=True):
        number = kind.upper().startswith(_RIGHT) or "INT" in kind.upper()
        # Numbers and times are worth nothing in part: texts give way to them.
        whole = number or kind.upper().startswith(_TIMES)
        table.add_column(escape(name), justify="right" if number else "left", no_wrap=whole, overflow="ellipsis")
    for row in answer.rows:
        table.add_row(*(Text(_shown(value), no_wrap=True, overflow="ellipsis") for value in row))
    if console.is_terminal or console.width >= _natural_width(answer):
        console.print(table)
    else:
        Console(file=console.file, width=max(console.width, _natural_width(answer))).print(table)


def cell_text(value: Any) -> str:
    """One value as text: null is empty, times are UTC to the second (finer where they are), decimals are in full."""
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        text = value.strftime("%Y-%m-%d %H:%M:%S")
        return f"{text}.{value.microsecond:06d}".rstrip("0") if value.microsecond else text
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _shown(value: Any) -> str:
    """One value as text on one line."""
    return cell_text(value).translate(_PICTURES)


def _natural_width(answer: Answer) -> int:
    columns: Sequence[Sequence[Any]] = list(zip(*answer.rows, strict=True)) or [() for _ in answer.columns]
    widths = [
        max([len(name), *(len(cell_text(value)) for value in values)])
        for name, values in zip(answer.columns, columns, strict=True)
    ]
    return sum(widths) + 2 * len(widths) + 2
