"""The benchmarks. Each takes its sides in turns within one run, and gives findings from the medians."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import sides
from benchmarks.compare import compare
from benchmarks.feeds import Feed, feed
from benchmarks.goals import Finding
from benchmarks.measure import Measurement, median

MEGABYTE = 1e6
SMALL, LARGE = 10, 10
"""The small feed is a tenth of the usual one; the large one, of ``--full``, ten times it."""
TEXTBOOK_RECORDS = 90_000
STREAMS = 50


class DifferentResultsError(Exception):
    """The job and its peer gave different rows; the text shows them."""


@dataclass(frozen=True)
class Bench:
    """Where and how much.

    Attributes:
      directory: where feeds and outputs go.
      records: size of the usual feed.
      rounds: how often each side runs.
      say: tells how far it is.
      messages: backlog of the live job.
      rate: messages a second that are published to it.
      seconds: for so long.
    """

    directory: Path
    records: int
    rounds: int
    say: Callable[[str], None]
    messages: int = 200_000
    rate: float = 2_000.0
    seconds: float = 60.0

    def feed(self, records: int) -> Feed:
        """The feed of a size."""
        return feed(self.directory / f"feed-{records}", records, say=self.say)

    def output(self, name: str) -> Path:
        """Where a side writes."""
        return self.directory / "output" / name

    def interleaved(
        self, runs: Mapping[str, Callable[[], Measurement]], rounds: int | None = None
    ) -> dict[str, Measurement]:
        """Runs all sides in turns, several rounds; gives the medians by name."""
        found: dict[str, list[Measurement]] = {name: [] for name in runs}
        for number in range(1, (rounds or self.rounds) + 1):
            for name, run in runs.items():
                taken = run()
                found[name].append(taken)
                self.say(f"round {number}: {name}: {_told(taken)}")
        return {name: median(taken) for name, taken in found.items()}


def _told(taken: Measurement) -> str:
    return f"{taken.wall:.1f} s, {taken.cpu:.1f} CPU s, {taken.memory / MEGABYTE:,.0f} MB"


def against_duckdb(bench: Bench) -> list[Finding]:
    """The job on one and on two processes over DuckDB on two threads; first of all, that their results are equal.

    Raises:
      DifferentResultsError: they are not.
    """
    data = bench.feed(bench.records)
    taken = bench.interleaved({
        "DuckDB, 2 threads": lambda: sides.peer(data, bench.output("duckdb")),
        "ours, 1 process": lambda: sides.ours(data, bench.output("ours-1"), 1),
        "ours, 2 processes": lambda: sides.ours(data, bench.output("ours-2"), 2),
    })  # fmt: skip
    for name in ("ours-1", "ours-2"):
        counts, differences = compare(bench.output(name), bench.output("duckdb"))
        if differences:
            raise DifferentResultsError("\n".join(map(str, differences)))
        bench.say(
            f"{name} equals DuckDB: " + ", ".join(f"{count:,} rows of {table}" for table, count in counts.items())
        )
    peer, one, two = taken.values()
    of = f"{data.lines:,} records"
    return [
        Finding("ours on 2 processes over DuckDB on 2 threads", two.wall / peer.wall, goal=2.0, stretch=1.5,
                detail=f"{of}; {_told(two)} over {_told(peer)}"),
        Finding("ours in one process over DuckDB on 2 threads", one.wall / peer.wall, goal=3.0,
                detail=f"{of}; {_told(one)} over {_told(peer)}"),
        Finding("CPU time, ours in one process over DuckDB", one.cpu / peer.cpu, detail=of),
        Finding("CPU time per record, ours in one process", one.cpu / data.lines * 1e6, "µs", detail=of),
        Finding("memory of the largest process, 2 processes", two.memory / MEGABYTE, "MB", goal=1000,
                detail=f"{of}; anonymous; DuckDB {peer.memory / MEGABYTE:,.0f} MB"),
        Finding("memory of the largest process, one process", one.memory / MEGABYTE, "MB", goal=1000,
                detail=f"{of}; anonymous"),
    ]  # fmt: skip


def many_streams(bench: Bench) -> list[Finding]:
    """What a selected row costs in 50 filtered streams, over one; in CPU time, which other programs disturb less."""
    data = bench.feed(bench.records)
    one = sides.one_stream(bench.directory / "one-stream.yaml")
    many = sides.many_streams(bench.directory / "many-streams.yaml", data.organisations, STREAMS)
    outputs = {name: bench.output(name) for name in ("no stream", "one stream", "many streams")}
    files = (None, one, many)

    def run(name: str, streams: Path | None) -> Callable[[], Measurement]:
        return lambda: sides.ours(data, outputs[name], 1, streams)

    taken = bench.interleaved({name: run(name, given) for name, given in zip(outputs, files, strict=True)})
    none, single, several = (taken[name] for name in outputs)
    rows = {name: sides.selected_rows(output) for name, output in outputs.items()}
    per_row = (single.cpu - none.cpu) / rows["one stream"], (several.cpu - none.cpu) / rows["many streams"]
    detail = (
        f"{per_row[1] * 1e6:.2f} µs over {per_row[0] * 1e6:.2f} µs; {rows['many streams']:,} rows and "
        f"{rows['one stream']:,}; CPU time beyond that of a run without streams"
    )
    return [
        Finding(f"{STREAMS} filtered streams, per selected row, over one", per_row[1] / per_row[0], goal=1.3,
                detail=detail),
        Finding(f"the whole run with {STREAMS} streams over the run with one", several.wall / single.wall,
                detail=f"{_told(several)} over {_told(single)}"),
    ]  # fmt: skip


def scaling(bench: Bench) -> list[Finding]:
    """The time for ten times the records, over the same 24 hours, in one process."""
    small, data = bench.feed(bench.records // SMALL), bench.feed(bench.records)
    taken = bench.interleaved({
        "a tenth": lambda: sides.ours(small, bench.output("ours-small"), 1),
        "all": lambda: sides.ours(data, bench.output("ours-1"), 1),
    })  # fmt: skip
    less, more = taken.values()
    detail = f"{data.lines:,} over {small.lines:,} records, one process; {_told(more)} over {_told(less)}"
    return [Finding("time for 10 times the records", more.wall / less.wall, goal=10.5, detail=detail)]


def per_element(bench: Bench) -> list[Finding]:
    """A textbook job of one record an element over ours, per record: each in one process, ours on both feeds."""
    small, data = bench.feed(TEXTBOOK_RECORDS), bench.feed(bench.records)
    taken = bench.interleaved({
        "textbook": lambda: sides.textbook(small, bench.output("textbook")),
        "ours, the same records": lambda: sides.ours(small, bench.output("ours-few"), 1),
        "ours, all records": lambda: sides.ours(data, bench.output("ours-1"), 1),
    }, rounds=1)  # fmt: skip
    plain, same, ours = taken.values()
    each = [run.wall / records * 1e6 for run, records in ((plain, small.lines), (ours, data.lines))]
    return [
        Finding("a per-element Beam job over ours, per record", each[0] / each[1],
                detail=f"{each[0]:.0f} µs ({small.lines:,} records) over {each[1]:.1f} µs ({data.lines:,} records)"),
        Finding("the same, both on the few records, starts included", plain.wall / same.wall,
                detail=f"{_told(plain)} over {_told(same)}"),
    ]  # fmt: skip


def full(bench: Bench) -> list[Finding]:
    """Memory and time at ten times the records of the same 24 hours, on two processes, one round: the usual feed before
    and after the large one, since machines that are shared become faster and slower within ten minutes.
    """
    data, large = bench.feed(bench.records), bench.feed(bench.records * LARGE)
    taken = bench.interleaved({
        "usual, before": lambda: sides.ours(data, bench.output("ours-2"), 2),
        "tenfold": lambda: sides.ours(large, bench.output("ours-large"), 2),
        "usual, after": lambda: sides.ours(data, bench.output("ours-2"), 2),
    }, rounds=1)  # fmt: skip
    before, tenfold, after = taken.values()
    usual = median([before, after])
    of = f"{large.lines:,} over {data.lines:,} records of the same 24 hours, 2 processes"
    return [
        Finding("memory of the largest process, large feed", tenfold.memory / MEGABYTE, "MB", goal=1000, detail=of),
        Finding("memory at 10 times the records", tenfold.memory / usual.memory, goal=1.1, detail=of),
        Finding("time for 10 times the records, large feed", tenfold.wall / usual.wall, goal=10.5,
                detail=f"{of}; {_told(tenfold)} over {_told(usual)}"),
    ]  # fmt: skip
