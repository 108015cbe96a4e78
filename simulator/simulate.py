"""Makes a feed of known truth: plans what devices do, writes it down in several renderings, and dirties it.

Devices are worked on in runs of a bounded number of records, day by day, so that memory does not grow with the fleet (but for
a few numbers per device). A seed and options always give the same bytes.
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
import xxhash

from simulator import faults
from simulator.catalogue import DELETE, UPDATE, VARIANTS
from simulator.columns import DAY, HOUR, SECOND, EventColumns, UsageColumns
from simulator.events import event_lines
from simulator.fleet import Fleet, build_fleet
from simulator.network import organisations
from simulator.options import RENDERINGS, SimulationOptions
from simulator.plan import Sessions, plan_day, records_per_device_day
from simulator.renderings import CSV, CURRENT, EVENTS, LEGACY, USAGE, odd, render
from simulator.truth import Truth
from simulator.usage import usage_lines
from simulator.write import FEEDS, FeedWriter

_RECORDS_OF_A_RUN = 60_000
_RECORDS_OF_A_FILE = 250_000
_WINDOWS = (4, 6, 8, 12, 24)

_HOT = np.array([number < UPDATE or number == DELETE for number in range(len(VARIANTS))])
"""Variants that mean the same at any severity: a conflict may change it."""
_KEEPS_TEXT = np.array([item.type_id in (6, 7) for item in VARIANTS])
"""Variants whose user and address stand in the text alone: never written as CSV."""


@dataclass(frozen=True)
class Summary:
    """What a simulation wrote: ``records`` counts unique ones, ``lines`` all that a reader receives, ``size`` is in bytes."""

    directory: Path
    records: int
    lines: int
    size: int
    truth: dict[str, Any]


@dataclass
class _Feed:
    """Lines of one feed of one run and day, with where each of them goes."""

    lines: list[bytes]
    arrival: np.ndarray
    rendering: np.ndarray
    zipped: np.ndarray
    feed: np.ndarray


def simulate(
    options: SimulationOptions, output_dir: str | Path, progress: Callable[[int, int], None] | None = None
) -> Summary:
    """Writes ``DIR/events/<day>/…``, ``DIR/usage/<day>/…`` and ``DIR/truth.json``.

    Args:
      options: size, seed and rates.
      output_dir: a directory of its own; a simulation that lies there already is replaced.
      progress: called after each run of devices with the unique records so far and the expected number of them.

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
        for day in range(options.days):
            plan = plan_day(options, fleet, run, day)
            for feed, rows in ((EVENTS, plan.events), (USAGE, plan.usage)):
                random = np.random.default_rng([options.seed, 3, run, day, feed])
                written = _dirty_feed(options, random, truth, feed, rows, fleet, plan.sessions, first_time)
                if run == 0 and day == 0:
                    _add_over_long(options, truth, feed, written)
                _write(writer, written, run, options.days, first_time)
                records += len(rows)
            if progress is not None:
                progress(records, round(daily * options.days))
    writer.close()
    result = truth.as_json(writer.lines)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "truth.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = sum(result["feeds"][name]["received"] for name in FEEDS)
    return Summary(directory, records, lines, writer.size, result)


def _clear(directory: Path) -> None:
    there = [directory / name for name in FEEDS if (directory / name).exists()]
    if there and not (directory / "truth.json").exists():
        raise FileExistsError(
            f"{there[0]} exists, but was not made by the simulator (no truth.json beside it): choose another directory"
        )
    for path in there:
        shutil.rmtree(path)


def _draw(random: np.random.Generator, rate: float, candidates: np.ndarray, size: int) -> np.ndarray:
    """Distinct members of ``candidates``: about ``rate`` of ``size``."""
    count = min(len(candidates), int(random.binomial(size, rate)))
    return np.sort(random.choice(candidates, size=count, replace=False)) if count else np.empty(0, np.int64)


