"""The feeds that the benchmarks read: one simulated day, dirty, in the current rendering, not compressed.

Both sides read the same files, and a plain SQL job reads nothing but lines of JSON; the other renderings and gzip are
left to the tests. Duplicates are identical copies, since the peer keeps the first of them and the job the fullest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator import SimulationOptions, simulate
from simulator.plan import records_per_device_day

BYTES_PER_RECORD = 1_100
"""Size of a line, roughly: for the disk that a feed needs."""

_DIRT: dict[str, Any] = {
    "duplicates": 0.02, "malformed": 0.01, "odd": 0.01, "late": 0.05,
    "gzipped": 0.0, "rerendered": 0.0, "renderings": {"current": 1.0},
}  # fmt: skip


@dataclass(frozen=True)
class Feed:
    """A simulated feed.

    Attributes:
      directory: where it lies.
      lines: what a reader receives, faults and duplicates included: the records of all figures per record.
    """

    directory: Path
    lines: int

    @property
    def events(self) -> str:
        """Glob of the event files."""
        return f"{self.directory}/events/*/*"

    @property
    def usage(self) -> str:
        """Glob of the usage files."""
        return f"{self.directory}/usage/*/*"

    @property
    def organisations(self) -> list[int]:
        """Ids of the organisations of its devices."""
        first = next((self.directory / "events").rglob("*.ndjson"))
        found = set()
        with first.open("rb") as lines:
            for line in lines:
                try:
                    found.add(json.loads(line)["organisation"]["id"])
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # one of the malformed lines
        return sorted(found)


def feed(directory: Path, records: int, seed: int = 7, say: Callable[[str], None] = lambda text: None) -> Feed:
    """Simulates a feed of about `records` lines, or takes the one that lies in `directory` if it is the same."""
    share = 1 + _DIRT["duplicates"] + _DIRT["malformed"]
    devices = max(1, round(records / records_per_device_day() / share))
    options = SimulationOptions(devices=devices, seed=seed, **_DIRT)
    truth = directory / "truth.json"
    if not truth.exists() or json.loads(truth.read_text())["options"] != options.as_json():
        say(f"simulating {records:,} records in {directory}")
        simulate(options, directory)
    found = json.loads(truth.read_text())
    return Feed(directory, sum(totals["received"] for totals in found["feeds"].values()))
