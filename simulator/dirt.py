"""Turns the records of a run of devices into the lines of a feed: late, doubled, contradicted, broken."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import xxhash

from simulator import faults
from simulator.catalogue import DELETE, UPDATE, VARIANTS
from simulator.columns import DAY, HOUR, SECOND, EventColumns, UsageColumns
from simulator.events import event_lines
from simulator.fleet import Fleet
from simulator.options import RENDERINGS, SimulationOptions
from simulator.plan import Sessions
from simulator.renderings import CSV, CURRENT, LEGACY, odd, render
from simulator.truth import Truth
from simulator.usage import usage_lines

_STEADY = np.array([number < UPDATE or number == DELETE for number in range(len(VARIANTS))])
"""Variants that mean the same at any severity: a conflict may change it."""
_NEEDS_TEXT = np.array([item.type_id in (6, 7) for item in VARIANTS])
"""Variants whose user and address stand in the text alone: never written as CSV."""
_DISPUTED_AS_LEGACY = 0.2  # of the conflicting records; these lose, the others by their content hash


@dataclass
class Lines:
    """Lines with where each of them goes.

    ``feed`` and ``rendering`` are those of the file, ``zipped`` says whether it is a gzip file, ``arrival`` places the
    line in a day and file; ``faulty`` marks lines that are no records.
    """

    lines: list[bytes]
    arrival: np.ndarray
    rendering: np.ndarray
    feed: np.ndarray
    zipped: np.ndarray
    faulty: np.ndarray

    @classmethod
    def of(
        cls, lines: list[bytes], arrival: np.ndarray, rendering: np.ndarray, feed: int, faulty: bool = False
    ) -> Lines:
        """Lines of one feed, not zipped."""
        size = len(lines)
        return cls(lines, arrival, rendering, np.full(size, feed), np.zeros(size, bool), np.full(size, faulty))

    @classmethod
    def joined(cls, parts: list[Lines]) -> Lines:
        """All parts after each other."""
        lines = [line for part in parts for line in part.lines]
        names = [item.name for item in fields(cls)][1:]
        return cls(lines, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _without(mask: np.ndarray, places: np.ndarray) -> np.ndarray:
    less = mask.copy()
    less[places] = False
    return less


@dataclass
class Dirt:
    """Writes the records of one feed, of one run of devices and one day, and counts what it does in ``truth``.

    Attributes:
      options: rates.
      random: source of chance, of this feed, run and day alone.
      truth: what to count in.
      fleet: the run's devices.
      sessions: the day's sessions.
      feed: 0 events, 1 usage.
      first_time: begin of the simulation in microseconds.
      over_long: lines to write that are longer than any line may be.
    """

    options: SimulationOptions
    random: np.random.Generator
    truth: Truth
    fleet: Fleet
    sessions: Sessions
    feed: int
    first_time: int
    over_long: int = 0

    def write(self, rows: EventColumns | UsageColumns) -> Lines:
        """Lines of the rows, of their duplicates and conflicts, and of faults. Rows that lose a conflict change."""
        options, size = self.options, len(rows)
        rendering = self.random.choice(len(RENDERINGS), size=size, p=options.weights())
        if isinstance(rows, EventColumns):
            rendering[_NEEDS_TEXT[rows.variant] & (rendering == CSV)] = CURRENT
        arrival, late = self._arrivals(rows.time)
        written = Lines.of(self._render(rows), arrival, rendering, self.feed)
        current = rendering == CURRENT

        disputed = self._draw(options.conflicts, current)
        conflicts = self._conflicts(rows, disputed, written)
        strange = self._draw(options.odd, _without(current, disputed))
        for place in strange.tolist():
            written.lines[place] = odd(written.lines[place], int(rows.id[place]))
        plain = _without(current, strange)
        faulty = self._faults(rows, written, np.flatnonzero(plain))
        copies = self._draw(options.duplicates, _without(np.ones(size, bool), disputed))
        duplicates = self._duplicates(written, copies, plain)
        for place in np.flatnonzero(rendering != CURRENT).tolist():
            written.lines[place] = render(written.lines[place], self.feed, int(rendering[place]))
        moved = self._draw(options.misplaced, plain)
        written.feed[moved] = 1 - self.feed

        self.truth.feeds[self.feed].update(
            unique=size, duplicates=len(copies), conflicts=len(disputed), late=int(late.sum()), misplaced=len(moved)
        )
        if isinstance(rows, UsageColumns):
            self.truth.add_usage(rows, self.fleet)
        else:
            self.truth.add_events(rows, rendering, self.fleet, self.sessions)
        result = Lines.joined([written, conflicts, duplicates, faulty])
        counts = np.bincount(result.rendering[~result.faulty], minlength=len(RENDERINGS)).tolist()
        self.truth.renderings[self.feed].update(dict(zip(RENDERINGS, counts, strict=True)))
        self._place(result)
        return result

    def _render(self, rows: EventColumns | UsageColumns) -> list[bytes]:
        if isinstance(rows, UsageColumns):
            return usage_lines(rows, self.fleet, self.sessions)
        return event_lines(rows, self.fleet, self.sessions)

    def _draw(self, rate: float, candidates: np.ndarray) -> np.ndarray:
        """Positions of distinct candidates (a mask), rising; about ``rate`` of all rows, candidates or not."""
        places = np.flatnonzero(candidates)
        count = min(len(places), int(self.random.binomial(len(candidates), rate)))
        return np.sort(self.random.choice(places, size=count, replace=False))

    def _arrivals(self, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """When each record arrives, and which are late: by ten minutes, two hours more on average, a day at most."""
        late = self.random.random(len(time)) < self.options.late
        delay = np.minimum(600 + self.random.exponential(7200, len(time)), 86_400).astype(np.int64) * SECOND
        return time + np.where(late, delay, self.random.integers(0, 20, len(time)) * SECOND), late

    def _place(self, lines: Lines) -> None:
        """Chooses which lines go into gzip files, and gives some any arrival on their day."""
        size = len(lines.lines)
        at_home = (lines.rendering == CURRENT) & (lines.feed == self.feed)
        lines.zipped = at_home & (self.random.random(size) < self.options.gzipped)
        shuffled = np.flatnonzero(self.random.random(size) < self.options.shuffled)
        since = lines.arrival[shuffled] - self.first_time
        lines.arrival[shuffled] = self.first_time + since // DAY * DAY + self.random.integers(0, DAY, len(shuffled))

    def _conflicts(self, rows: EventColumns | UsageColumns, disputed: np.ndarray, written: Lines) -> Lines:
        """Second records with the ids of ``disputed``; where one wins, it takes the row's place in ``rows``.

        The winner is the fuller rendering, then the smaller xxh3_64 of the line. No row has two conflicts.
        """
        others = rows.take(disputed)
        if isinstance(others, UsageColumns):
            self._change_usage(others)
        else:
            self._change_events(others)
        lines = self._render(others)
        ours = [xxhash.xxh3_64_intdigest(written.lines[place]) for place in disputed.tolist()]
        theirs = [xxhash.xxh3_64_intdigest(line) for line in lines]
        legacy = self.random.random(len(lines)) < _DISPUTED_AS_LEGACY
        wins = (np.array(theirs, np.uint64) < np.array(ours, np.uint64)) & ~legacy
        for name in rows.names():
            getattr(rows, name)[disputed[wins]] = getattr(others, name)[wins]
        lines = [render(line, self.feed, LEGACY) if old else line for line, old in zip(lines, legacy, strict=True)]
        delay = self.random.integers(1, 4 * 3600, len(lines)) * SECOND
        return Lines.of(lines, written.arrival[disputed] + delay, np.where(legacy, LEGACY, CURRENT), self.feed)

    def _change_usage(self, rows: UsageColumns) -> None:
        """Changes one field of each row: its volume, its device or its time."""
        choice = self.random.integers(0, 4, len(rows))
        other = (choice == 1) & (len(self.fleet) > 1)
        rows.rx[:] += np.where(choice == 0, SECOND, 0)
        rows.device[:] = np.where(other, self._other_devices(rows.device), rows.device)
        rows.time[:] = np.where((choice != 0) & ~other, self._other_times(rows.time), rows.time)

    def _change_events(self, rows: EventColumns) -> None:
        """Changes one field of each row: its severity, its device (with its organisation) or its time."""
        choice = self.random.integers(0, 4, len(rows))
        warned = (choice == 0) & _STEADY[rows.variant]
        other = (choice == 1) & (rows.device >= 0) & (len(self.fleet) > 1)
        rows.severity[:] = np.where(warned, 1, rows.severity)
        rows.device[:] = np.where(other, self._other_devices(rows.device), rows.device)
        rows.organisation[:] = np.where(other, self.fleet.organisation[rows.device], rows.organisation)
        rows.time[:] = np.where(~warned & ~other, self._other_times(rows.time), rows.time)

    def _other_devices(self, device: np.ndarray) -> np.ndarray:
        size = len(self.fleet)
        return (device + 1 + self.random.integers(0, max(1, size - 1), len(device))) % size

    def _other_times(self, time: np.ndarray) -> np.ndarray:
        """Times an hour or a second away, within the simulation."""
        shift = np.where(self.random.random(len(time)) < 0.5, HOUR, SECOND)
        end = self.first_time + self.options.days * DAY
        return np.where(time + shift < end, time + shift, time - shift)

    def _duplicates(self, written: Lines, copies: np.ndarray, plain: np.ndarray) -> Lines:
        """Copies at later places; some of the plain current ones in another rendering, which lose to the first."""
        rendering = written.rendering[copies]
        again = plain[copies] & (self.random.random(len(copies)) < self.options.rerendered)
        rendering[again] = self.random.integers(1, len(RENDERINGS), int(again.sum()))
        lines = [
            render(written.lines[place], self.feed, kind) if kind != CURRENT else written.lines[place]
            for place, kind in zip(copies.tolist(), rendering.tolist(), strict=True)
        ]
        delay = self.random.exponential(3600, len(copies)).astype(np.int64) * SECOND
        return Lines.of(lines, written.arrival[copies] + delay, rendering, self.feed)

    def _faults(self, rows: EventColumns | UsageColumns, written: Lines, usable: np.ndarray) -> Lines:
        """Malformed lines, made of those at ``usable``, and empty ones.

        The first faults of a feed go through all classes, the others are drawn by weight.
        """
        dead = self.truth.dead_letters[self.feed]
        count = int(self.random.binomial(len(rows), self.options.malformed)) if len(usable) else 0
        sources = self.random.choice(usable, count).tolist() if count else []
        lines = []
        for place, salt in zip(sources, self.random.integers(0, 1 << 40, count).tolist(), strict=True):
            turn = dead.total() if dead.total() < faults.FAULT_CLASSES else None
            line, reason = faults.malformed(written.lines[place], self.feed, salt, turn)
            dead[reason] += 1
            lines.append(line)
        for _ in range(self.over_long if len(usable) else 0):
            line, reason = faults.over_long(written.lines[usable[0]], self.options.over_long_bytes)
            dead[reason] += 1
            lines.append(line)
        empty = int(self.random.binomial(len(rows), self.options.empty))
        self.truth.feeds[self.feed]["empty"] += empty
        lines += [(b"", b"  ", b"\r")[number % 3] for number in range(empty)]
        arrival = self.random.choice(rows.time, len(lines)) if lines else np.empty(0, np.int64)
        return Lines.of(lines, arrival, np.zeros(len(lines), np.int64), self.feed, faulty=True)
