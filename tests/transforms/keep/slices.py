"""Slices of cells, from JSON records as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.reasons import REASONS
from schemas.records import HOUR
from schemas.streams import Stream, read_streams
from tests.end_to_end.jobs import SAMPLES
from transforms.decode import decode_block
from transforms.deliver.registry import options_models
from transforms.gather.cells import Cell
from transforms.ledger.counts import Count, Entry
from transforms.read.raw import RawBlock
from transforms.run import Live, Run

START = 500_000 * HOUR
"""2027-01-15T08:00:00Z in microseconds."""

EVENTS, USAGE = Cell(0, START, 0), Cell(1, START, 0)


def _samples() -> list[dict[str, Any]]:
    event = json.loads((SAMPLES / "events" / "emnify-openapi-00-generic.json").read_text())
    usage = json.loads(sorted((SAMPLES / "usage").glob("*.json"))[0].read_text())
    return [event, usage[0] if isinstance(usage, list) else usage]


def line(kind: int, number: int, at: int = START, **changes: Any) -> bytes:
    """A record of a kind as JSON, with this id and time (microseconds)."""
    record = _samples()[kind]
    time = datetime.fromtimestamp(at / 1_000_000, UTC).isoformat()
    times = {"timestamp": time} if kind == 0 else {"start_timestamp": time, "end_timestamp": time}
    return json.dumps({**record, "id": number, **times, **changes}).encode()


def batch(kind: int, lines: Sequence[bytes]) -> pa.RecordBatch:
    """Lines of records as they leave the decoder."""
    raw = RawBlock(kind, "s", START, "lines", None, list(lines), np.arange(len(lines)), 0, [])
    found = decode_block(raw).batches[kind]
    assert found is not None and found.num_rows == len(lines)
    return found


def slice_of(cell: Cell, ids: Sequence[int], **changes: Any) -> pa.RecordBatch:
    """A slice of a cell with these ids."""
    return batch(cell.kind, [line(cell.kind, number, cell.hour + 1_000_000, **changes) for number in ids])


def run_in(directory: Path, **live: float) -> Run:
    """A run of a live job, in a directory."""
    how = Live((), str(directory / ".live" / "w"), **live)
    return Run(str(directory / "output"), "w", spill=str(directory / "spill"), live=how)


def sums(entries: Sequence[Entry], stage: str, stream: str | None = None) -> dict[str, int]:
    """What counts of a stage come to, but for what is 0."""
    names = ("received", "duplicates", "delivered", "filtered_out", "pending")
    counts = [one for one in entries if isinstance(one, Count) and (one.stage, one.stream) == (stage, stream)]
    found = {name: sum(getattr(count, name) for count in counts) for name in names}
    return {name: value for name, value in found.items() if value}


def of_kind(entries: Sequence[Entry], kind: type[Any]) -> Iterator[Any]:
    """The entries of one kind."""
    return (entry for entry in entries if isinstance(entry, kind))


def streams_of(*streams: dict[str, Any]) -> list[Stream]:
    """Streams as a file of streams gives them."""
    return read_streams({"streams": list(streams)}, options_models(), REASONS)
