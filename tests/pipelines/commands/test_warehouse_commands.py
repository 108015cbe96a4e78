from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from tests.pipelines.commands.conftest import Call, Finished


def test_audit_passes(call: Call, finished: Finished) -> None:
    outcome = call("audit", finished.output)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[-1] == "balanced: nothing was lost"


def test_audit_names_the_first_difference(call: Call, finished: Finished, tmp_path: Path) -> None:
    output = tmp_path / "output"
    shutil.copytree(finished.output, output)
    gone = sorted((output / "warehouse" / "events").rglob("*.parquet"))[0]
    gone.unlink()
    outcome = call("audit", output)
    assert outcome.code == 1
    assert outcome.out.splitlines()[-1].startswith("NOT balanced: ")
    assert gone.name in outcome.out.splitlines()[-1]


def test_report_is_written_again(call: Call, finished: Finished) -> None:
    report = finished.output / "report.html"
    report.unlink()
    outcome = call("report", finished.output)
    assert (outcome.code, outcome.out) == (0, f"{report}\n")
    assert report.stat().st_size > 10_000


def _device(call: Call, finished: Finished) -> dict[str, str]:
    sql = "SELECT endpoint_id, iccid, imei FROM events WHERE iccid IS NOT NULL AND imei IS NOT NULL LIMIT 1"
    return next(csv.DictReader(io.StringIO(call("sql", finished.output, sql, "--format=csv").out)))


def test_device_by_each_of_its_names(call: Call, finished: Finished) -> None:
    device = _device(call, finished)
    for name in ("endpoint_id", "iccid", "imei"):
        outcome = call("device", finished.output, device[name], "--limit=5")
        assert outcome.code == 0
        assert f"endpoint {device['endpoint_id']}" in outcome.out.splitlines()[0]
        assert len(outcome.out.splitlines()) == 2 + 1 + 5 + 2, "who, headers, five entries, verdict"


def test_device_that_nobody_knows(call: Call, finished: Finished) -> None:
    for key in ("123456", "no-number"):
        outcome = call("device", finished.output, key)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("error: device")


def test_sql_in_each_form(call: Call, finished: Finished) -> None:
    sql = "SELECT currency, sum(cost) AS cost, count(*) AS records FROM usage GROUP BY ALL ORDER BY ALL"
    table, rows = call("sql", finished.output, sql), call("sql", finished.output, sql, "--format=csv")
    found = call("sql", finished.output, sql, "--format=json")
    from_csv = list(csv.DictReader(io.StringIO(rows.out)))
    from_json = json.loads(found.out, parse_float=Decimal)
    assert [Decimal(row["cost"]) for row in from_csv if row["cost"]] == [
        Decimal(row["cost"]) for row in from_json if row["cost"] is not None
    ]
    assert sum(row["records"] for row in from_json) == finished.truth()["usage"]["unique"]
    assert all(row["cost"] in table.out for row in from_csv)


def test_sql_from_standard_input_with_a_limit(call: Call, finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT event_id FROM events"))
    assert "2 rows, and more" in call("sql", finished.output, "-", "--limit=2").out


def test_sql_mistakes(call: Call, finished: Finished) -> None:
    outcome = call("sql", finished.output, "SELEC 1")
    assert (outcome.code, outcome.out) == (2, "")
    assert "syntax error" in outcome.err
    assert call("sql", finished.output, " ").code == 2


def test_nothing_is_coloured_or_folded_in_a_pipe(call: Call, finished: Finished) -> None:
    device = _device(call, finished)
    for arguments in (
        ("audit", finished.output), ("reasons",), ("schema", "events"), ("device", finished.output, device["iccid"]),
        ("sql", finished.output, "SELECT * FROM events LIMIT 3"),
    ):  # fmt: skip
        out = call(*arguments).out
        assert "\x1b" not in out
        assert "…" not in out
    assert len(call("sql", finished.output, "SELECT * FROM events LIMIT 3").out.splitlines()) == 1 + 3 + 1
