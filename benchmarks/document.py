"""Write the figures into ``docs/benchmarks.md``, between its two marks; the text around them stays."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.goals import Finding
from benchmarks.measure import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- figures: written by python -m benchmarks -->", "<!-- end of figures -->"


def machine() -> str:
    """Processor, cores and memory of this machine."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"^model name\s*: (.+)$", facts, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{found[1] if found else platform.processor()}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()}"
    )


def figures(command: str, findings: Mapping[str, Sequence[Finding]]) -> str:
    """The generated section."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("apache-beam", "pyarrow", "polars", "duckdb"))
    lines = [
        f"Taken on {datetime.now(UTC):%Y-%m-%d} by `{command}` on {machine()}; "
        f"Python {platform.python_version()}, {versions}.",
        "",
        "| what | figure | goal | | of what |",
        "|---|---:|---|---|---|",
    ]
    for group in findings.values():
        lines += [
            f"| {found.what} | {found.value} | {found.aim} | {found.verdict} | {found.detail} |" for found in group
        ]
    return "\n".join(lines)


def write(command: str, findings: Mapping[str, Sequence[Finding]]) -> None:
    """Replaces the generated section."""
    text = DOCUMENT.read_text("utf-8")
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    DOCUMENT.write_text(f"{before}{_BEGIN}\n{figures(command, findings)}\n{_END}{after}", "utf-8")
