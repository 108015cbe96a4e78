from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import document
from benchmarks.document import DOCUMENT, figures
from benchmarks.goals import Finding
from benchmarks.measure import CommandError, Measurement, measure, median


def test_goal_met_and_missed() -> None:
    assert Finding("ratio", 1.4, goal=2.0, stretch=1.5).verdict == "met, stretch too"
    assert Finding("ratio", 1.9, goal=2.0, stretch=1.5).verdict == "met"
    assert Finding("ratio", 2.5, goal=2.0).verdict == "missed by 25%"
    assert Finding("ratio", 45.0).verdict == "–"
    assert Finding("share", 0.75, goal=0.7, least=True).verdict == "met"
    missed = Finding("share", 0.6, goal=0.8, least=True)
    assert (missed.verdict, missed.aim) == ("missed by 25%", "≥ 0.8 ×")


def test_measures_memory_and_processor_time_of_children() -> None:
    hold = "import time; held = bytearray(120_000_000)\nwhile time.process_time() < 0.5: pass"
    started = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    taken = measure([sys.executable, "-c", started])
    assert taken.memory > 100_000_000
    assert 0.4 < taken.cpu <= taken.wall * 2


def test_failing_command_tells_what_it_printed() -> None:
    with pytest.raises(CommandError, match=r"exit code 3(.|\n)*out of order"):
        measure([sys.executable, "-c", "print('out of order'); raise SystemExit(3)"])


def test_median_of_each_figure() -> None:
    runs = [Measurement(1, 30, 7), Measurement(2, 10, 9), Measurement(9, 20, 8)]
    assert median(runs) == Measurement(2, 20, 8)


def test_document_has_its_marks_and_a_row_per_figure() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert text.count("<!-- figures: written by python -m benchmarks -->") == text.count("<!-- end of figures -->") == 1
    section = figures("python -m benchmarks", "duckdb", [Finding("ratio", 2.5, goal=2.0, detail="3,000 records")])
    assert "| ratio | 2.50 × | ≤ 2 × | missed by 25% | 3,000 records |" in section


def test_writing_keeps_the_figures_of_other_benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "benchmarks.md"
    copy.write_text("above\n<!-- figures: written by python -m benchmarks -->\n<!-- end of figures -->\nbelow\n")
    monkeypatch.setattr(document, "DOCUMENT", copy)
    document.write("first", {"duckdb": [Finding("ratio", 1.0)], "scaling": [Finding("time", 6.0)]})
    document.write("second", {"duckdb": [Finding("ratio", 3.0)]})
    text = copy.read_text()
    assert text.startswith("above\n") and text.endswith("\nbelow\n")
    assert (
        text.index("### duckdb")
        < text.index("| ratio | 3.00 ×")
        < text.index("### scaling")
        < text.index("| time | 6.00")
    )
    assert "ratio | 1.00" not in text and text.count("`first`") == text.count("`second`") == 1
