from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.warehouse.synthetic_output import METER, TRACKER, WRITER
from warehouse.queries import QUERIES, queries_page
from warehouse.views import connect


def answer(output: Path, name: str) -> list[tuple[Any, ...]]:
    with connect(output) as connection:
        return connection.execute(QUERIES[name]).fetchall()


def test_the_page_is_the_queries() -> None:
    page = Path(__file__).parents[2] / "docs" / "queries.md"
    assert page.read_text() == queries_page(), "run: python -m warehouse.queries > docs/queries.md"


@pytest.mark.parametrize("name", QUERIES)
def test_queries_are_short(name: str) -> None:
    assert len(QUERIES[name].splitlines()) <= 6


def test_cost_per_device_counts_one_country_and_one_currency(output: Path) -> None:
    assert answer(output, "cost_per_device") == [
        (TRACKER, "tracker-2", Decimal("0.04")),
        (METER, "meter-1", Decimal("0.0300000001")),
    ]


def test_limits_passed(output: Path) -> None:
    assert [row[1:5] for row in answer(output, "limits_passed")] == [
        (METER, "meter-1", "quota_threshold", 80),
        (METER, "meter-1", "quota_exhausted", 100),
    ]


def test_usage_never_adds_units(output: Path) -> None:
    assert answer(output, "usage_by_network") == [
        ("DE", "T-Mobile", "Zone 1", "MB", Decimal("5.5"), 1),
        ("IT", "Vodafone IT", "Zone 1", "MB", Decimal("4.750001"), 3),
        ("IT", "Vodafone IT", "Zone 1", "SMS", Decimal(1), 1),
    ]


def test_why_offline_begins_with_the_newest_reason(output: Path) -> None:
    assert answer(output, "why_offline")[0][1:5] == ("Create PDP Context", "rejected", "quota_exhausted", "account")


def test_rejections_by_operator_hour_and_reason(output: Path) -> None:
    assert [(row[0], row[1].hour, *row[2:]) for row in answer(output, "rejections")] == [
        ("Vodafone IT", 11, "quota_exhausted", 2),
        ("Vodafone IT", 10, "roaming_not_allowed", 1),
        ("Vodafone IT", 12, "other", 1),
    ]


def test_final_and_changed_hours(output: Path) -> None:
    assert [(row[0].hour, *row[1:]) for row in answer(output, "hours_final")] == [
        (10, True, 0), (11, True, 0), (12, True, 0),
    ]  # fmt: skip
    assert [(row[0].hour, row[1], row[3]) for row in answer(output, "hours_changed")] == [
        (10, "events", 6), (10, "usage", 3), (11, "events", 5), (11, "usage", 1), (12, "events", 1), (12, "usage", 1),
    ]  # fmt: skip


def test_a_session_joins_signalling_and_usage(output: Path) -> None:
    (session,) = answer(output, "sessions")
    assert session[:2] == ("session-1", METER)
    assert session[3:] == (3600, True, Decimal("4.000001"), Decimal("3.5"), Decimal("0.0300000001"), "EUR")


def test_failed_logins(output: Path) -> None:
    assert [row[:4] for row in answer(output, "failed_logins")] == [
        ("jane.doe@example.org", "203.0.113.9", "invalid_credentials", 1)
    ]


def test_the_writer_is_known(output: Path) -> None:
    with connect(output) as connection:
        assert connection.execute("SELECT DISTINCT writer FROM events").fetchall() == [(WRITER,)]
