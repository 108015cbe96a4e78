"""The fault matrix: every destination type under every fault, and what became of its records.

``python -m tests.destinations.reliability --write [TYPE ...]`` measures and writes docs/reliability.md; without types,
all. Rows of types whose server cannot be had here stay as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from schemas.streams import Stream
from tests.destinations.bench import Bench, Benches
from tests.destinations.site import Site
from tests.end_to_end import jobs, runs
from tests.servers.proxy import Fault
from transforms.deliver.destination import Receipt, settle
from transforms.deliver.lanes import Destinations
from transforms.deliver.parts import Part
from transforms.deliver.pending import Redelivery, deliver_pending
from transforms.deliver.push.pushed import PushedDestination
from transforms.deliver.registry import DESTINATIONS
from transforms.deliver.selection import Selection
from transforms.route.definitions import load_streams

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
HOURS, IN_A_REQUEST = 12, 40
RETRY = {"attempts": 3, "seconds": 3}
AWAY = 1.0
"""Seconds that a server is away in the middle of a run."""


@dataclass(frozen=True)
class Case:
    """One column of the matrix.

    Attributes:
      words: what it is called.
      fault: what the server does.
      percent: to how many of the requests.
      passes: whether it begins in the middle of the run and is over after a second, as when a server is restarted.
      doubles: whether a server may have taken what it does not confirm: records are then sent again, and are doubled
        where the destination cannot drop repeats.
    """

    words: str
    fault: Fault
    percent: float = 100.0
    passes: bool = False
    doubles: bool = False


CASES = (
    Case("500 for 10 % of requests", Fault.ERROR, 10),
    Case("500 for all requests", Fault.ERROR),
    Case("hangs", Fault.HANG),
    Case("closes in mid-response, 10 %", Fault.CUT_AFTER, 10, doubles=True),
    Case("429, 10 %", Fault.THROTTLED, 10),
    Case("401", Fault.UNAUTHORISED),
    Case("read-only target", Fault.FORBIDDEN),
    Case("restart in mid-run", Fault.CUT_BEFORE, passes=True, doubles=True),
)


@dataclass(frozen=True)
class Measured:
    """What became of the records of a stream.

    Attributes:
      records: records that went in.
      delivered: of these, delivered by the run, under the fault.
      pending: waiting after it.
      dead: dead letters.
      later: delivered by `deliver` when the fault was over.
      doubled: records that arrived again, beyond the first time.
      lost: records that neither arrived nor are dead letters.
    """

    records: int
    delivered: int
    pending: int
    dead: int
    later: int
    doubled: int
    lost: int


def stream_of(bench: Bench, name: str, directory: Path, **more: Any) -> Stream:
    """A stream of events to a bench's destination, that gives up soon."""
    options, kind = bench.options(name), DESTINATIONS[bench.type]
    if "retry" in kind.options_model.model_fields:
        options = {"retry": {**RETRY, "seconds": RETRY["seconds"] + bench.attempt}, **options}
    form, shape = bench.packings[0]
    definition = {"name": name, "content": "events", "format": form, "shape": shape, "destination": options, **more}
    if bench.batches and issubclass(kind, PushedDestination):
        definition["batch"] = {"size": IN_A_REQUEST}
    (stream,) = load_streams(str(jobs.write_streams(directory / f"{name}.yaml", definition)))
    return stream


def parts_of(rows: pa.Table, stream: Stream) -> dict[int, list[tuple[Part, pa.RecordBatch]]]:
    """The parts of a stream by shard: rows of an hour each."""
    destination = DESTINATIONS[stream.destination.type](stream.destination)
    lanes: dict[int, list[tuple[Part, pa.RecordBatch]]] = {}
    hours = rows.column("hour").cast(pa.int64())
    for hour in hours.unique().to_pylist():
        (batch,) = rows.filter(pc.equal(hours, hour)).combine_chunks().to_batches()
        part = Part(stream.name, stream.content, hour, 0, "0123456789abcdef", 0)
        shards = destination.lanes(part, batch)
        for shard in np.unique(shards).tolist():
            own = dataclasses.replace(part, shard=shard), batch.filter(pa.array(shards == shard))
            lanes.setdefault(shard, []).append(own)
    return lanes


def deliver(stream: Stream, rows: pa.Table, output: str, halfway: Callable[[], None] = lambda: None) -> list[Receipt]:
    """Delivers rows as a run does; `halfway` is called when half of the parts are read."""
    destinations = Destinations({stream.name: stream})
    try:
        destination = destinations.of(stream.name)
        receipts = []
        for parts in parts_of(rows, stream).values():
            under_way: dict[Part, Selection] = {}

            def read(parts: Any = parts, under_way: Any = under_way) -> Iterator[tuple[Part, Selection]]:
                for number, (part, batch) in enumerate(parts):
                    if number == len(parts) // 2:
                        halfway()
                    under_way[part] = Selection(batch)
                    yield part, under_way[part]

            receipts += [
                settle(part, under_way.pop(part), outcome, stream, output)
                for part, outcome in destination.deliver_lane(read(), stream, output)  # type: ignore[union-attr]
            ]
        return receipts
    finally:
        destinations.close()


@contextmanager
def passing(bench: Bench, case: Case) -> Iterator[Callable[[], None]]:
    """A function that begins the fault, which is over after a second."""
    with ExitStack() as stack:
        begun = ExitStack()
        timer = threading.Timer(AWAY, begun.close)

        def begin() -> None:
            if timer.ident is None:
                begun.enter_context(bench.fault(case.fault, case.percent))
                timer.start()

        stack.callback(lambda: timer.join() if timer.ident is not None else None)
        yield begin


