"""Write the figures into ``docs/benchmarks.md``, between its two marks, a section for each
benchmark; the text around them stays."""

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
_SECTION = re.compile(r"^### (\S+)\n.*?(?=^### |\Z)", re.MULTILINE | re.DOTALL)
_BEGIN, _END = "<!-- figures: written by python -m benchmarks -->", "<!-- end of figures -->"


def machine() -> str:
    """Processor, cores and memory of this machine."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"^model name\s*: (.+)$", facts, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{found[1] if found else platform.processor()}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()}"
    )


def figures(command: str, name: str, group: Sequence[Finding]) -> str:
    """The section of one benchmark."""
    versions = ", ".join(f"{package} {version(package)}" for package in ("apache-beam", "pyarrow", "polars", "duckdb"))
    lines = [
        f"### {name}",
        "",
        f"Taken on {datetime.now(UTC):%Y-%m-%d} by `{command}` on {machine()}; "
        f"Python {platform.python_version()}, {versions}.",
        "",
        "| what | figure | goal | | of what |",
        "|---|---:|---|---|---|",
    ]
    lines += [f"| {found.what} | {found.value} | {found.aim} | {found.verdict} | {found.detail} |" for found in group]
    return "\n".join(lines)


def write(command: str, findings: Mapping[str, Sequence[Finding]]) -> None:
    """Replaces the sections of the benchmarks that were taken; those of others stay, with their own day and command."""
    text = DOCUMENT.read_text("utf-8")
    before, rest = text.split(_BEGIN)
    written, after = rest.split(_END)
    sections = {found[1]: found[0].strip() for found in _SECTION.finditer(written)}
    sections |= {name: figures(command, name, group) for name, group in findings.items()}
    DOCUMENT.write_text(f"{before}{_BEGIN}\n" + "\n\n".join(sections.values()) + f"\n{_END}{after}", "utf-8")
