"""Writes feeds: several files a day and feed, to which each run of devices appends."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from simulator.renderings import CSV, HEADERS, LEGACY, REST, csv_line

FEEDS = ("events", "usage")
_RUNS_OF_A_FILE = 16  # of the rarer renderings, so that no file grows with the fleet


class FeedFile(NamedTuple):
    """A file of one feed, day and rendering; ``number`` tells those of a day apart."""

    feed: int
    day: int
    rendering: int
    zipped: bool
    number: int


@dataclass
class FeedWriter:
    """Appends lines to ``DIR/<feed>/<day>/…``; `close` completes the files.

    Current records lie in files by hours of arrival, gzip ones in a file of several members, REST ones in JSON arrays.

    Attributes:
      directory: output directory.
      first: first day.
      windows: files of the current rendering a day and feed.
      lines: lines (or array elements) written to each file, by its path; header lines do not count.
      size: bytes written, before compression.
    """

    directory: Path
    first: date
    windows: int
    lines: Counter[str] = field(default_factory=Counter)
    size: int = 0
    _arrays: set[str] = field(default_factory=set)

    def file(self, feed: int, day: int, window: int, rendering: int, zipped: bool, run: int) -> FeedFile:
        """Where a run's records of a day go; ``window`` is the part of the day in which they arrive."""
        by_window = rendering not in (REST, LEGACY, CSV) and not zipped
        return FeedFile(feed, day, rendering, zipped, window if by_window else run // _RUNS_OF_A_FILE)

    def append(self, file: FeedFile, lines: list[bytes]) -> None:
        """Appends lines in their order."""
        name = self._name(file)
        path = self.directory / name
        new = name not in self.lines
        self.lines[name] += len(lines)
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
        if file.rendering == REST:
            self._arrays.add(name)
            content = (b"[\n" if new else b",\n") + b",\n".join(lines)
        else:
            content = b"\n".join(lines) + b"\n"
            if file.rendering == CSV and new:
                content = csv_line(HEADERS[file.feed]) + b"\n" + content
        self.size += len(content)
        with path.open("ab") as opened:
            # No time in the header: the same seed gives the same bytes.
            opened.write(gzip.compress(content, 1, mtime=0) if file.zipped else content)

    def close(self) -> None:
        """Ends the JSON arrays."""
        for name in sorted(self._arrays):
            with (self.directory / name).open("ab") as opened:
                opened.write(b"\n]\n")

    def _name(self, file: FeedFile) -> str:
        day = self.first + timedelta(days=file.day)
        folder = f"{FEEDS[file.feed]}/{day.isoformat()}"
        if file.rendering == CSV:
            return f"{folder}/{('events', 'cdr')[file.feed]}_{day:%Y%m%d}_{file.number:06d}.csv"
        if file.rendering == REST:
            return f"{folder}/rest-{file.number:03d}.json"
        if file.rendering == LEGACY:
            return f"{folder}/legacy-{file.number:03d}.ndjson"
        return f"{folder}/current-{f'gzip-{file.number:03d}.ndjson.gz' if file.zipped else f'{file.number:03d}.ndjson'}"