def measure(bench: Bench, case: Case, rows: pa.Table, directory: Path) -> Measured:
    """Delivers a stream under a fault, then what is pending once it is over, and looks at what arrived."""
    name = f"{case.fault.name}-{case.percent:.0f}".lower().replace("_", "-")
    stream = stream_of(bench, name, directory)
    output = bench.output = str(directory / f"output-{name}")
    if case.passes:
        with passing(bench, case) as begin:
            receipts = deliver(stream, rows, output, begin)
    else:
        with bench.fault(case.fault, case.percent):
            receipts = deliver(stream, rows, output)
    settled: list[Redelivery] = []
    results = deliver_pending(output, [stream], settled.extend)
    assert [result.error for result in results if result.error] == []
    letters = [letter for done in (*receipts, *settled) for letter in done.dead_letters]
    sent = set(rows.column("event_id").to_pylist())
    found = [received.record_id for received in bench.received(name)]
    return Measured(
        records=len(sent),
        delivered=sum(receipt.delivered for receipt in receipts),
        pending=sum(receipt.pending for receipt in receipts),
        dead=len(letters),
        later=sum(done.delivered for done in settled),
        doubled=len(found) - len(set(found)),
        lost=len(sent - set(found) - {int(str(letter.record_id)) for letter in letters}),
    )


def rows_of(day: Site) -> pa.Table:
    """The rows that are delivered: events of half a day."""
    rows = day.rows("events")
    return rows.filter(pc.less(pc.hour(rows.column("hour")), HOURS))


def without(bench: Bench, case: Case) -> str | None:
    """Why a fault cannot be made for a type; None where it can."""
    return None if case.fault in bench.faults and bench.keeps else bench.no_fault


Row = tuple[str, ...]


def row_of(kind: str, case: Case, found: Measured | str) -> Row:
    """A row of the document's table."""
    if isinstance(found, str):
        return kind, case.words, f"n/a: {found}", *[""] * 6
    return kind, case.words, *(f"{value:,}" for value in dataclasses.astuple(found))


def read_document(path: Path = DOCUMENT) -> dict[tuple[str, str], Row]:
    """The rows of the document's table, by type and fault."""
    if not path.exists():
        return {}
    lines = [line.strip("|").split("|") for line in path.read_text("utf-8").splitlines() if line.startswith("| ")]
    rows = [tuple(cell.strip() for cell in cells) for cells in lines]
    return {(row[0], row[1]): row for row in rows if row[0] in DESTINATIONS}


def write_document(rows: dict[tuple[str, str], Row], path: Path = DOCUMENT) -> None:
    """Writes the document with these rows."""
    header = ("destination", "fault", "in", "delivered", "pending", "dead", "later", "doubled", "lost")
    lines = [header, ("---",) * 2 + ("---:",) * 7]
    lines += [rows[kind, case.words] for kind in sorted(DESTINATIONS) for case in CASES if (kind, case.words) in rows]
    table = "\n".join("| " + " | ".join(row) + " |" for row in lines)
    path.write_text(_TEXT.replace("TABLE", table), "utf-8")


_TEXT = """# Reliability

Every destination type under every fault, as the suite measured it (`python -m tests.destinations.reliability --write`).
`make test-destinations` does the same again, and fails where a record is lost, or doubled where it must not be.

A stream of events of half a day is delivered while the server is at fault, in requests of 40 records and with short
bounds of retries (3 attempts, 3 seconds; 10 seconds for BigQuery, where one attempt is a whole load). Then the fault
ends, and `data-streamer deliver` delivers what waits.

- *in*: records that the stream selected. Each is *delivered*, *pending* or *dead* (a dead letter) after the run.
- *later*: of the pending ones, how many `deliver` delivered afterwards; nothing stays behind.
- *doubled*: how often records arrived again. Where a server took records and its answer got lost, nobody can know it:
  they are sent again, with the same ids. Files, tables and archives replace what is there: nothing is doubled.
- *lost*: records that neither arrived nor are dead letters.
- *n/a*: the fault cannot be made for this type, and why.

TABLE
"""


def main(arguments: Sequence[str]) -> int:
    """Measures and writes the document."""
    parser = argparse.ArgumentParser(prog="python -m tests.destinations.reliability", description=__doc__)
    parser.add_argument("--write", action="store_true", required=True)
    parser.add_argument("types", nargs="*", metavar="TYPE")
    given = parser.parse_args(arguments)
    rows = read_document()
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        directory = Path(made)
        runs.feed(directory / "feed", devices=60, days=1, seed=5)
        site = Site(directory / "feed", directory / "day")
        site.run(None)
        benches = Benches()
        stack.callback(benches.close)
        for kind in given.types or sorted(DESTINATIONS):
            try:
                with benches.use(kind) as bench:
                    (directory / kind).mkdir()
                    for case in CASES:
                        reason = without(bench, case)
                        found = reason or measure(bench, case, rows_of(site), directory / kind)
                        rows[kind, case.words] = row_of(kind, case, found)
                        print(*rows[kind, case.words], sep=" | ", flush=True)
            except (LookupError, pytest.skip.Exception) as error:
                print(f"{kind}: left as it is: {error}", file=sys.stderr)
    write_document(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
