"""The command line of the benchmarks: measure, show each figure beside its goal, write ``docs/benchmarks.md``."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import document, live, rounds, seen_ids, webhook
from benchmarks.feeds import BYTES_PER_RECORD
from benchmarks.goals import Finding
from benchmarks.measure import REPOSITORY, CommandError

RECORDS = 3_000_000

BENCHMARKS: dict[str, Callable[[rounds.Bench], list[Finding]]] = {
    "duckdb": rounds.against_duckdb,
    "streams": rounds.many_streams,
    "scaling": rounds.scaling,
    "textbook": rounds.per_element,
    "webhook": webhook.over_bare_client,
    "seen_ids": seen_ids.as_a_cell_grows,
}
"""The benchmarks of a usual run, by the name that ``--only`` takes."""

ASKED_FOR: dict[str, Callable[[rounds.Bench], list[Finding]]] = {
    "full": rounds.full,
    "live": live.live,
    "soak": live.soak,
}
"""Those of ``--full`` and ``--only``: the first takes long, the others need Prism and Java."""

_SIZE_OF_RUN = 1.8
"""Disk of a feed, of its spill and of its results, over that of the feed: at most 1.73, seen every two seconds."""
_SIMULATED, _PROCESSED = 30_000, 40_000
"""Records a second that are simulated, and processed, on two slow cores: for the time that is announced."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmarks; returns 1 if results differ or a side fails. A goal that is missed is no failure."""
    given = _parser().parse_args(arguments)
    console = Console(highlight=False)

    def say(text: str) -> None:
        console.print(text, style="dim", markup=False, soft_wrap=True)

    bench = rounds.Bench(
        given.directory.resolve(), given.records, given.rounds, say, given.messages, given.rate, given.seconds
    )
    chosen = dict(BENCHMARKS) | ({"full": rounds.full} if given.full else {})
    if given.only:
        chosen = {name: (BENCHMARKS | ASKED_FOR)[name] for name in given.only}
    if not set(chosen) <= {"live", "soak"} and not _announce(console, bench, "full" in chosen):
        return 1
    findings = {}
    try:
        for name, run in chosen.items():
            console.rule(name, align="left")
            findings[name] = run(bench)
    except (CommandError, rounds.DifferentResultsError) as error:
        console.print(str(error), style="red", markup=False)
        return 1
    finally:
        shutil.rmtree(bench.directory / "output", ignore_errors=True)
    console.print(_table(findings))
    if given.write:
        command = " ".join(["python -m benchmarks", *(sys.argv[1:] if arguments is None else arguments)])
        document.write(command, findings)
        console.print(f"written to {document.DOCUMENT.relative_to(REPOSITORY)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the job against its peers.")
    parser.add_argument("--records", type=int, default=RECORDS, metavar="N", help="Size of the feed (%(default)s).")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="How often each side runs (%(default)s).")
    parser.add_argument("--full", action="store_true", help="Also ten times the records.")
    parser.add_argument(
        "--only", nargs="+", choices=[*BENCHMARKS, *ASKED_FOR], metavar="NAME",
        help=f"Only these: {', '.join([*BENCHMARKS, *ASKED_FOR])}.",
    )  # fmt: skip
    usual = rounds.Bench
    parser.add_argument(
        "--messages", type=int, default=usual.messages, metavar="N", help="live: its backlog (%(default)s)."
    )
    parser.add_argument(
        "--rate", type=float, default=usual.rate, metavar="N", help="live, soak: messages a second (%(default)g)."
    )
    parser.add_argument(
        "--seconds", type=float, default=usual.seconds, metavar="N", help="live, soak: for so long (%(default)g)."
    )
    parser.add_argument(
        "--directory", type=Path, default=REPOSITORY / "build" / "bench", metavar="DIR",
        help="Where feeds and outputs go (build/bench); feeds stay there for the next time.",
    )  # fmt: skip
    parser.add_argument("--write", action="store_true", help="Write the figures into docs/benchmarks.md.")
    return parser


def _announce(console: Console, bench: rounds.Bench, full: bool) -> bool:
    """Says what disk and time the benchmarks need; False if the disk has not got it."""
    records = bench.records * (rounds.LARGE if full else 1)
    disk = records * BYTES_PER_RECORD * _SIZE_OF_RUN + bench.records * BYTES_PER_RECORD
    runs = bench.rounds * 8 * bench.records + (11 * bench.records if full else 0)
    minutes = (records / _SIMULATED + runs / _PROCESSED) / 60
    bench.directory.mkdir(parents=True, exist_ok=True)
    present = sum(path.stat().st_size for path in bench.directory.rglob("*") if path.is_file())
    free = shutil.disk_usage(bench.directory).free
    console.print(
        f"{records:,} records at most: about {disk / 1e9:,.0f} GB of disk in {bench.directory} ({free / 1e9:,.0f} GB "
        f"are free, {present / 1e9:,.0f} GB already there) and about {minutes:,.0f} minutes on 2 cores",
        soft_wrap=True,
    )
    if free + present < disk:
        console.print("not enough disk: free some, or choose another --directory or fewer --records", style="red")
        return False
    return True


def _table(findings: dict[str, list[Finding]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("what", "figure", "goal", "", "of what"):
        table.add_column(name, justify="right" if name == "figure" else "left", no_wrap=name == "figure")
    for group in findings.values():
        for found in group:
            style = "" if found.goal is None else "green" if found.met else "red"
            verdict = f"[{style}]{found.verdict}[/]" if style else found.verdict
            table.add_row(found.what, found.value, found.aim, verdict, found.detail)
    return table


if __name__ == "__main__":
    sys.exit(main())
