"""Watches a live job: measures it every second, shows how it stands, and keeps that in a file."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

from rich.console import Console

from pipelines.live.status import STOPPED, Meter, Status
from pipelines.live.view import View
from pipelines.live.workplace import Workplace

_EVERY, _KEEP_EVERY = 1.0, 3.0


class Watch:
    """Watches while this is entered.

    Args:
      place: where the job works.
      console: where to show it.
      metrics_port: port of an endpoint for Prometheus; None: none.

    Attributes:
      latest: how the job stands.
    """

    latest: Status

    def __init__(self, place: Workplace, console: Console, metrics_port: int | None):
        self._meter, self._view, self._port = Meter(place), View(console), metrics_port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._stack = ExitStack()
        self.latest = self._meter.read()

    def __enter__(self) -> Watch:
        self._meter.write(self.latest)
        if self._port is not None:
            from pipelines.live.metrics import serve_metrics

            server, _ = serve_metrics(self._port, lambda: self.latest)
            self._stack.callback(server.shutdown)
        self._stack.enter_context(self._view)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._stack.close()
        if kind is None:
            self._meter.write(self._meter.read(STOPPED))

    def _watch(self) -> None:
        kept = time.monotonic()
        while not self._stop.wait(_EVERY):
            self.latest = self._meter.read()
            self._view.show(self.latest)
            if time.monotonic() - kept >= _KEEP_EVERY:
                kept = time.monotonic()
                self._meter.write(self.latest)
