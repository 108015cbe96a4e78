"""Writes feeds: several files a day and feed, to which each run of devices appends."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from simulator.renderings import CSV, CURRENT, HEADERS, LEGACY, REST, csv_line

FEEDS = ("events", "usage")
_RUNS_OF_A_FILE = 16  # of the rarer renderings, so that no file grows with the fleet


@dataclass
class FeedWriter:
    """Appends lines to ``DIR/<feed>/<day>/…``; `close` completes the files.

    Current records lie in files by hours of arrival, gzip ones in one file of several members; REST ones in JSON arrays.

    Attributes:
      directory: output directory.
      first: first day.
      windows: files of the current rendering a day and feed.
      lines: lines (or array elements) written to each file, header lines apart.
      size: bytes written before compression.
    """

    directory: Path
    first: date
    windows: int
    lines: Counter[str] = field(default_factory=Counter)
    size: int = 0
    _arrays: set[str] = field(default_factory=set)

    def append(
        self, feed: int, day: int, window: int, rendering: int, zipped: bool, run: int, lines: list[bytes]
    ) -> None:
        """Appends lines of one rendering, in their order."""
        name = self._name(feed, day, window, rendering, zipped, run // _RUNS_OF_A_FILE)
        path = self.directory / name
        new = name not in self.lines
        self.lines[name] += len(lines)
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        if rendering == REST:
            self._arrays.add(name)
            text = (b"[\n" if new else b",\n") + b",\n".join(lines)
        else:
            text = b"\n".join(lines) + b"\n"
            if rendering == CSV and new:
                text = csv_line(HEADERS[feed]) + b"\n" + text
        self.size += len(text)
        with path.open("ab") as file:
            # No time in the header: the same seed gives the same bytes.
            file.write(gzip.compress(text, 1, mtime=0) if zipped else text)

    def close(self) -> None:
        """Ends the JSON arrays."""
        for name in sorted(self._arrays):
            with (self.directory / name).open("ab") as file:
                file.write(b"\n]\n")

    def _name(self, feed: int, day: int, window: int, rendering: int, zipped: bool, number: int) -> str:
        when = self.first + timedelta(days=day)
        folder = f"{FEEDS[feed]}/{when.isoformat()}"
        if rendering == CSV:
            return f"{folder}/{('events', 'cdr')[feed]}_{when:%Y%m%d}_{number:06d}.csv"
        if rendering == REST:
            return f"{folder}/rest-{number:03d}.json"
        if rendering == LEGACY:
            return f"{folder}/legacy-{number:03d}.ndjson"
        if zipped:
            return f"{folder}/current-gzip-{number:03d}.ndjson.gz"
        assert rendering == CURRENT
        return f"{folder}/current-{window:03d}.ndjson"
