from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from warehouse.layout import WarehouseError
from warehouse.sql import query, show


def shown(output: Path, sql: str, width: int | None, limit: int | None = None) -> str:
    """What is printed on a terminal of that width, or into a pipe."""
    sink = io.StringIO()
    terminal = width is not None
    console = Console(file=sink, width=width or 80, force_terminal=terminal, color_system=None, legacy_windows=False)
    show(query(output, sql, limit), console)
    return sink.getvalue()


def test_a_query_sees_tables_and_views(output: Path) -> None:
    answer = query(
        output, "SELECT endpoint_id, sum(cost) AS cost FROM costs WHERE currency = 'EUR' GROUP BY 1 ORDER BY 1"
    )
    assert answer.columns == ["endpoint_id", "cost"]
    assert [(row[0], str(row[1])) for row in answer.rows] == [(1001, "0.0300000001"), (1002, "0.0400000000")]
    assert not answer.more


def test_rows_beyond_the_limit_are_told(output: Path) -> None:
    assert query(output, "FROM events", 12).more is False
    assert query(output, "FROM events", 11).more is True
    assert "3 rows, and more" in shown(output, "SELECT event_id FROM events", 80, 3)


def test_a_wrong_query_says_what_duckdb_says(output: Path) -> None:
    with pytest.raises(WarehouseError, match="query: .*nowhere"):
        query(output, "FROM nowhere")


def test_a_statement_without_rows(output: Path) -> None:
    assert "0 rows" in shown(output, "SELECT 1 WHERE false", 80)
    assert shown(output, "SET threads = 1", 80)


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("sql", ["SELECT event_time, description, severity FROM events", "FROM events"])
def test_nothing_is_wider_than_the_terminal(output: Path, sql: str, width: int) -> None:
    assert max(len(line) for line in shown(output, sql, width).splitlines()) <= width


def test_a_pipe_gets_whole_values(output: Path) -> None:
    long = "x" * 300
    assert long in shown(output, f"SELECT '{long}' AS a, 1 AS b", None)


def test_markup_of_the_terminal_is_text(output: Path) -> None:
    assert "[red]boo[/red]" in shown(output, "SELECT '[red]boo[/red]' AS \"[b]\"", 80)


def test_times_and_nulls(output: Path) -> None:
    text = shown(
        output, "SELECT timestamptz '2026-10-28 10:00:00.5+00' AS a, NULL AS b, '\\xC3\\xA9 \\xFF'::BLOB AS c", 80
    )
    assert "2026-10-28 10:00:00.5" in text
    assert "None" not in text
    assert "é \\xff" in text
