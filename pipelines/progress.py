"""Progress of a local run: records and records per second, from the markers that workers leave."""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

_INTERVAL = 0.5
_PLAIN_INTERVAL = 10.0


class Progress:
    """Shows, while it is entered, how many records are decoded and written.

    On a terminal one line that is redrawn; else a line every ten seconds.

    Args:
      console: where to show it.
      directory: where the workers leave their markers (`Run.mark`).
      input_bytes: size of the input.
      plans: number of block plans.
    """

    def __init__(self, console: Console, directory: str, input_bytes: int, plans: int):
        self._console, self._directory = console, directory
        self._input_bytes, self._plans = input_bytes, plans
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)
        self._started = time.monotonic()

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _show(self) -> None:
        if not self._console.is_terminal:
            while not self._stop.wait(_PLAIN_INTERVAL):
                self._console.print(self.line(), soft_wrap=True)
            return
        with Live(self.line(), console=self._console, refresh_per_second=4, transient=True) as live:
            while not self._stop.wait(_INTERVAL):
                live.update(Text(self.line()))

    def line(self) -> str:
        """Returns the progress in words."""
        counts = {"decoded": 0, "written": 0}
        for name in os.listdir(self._directory) if os.path.isdir(self._directory) else []:
            step, _, rest = name.partition(".")
            records = rest.rpartition(".")[2]
            if step in counts and records.isdigit():
                counts[step] += int(records)
        seconds = time.monotonic() - self._started
        decoded, written = counts["decoded"], counts["written"]
        share = f"{written / decoded:4.0%} of them written" if written else f"from {self._input_bytes / 1e6:,.0f} MB"
        return f"{seconds:6.1f} s  {decoded:,} records ({decoded / max(seconds, 0.1):,.0f}/s), {share}"
