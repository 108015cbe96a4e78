"""The view of a live job: on a terminal drawn again and again, elsewhere a line every ten seconds."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pipelines.live.status import Status
from pipelines.screen import cut, print_line, table_of

_PLAIN_INTERVAL = 10.0
_STYLES = {"Running": "green", "Paused": "yellow", "Pending": "yellow", "Error": "bold red"}
_NUMBERS = ("out/s", "delivered", "dead", "pending", "oldest")


class View:
    """Shows how a job stands while this is entered.

    Args:
      console: where.
    """

    def __init__(self, console: Console):
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._next = time.monotonic() + _PLAIN_INTERVAL

    def __enter__(self) -> View:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, status: Status) -> None:
        """Shows how the job stands."""
        try:
            if self._live is not None:
                self._live.update(picture(status), refresh=True)
            elif time.monotonic() >= self._next:
                self._next += _PLAIN_INTERVAL
                print_line(self._console, line(status))
        except BrokenPipeError:  # nobody reads any more; the job goes on
            self._live, self._next = None, float("inf")


def line(status: Status) -> str:
    """How a job stands, in a line."""
    failing = [stream.name for stream in status.streams if stream.state == "Error"]
    waiting = sum(stream.pending for stream in status.streams)
    return (
        f"{status.state} {_span(status.updated - status.started)}: in {status.rate_in:,.0f}/s, out "
        f"{status.rate_out:,.0f}/s, lag {status.lag:,.1f} s, {status.received:,} received, "
        f"{status.duplicates:,} duplicates, {status.dead_letters:,} dead letters, "
        f"{waiting:,} pending, {status.segments:,} segments"
        + (f"; failing: {', '.join(failing)}" if failing else "")
        + (f"; source: {'; '.join(status.source.values())}" if status.source else "")
    )


def picture(status: Status) -> RenderableType:
    """How a job stands, as a picture: the job, its streams, and what fails."""
    parts: list[RenderableType] = [
        Text.assemble(
            (status.writer, "bold"), f"  {status.state} for {_span(status.updated - status.started)}   in ",
            (f"{status.rate_in:,.0f}/s", "bold"), "   out ", (f"{status.rate_out:,.0f}/s", "bold"),
            "   lag ", (f"{status.lag:,.1f} s", "bold"),
        ),
        Text(
            f"{status.received:,} received   {status.duplicates:,} duplicates   {status.dead_letters:,} dead letters   "
            f"{status.ids:,} ids held   {status.segments:,} segments not done",
            style="dim",
        ),
    ]  # fmt: skip
    if status.streams:
        table = table_of(("stream", "state", *_NUMBERS), _NUMBERS)
        for stream in status.streams:
            oldest = "" if stream.oldest_seconds is None else f"{stream.oldest_seconds:,.1f} s"
            table.add_row(
                cut(stream.name), Text(stream.state, _STYLES[stream.state]), f"{stream.rate:,.0f}",
                f"{stream.delivered:,}", f"{stream.dead_letters:,}", f"{stream.pending:,}", oldest,
            )  # fmt: skip
        parts += [Text(), table]
    for name, reason in status.source.items():
        parts.append(cut(f"{name}: {reason}"))
    parts += [cut(f"{stream.name}: {stream.reason}") for stream in status.streams if stream.reason]
    return Group(*parts)


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
