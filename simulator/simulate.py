"""Makes a feed of known truth: plans what devices do, dirties it, and writes it down.

Devices are worked on in runs of a bounded number of records, day by day, so that memory does not grow with the fleet.
A seed and options always give the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from simulator.columns import DAY
from simulator.dirt import Dirt, Lines
from simulator.fleet import build_fleet
from simulator.network import organisations
from simulator.options import RENDERINGS, SimulationOptions
from simulator.plan import plan_day, records_per_device_day
from simulator.renderings import CURRENT, EVENTS, USAGE
from simulator.truth import Truth
from simulator.write import FEEDS, FeedWriter

_RECORDS_OF_A_RUN = 60_000
_RECORDS_OF_A_FILE = 250_000
_WINDOWS = (4, 6, 8, 12, 24)


@dataclass(frozen=True)
class Summary:
    """What a simulation wrote.

    Attributes:
      directory: where.
      records: unique records.
      lines: all that a reader receives: duplicates, faults and empty lines included.
      size: bytes before compression.
      truth: content of ``truth.json``.
    """

    directory: Path
    records: int
    lines: int
    size: int
    truth: dict[str, Any]


def simulate(
    options: SimulationOptions, output_dir: str | Path, progress: Callable[[int, int], None] | None = None
) -> Summary:
    """Writes ``DIR/events/<day>/…``, ``DIR/usage/<day>/…`` and ``DIR/truth.json``.

    Args:
      options: size, seed and rates.
      output_dir: a directory of its own; a simulation that lies there already is replaced.
      progress: called after each run of devices and day with the unique records so far and the expected number of them.

    Raises:
      FileExistsError: ``events`` or ``usage`` is there, but no ``truth.json``: the directory holds something else.
    """
    directory = Path(output_dir)
    _clear(directory)
    rate = records_per_device_day(options)
    daily = rate * options.devices
    windows = next((count for count in _WINDOWS if daily / 2 / count <= _RECORDS_OF_A_FILE), _WINDOWS[-1])
    first_time = int(np.datetime64(options.start, "us").astype(np.int64))
    writer = FeedWriter(directory, date.fromisoformat(options.start), windows)
    truth = Truth(options, organisations(options.devices))
    size = max(20, round(_RECORDS_OF_A_RUN / rate))
    records = 0
    for run, first in enumerate(range(0, options.devices, size)):
        fleet = build_fleet(options.seed, options.devices, first, min(size, options.devices - first))
        truth.begin_fleet(fleet)
        for day in range(options.days):
            plan = plan_day(options, fleet, run, day)
            for feed in (EVENTS, USAGE):
                random = np.random.default_rng([options.seed, 3, run, day, feed])
                over_long = options.over_long if (run, day, feed) == (0, 0, USAGE) else 0
                dirt = Dirt(options, random, truth, fleet, plan.sessions, feed, first_time, over_long)
                lines = dirt.write(plan.events if feed == EVENTS else plan.usage)
                _append(writer, lines, run, options.days, first_time)
            records += len(plan.events) + len(plan.usage)
            if progress is not None:
                progress(records, round(daily * options.days))
        truth.end_fleet(fleet)
    writer.close()
    result = truth.as_json(writer.lines)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "truth.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    received = sum(result["feeds"][name]["received"] for name in FEEDS)
    return Summary(directory, records, received, writer.size, result)


def _clear(directory: Path) -> None:
    there = [directory / name for name in FEEDS if (directory / name).exists()]
    if there and not (directory / "truth.json").exists():
        raise FileExistsError(
            f"{there[0]} exists, but was not made by the simulator (no truth.json beside it): choose another directory"
        )
    for path in there:
        shutil.rmtree(path)


def _append(writer: FeedWriter, written: Lines, run: int, days: int, first_time: int) -> None:
    """Appends the lines to their files in the order of arrival; what comes after the last day ends it."""
    arrival = np.minimum(written.arrival, first_time + days * DAY - 1)
    day = (arrival - first_time) // DAY
    window = (arrival - first_time) % DAY * writer.windows // DAY
    window = np.where((written.rendering == CURRENT) & ~written.zipped, window, 0)
    key = (written.feed * days + day) * writer.windows + window
    key = (key * len(RENDERINGS) + written.rendering) * 2 + written.zipped
    order = np.lexsort((arrival, key))
    for group in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        if len(group):
            columns = (written.feed, day, window, written.rendering, written.zipped)
            feed, number, part, rendering, zipped = (int(column[group[0]]) for column in columns)
            file = writer.file(feed, number, part, rendering, bool(zipped), run)
            writer.append(file, [written.lines[place] for place in group.tolist()])