def _dirty_feed(
    options: SimulationOptions,
    random: np.random.Generator,
    truth: Truth,
    feed: int,
    rows: EventColumns | UsageColumns,
    fleet: Fleet,
    sessions: Sessions,
    first_time: int,
) -> _Feed:
    """Lines of the rows and of their duplicates, conflicts and faults; counts all of it in ``truth``."""
    size = len(rows)
    counts = truth.feeds[feed]
    rendering = random.choice(len(RENDERINGS), size=size, p=options.weights())
    if isinstance(rows, EventColumns):
        rendering[_KEEPS_TEXT[rows.variant] & (rendering == CSV)] = CURRENT
    lines = _lines(rows, fleet, sessions)
    arrival, late = _arrivals(options, random, rows.time)
    written = _Feed(lines, arrival, rendering, np.zeros(size, bool), np.full(size, feed))
    is_current = rendering == CURRENT

    disputed = _draw(random, options.conflicts, np.flatnonzero(is_current), size)
    conflicts = _conflicts(options, random, rows, disputed, written, fleet, sessions, first_time)
    strange = _draw(random, options.odd, np.setdiff1d(np.flatnonzero(is_current), disputed), size)
    for place in strange.tolist():
        lines[place] = odd(lines[place], int(rows.id[place]))
    plain = np.setdiff1d(np.flatnonzero(is_current), strange)
    bad = _faults(options, random, truth, feed, [lines[place] for place in plain[: 4 * size // 5].tolist()], size)
    copies = _draw(random, options.duplicates, np.setdiff1d(np.arange(size), disputed), size)
    duplicates = _duplicates(options, random, written, copies, plain, feed)
    for place in np.flatnonzero(~is_current).tolist():
        lines[place] = render(lines[place], feed, rendering[place])

    counts.update(unique=size, duplicates=len(copies), conflicts=len(disputed), late=int(late.sum()))
    if isinstance(rows, UsageColumns):
        truth.add_usage(rows, fleet)
    else:
        truth.add_events(rows, rendering, fleet, sessions)
    moved = _draw(random, options.misplaced, plain, size)
    written.feed[moved] = 1 - feed
    counts["misplaced"] += len(moved)
    span = rows.time if size else np.array([first_time])
    faulty = _Feed(
        bad,
        random.choice(span, len(bad)),
        np.zeros(len(bad), np.int64),
        np.zeros(len(bad), bool),
        np.full(len(bad), feed),
    )
    joined = _joined([written, conflicts, duplicates, faulty])
    for name, count in zip(
        RENDERINGS, np.bincount(joined.rendering[: joined.arrival.size - len(bad)], minlength=4), strict=True
    ):
        truth.renderings[feed][name] += int(count)
    joined.zipped = (
        (joined.rendering == CURRENT) & (joined.feed == feed) & (random.random(len(joined.lines)) < options.gzipped)
    )
    shuffled = np.flatnonzero(random.random(len(joined.lines)) < options.shuffled)
    joined.arrival[shuffled] = joined.arrival[shuffled] // DAY * DAY + random.integers(0, DAY, len(shuffled))
    return joined


def _lines(rows: EventColumns | UsageColumns, fleet: Fleet, sessions: Sessions) -> list[bytes]:
    if isinstance(rows, UsageColumns):
        return usage_lines(rows, fleet, sessions)
    return event_lines(rows, fleet, sessions)


def _joined(parts: list[_Feed]) -> _Feed:
    return _Feed(
        [line for part in parts for line in part.lines],
        np.concatenate([part.arrival for part in parts]),
        np.concatenate([part.rendering for part in parts]),
        np.concatenate([part.zipped for part in parts]),
        np.concatenate([part.feed for part in parts]),
    )


def _arrivals(
    options: SimulationOptions, random: np.random.Generator, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """When each record arrives, and which of them are late: by ten minutes at least, two hours more on average."""
    late = random.random(len(time)) < options.late
    delay = np.minimum(600 + random.exponential(7200, len(time)), 86_400).astype(np.int64) * SECOND
    return time + np.where(late, delay, random.integers(0, 20, len(time)) * SECOND), late


def _conflicts(
    options: SimulationOptions,
    random: np.random.Generator,
    rows: EventColumns | UsageColumns,
    disputed: np.ndarray,
    written: _Feed,
    fleet: Fleet,
    sessions: Sessions,
    first_time: int,
) -> _Feed:
    """Second records with the ids of ``disputed``; where one wins, it takes the row's place in ``rows``.

    The winner is the fuller rendering, then the smaller xxh3_64 of the line. Every row has one conflict at most.
    """
    others = rows.take(disputed)
    _change(random, others, fleet, first_time, first_time + options.days * DAY)
    lines = _lines(others, fleet, sessions)
    legacy = random.random(len(lines)) < 0.2
    hashes = [(xxhash.xxh3_64_intdigest(written.lines[place]), xxhash.xxh3_64_intdigest(line))
              for place, line in zip(disputed.tolist(), lines, strict=True)]  # fmt: skip
    wins = np.array([theirs < ours for ours, theirs in hashes], bool) & ~legacy
    feed = USAGE if isinstance(rows, UsageColumns) else EVENTS
    lines = [render(line, feed, LEGACY) if old else line for line, old in zip(lines, legacy.tolist(), strict=True)]
    # mypy cannot know that both are of one kind.
    rows.put(disputed[wins], others.take(wins))  # type: ignore[arg-type]
    delay = random.integers(1, 4 * 3600, len(lines)) * SECOND
    return _Feed(lines, written.arrival[disputed] + delay, np.where(legacy, LEGACY, CURRENT), np.zeros(len(lines),
            bool),
                 np.full(len(lines), feed))  # fmt: skip


def _change(
    random: np.random.Generator, rows: EventColumns | UsageColumns, fleet: Fleet, first_time: int, end_time: int
) -> None:
    """Changes one field of each row: its time (to another hour, by a second), its device, its severity or volume."""
    size = len(rows)
    choice = random.integers(0, 4, size)
    shift = np.where(random.random(size) < 0.5, HOUR, SECOND)
    moved = np.where(rows.time + shift < end_time, rows.time + shift, rows.time - shift)
    moved = np.maximum(moved, first_time)
    # A one-hour simulation edge could leave the time as it was; a second later is always different.
    moved = np.where(moved == rows.time, rows.time + SECOND, moved)
    device = (rows.device + 1 + random.integers(0, max(1, len(fleet) - 1), size)) % len(fleet)
    if isinstance(rows, UsageColumns):
        rows.rx[:] += np.where(choice == 0, SECOND, 0)
        other = (choice == 1) & (len(fleet) > 1)
        rows.device[:] = np.where(other, device, rows.device)
        rows.time[:] = np.where((choice != 0) & ~other, moved, rows.time)
        return
    calmed = (choice == 0) & _HOT[rows.variant]
    rows.severity[:] = np.where(calmed, 1, rows.severity)
    other = (choice == 1) & (rows.device >= 0) & (len(fleet) > 1)
    rows.device[:] = np.where(other, device, rows.device)
    rows.organisation[:] = np.where(other, fleet.organisation[rows.device], rows.organisation)
    rows.time[:] = np.where(~calmed & ~other, moved, rows.time)


def _duplicates(
    options: SimulationOptions,
    random: np.random.Generator,
    written: _Feed,
    copies: np.ndarray,
    plain: np.ndarray,
    feed: int,
) -> _Feed:
    """Copies at later places; some of the plain current ones in another rendering, which loses to the first copy."""
    rendering = written.rendering[copies].copy()
    again = np.isin(copies, plain) & (random.random(len(copies)) < options.rerendered)
    rendering[again] = random.integers(1, len(RENDERINGS), int(again.sum()))
    lines = [
        render(written.lines[place], feed, kind) if kind != CURRENT else written.lines[place]
        for place, kind in zip(copies.tolist(), rendering.tolist(), strict=True)
    ]
    delay = random.exponential(3600, len(copies)).astype(np.int64) * SECOND
    return _Feed(
        lines, written.arrival[copies] + delay, rendering, np.zeros(len(copies), bool), np.full(len(copies), feed)
    )


def _faults(
    options: SimulationOptions, random: np.random.Generator, truth: Truth, feed: int, sources: list[bytes], size: int
) -> list[bytes]:
    """Malformed and empty lines; every fault class at least once in a feed that has any."""
    count = int(random.binomial(size, options.malformed))
    lines: list[bytes] = []
    if sources:
        salts = random.integers(0, 1 << 40, count).tolist()
        for number, (salt, place) in enumerate(
            zip(salts, random.integers(0, len(sources), count).tolist(), strict=True)
        ):
            # The first faults of a feed go through the classes in turn, the others by their weight.
            total = sum(truth.dead_letters[feed].values())
            turn = total if total < faults.FAULT_CLASSES else None
            line, reason = faults.malformed(sources[place], feed, salt, turn)
            truth.dead_letters[feed][reason] += 1
            lines.append(line)
    empty = int(random.binomial(size, options.empty))
    truth.feeds[feed]["empty"] += empty
    return lines + [(b"", b"  ", b"\r")[number % 3] for number in range(empty)]


def _add_over_long(options: SimulationOptions, truth: Truth, feed: int, written: _Feed) -> None:
    """Appends the lines that are too long, made of the first plain record, to the first file of the usage feed."""
    if feed != USAGE or not options.over_long:
        return
    source = next(line for line, kind in zip(written.lines, written.rendering.tolist(), strict=True) if kind == CURRENT)
    for _ in range(options.over_long):
        line, reason = faults.over_long(source, options.over_long_bytes)
        truth.dead_letters[feed][reason] += 1
        more = _Feed([line], written.arrival[:1], np.zeros(1, np.int64), np.zeros(1, bool), np.full(1, feed))
        joined = _joined([written, more])
        written.lines, written.arrival, written.rendering = joined.lines, joined.arrival, joined.rendering
        written.zipped, written.feed = joined.zipped, joined.feed


def _write(writer: FeedWriter, written: _Feed, run: int, days: int, first_time: int) -> None:
    """Appends the lines to their files in the order of arrival; what comes after the last day ends it."""
    arrival = np.minimum(written.arrival, first_time + days * DAY - 1)
    day = (arrival - first_time) // DAY
    window = np.where(
        (written.rendering == CURRENT) & ~written.zipped, (arrival - first_time) % DAY * writer.windows // DAY, 0
    )
    key = (
        ((written.feed * days + day) * writer.windows + window) * len(RENDERINGS) + written.rendering
    ) * 2 + written.zipped
    order = np.lexsort((arrival, key))
    bounds = np.flatnonzero(np.diff(key[order])) + 1
    for group in np.split(order, bounds):
        if len(group):
            at = group[0]
            writer.append(int(written.feed[at]), int(day[at]), int(window[at]), int(written.rendering[at]),
            bool(written.zipped[at]),
                          run, [written.lines[place] for place in group.tolist()])  # fmt: skip
