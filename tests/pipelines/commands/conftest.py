from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pipelines.commands import main
from simulator import SimulationOptions, simulate

STREAMS = """
streams:
  - name: warnings
    title: What needs a look
    content: events
    filter: {any_of: [{min_severity: WARN}, {outcome: rejected}]}
    destination: {type: files}
  - name: archive
    content: usage
    format: csv
    shape: csv
    destination: {type: files, path: "BLOCKED/archive"}
  - name: held
    content: device_usage_hourly
    state: paused
    destination: {type: files}
"""


class Outcome(NamedTuple):
    """What a command returned and printed."""

    code: int
    out: str
    err: str


class Finished(NamedTuple):
    """A feed, its streams file with a destination that is blocked, and the output directory of one run."""

    feed: Path
    streams: Path
    blocked: Path
    output: Path
    outcome: Outcome

    def truth(self) -> dict[str, dict[str, int]]:
        return json.loads((self.feed / "truth.json").read_text())["feeds"]


Call = Callable[..., Outcome]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Calls ``data-streamer`` with arguments, as in a pipe."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run over a small dirty feed; one stream's destination is blocked by a file, one stream is paused."""
    base = tmp_path_factory.mktemp("commands")
    simulate(SimulationOptions(devices=20, conflicts=0.01), base / "feed")
    blocked = base / "blocked"
    blocked.write_text("a file where a directory should be")
    streams = base / "streams.yaml"
    streams.write_text(STREAMS.replace("BLOCKED", str(blocked)))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = main(
            [
                "run", f"--events={base}/feed/events/*/*", f"--usage={base}/feed/usage/*/*", f"--streams={streams}",
                f"--output={base}/output",
            ]
        )  # fmt: skip
    return Finished(base / "feed", streams, blocked, base / "output", Outcome(code, printed.getvalue(), ""))
