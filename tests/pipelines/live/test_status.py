"""How a live job stands: rates, states, the command ``status``, the view, and metrics."""

from __future__ import annotations

import fcntl
import io
import json
import re
import time
import urllib.request
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from rich.console import Console

from pipelines.commands import main
from pipelines.live.metrics import serve_metrics
from pipelines.live.status import Meter, Status, StreamStatus, read_statuses
from pipelines.live.view import View, line, picture
from schemas.streams import Batch
from tests.servers.processes import free_port
from tests.transforms.deliver.support import Stream
from transforms.deliver.failures import Failure, FailureKind
from transforms.deliver.s3 import S3Options
from transforms.ledger.counts import Count

FAILURE = Failure(FailureKind.TRANSIENT, "answers 503", "see that it is up")


def status(state: str = "running", **changes: Any) -> Status:
    streams = [
        StreamStatus("warnings", "Error", "answers 503; see that it is up", 10, 1, 20, 7, 3.5, 0.0),
        StreamStatus("archive", "Running", None, 1_234, 0, 0, 0, None, 12.5),
    ]
    whole = Status("live", 4_711, state, 0.0, 75.0, 5_000, 3, 40, 250.0, 12.5, 2, 4_096, 3, 4_900, {}, streams, 0.4)
    return msgspec.structs.replace(whole, **changes)


class Place:
    """What a meter measures."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.standing: dict[str, tuple[int, Failure | None]] = {}
        self.oldest: dict[str, float] = {}
        self.counts: list[Count] = []
        self.run = SimpleNamespace(writer="live", live=SimpleNamespace(max_delay=1.0))
        names = {"warnings": "running", "held": "paused"}
        self.job = SimpleNamespace(streams=[Stream(name, state=state) for name, state in names.items()])
        self.journal = SimpleNamespace(unfinished=(2, 4_096))
        self.desk = SimpleNamespace(draining=False, ids={1: 100, 2: 50}, subscribers={}, lag=(0.25, 99.0))
        self.courier = SimpleNamespace(standing=lambda: self.standing, oldest=lambda: self.oldest)

    @property
    def books(self) -> Any:
        return SimpleNamespace(counts=self.counts, cells_with_kept_rows=[1])


def count(stage: str, stream: str | None = None, **sums: int) -> Count:
    return Count(stage=stage, feed="events", stream=stream, **sums)


def test_a_meter_measures_sums_rates_and_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    place = Place(tmp_path)
    meter = Meter(place)  # type: ignore[arg-type]
    assert meter.read().rate_in == 0
    place.counts = [
        count("feed", received=500, decoded=490, dead_lettered=10), count("cell", received=490, duplicates=40),
        count("stream", "warnings", received=450, delivered=100, filtered_out=300, dead_lettered=1, pending=49),
        count("stream", "held", received=450, pending=450),
    ]  # fmt: skip
    clock[0] = 105.0
    found = meter.read()
    assert (found.received, found.dead_letters, found.duplicates) == (500, 10, 40)
    assert (found.rate_in, found.rate_out) == (100.0, 20.2)
    assert found.lag == 0.25
    assert (found.ids, found.segments, found.segment_bytes, found.cells) == (150, 2, 4_096, 1)
    assert [(stream.name, stream.state, stream.pending) for stream in found.streams] == [
        ("warnings", "Running", 49), ("held", "Paused", 450),
    ]  # fmt: skip
    for clock[0] in (110.0, 115.0, 120.0):
        found = meter.read()
    assert found.rate_in == 0, "of the last ten seconds"
    assert found.lag == 0, "nothing has come since"
    assert len(_past(meter)) < 5


def _past(meter: Meter) -> deque[Any]:
    return meter._past


@pytest.mark.parametrize(
    ("failure", "oldest", "state"),
    [(None, 0.5, "Running"), (None, 60.0, "Pending"), (FAILURE, 60.0, "Error"), (FAILURE, 0.1, "Error")],
)
def test_the_state_of_a_stream(tmp_path: Path, failure: Failure | None, oldest: float, state: str) -> None:
    place = Place(tmp_path)
    place.standing, place.oldest = {"warnings": (7, failure), "held": (7, failure)}, {"warnings": oldest}
    streams = {stream.name: stream for stream in Meter(place).read().streams}  # type: ignore[arg-type]
    assert (streams["warnings"].state, streams["warnings"].oldest_seconds) == (state, oldest)
    assert streams["warnings"].reason == ("answers 503; see that it is up" if failure else None)
    assert (streams["held"].state, streams["held"].reason) == ("Paused", None)


@pytest.mark.parametrize(("oldest", "state"), [(60.0, "Running"), (69.0, "Pending")])
def test_a_stream_that_waits_as_long_as_it_says_is_not_pending(tmp_path: Path, oldest: float, state: str) -> None:
    place = Place(tmp_path)
    place.job.streams = [
        Stream("batched", batch=Batch(seconds=60)),
        Stream("archive", destination=S3Options(bucket="acme-iot", rotate_interval=60)),
    ]
    place.oldest = {"batched": oldest, "archive": oldest}
    streams = Meter(place).read().streams  # type: ignore[arg-type]
    assert [stream.state for stream in streams] == [state, state]


def keep(output: Path, what: Status) -> None:
    directory = output / ".live" / what.writer
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "status.json").write_bytes(msgspec.json.encode(what))


def test_the_command_of_a_job_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, status(updated=time.time(), started=time.time() - 75))
    (tmp_path / ".run").mkdir()
    with (tmp_path / ".run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["status", str(tmp_path)]) == 3, "a stream is in error"
    shown = capsys.readouterr().out
    assert ": in 250/s, out 12/s, lag 0.4 s, 5,000 received, 40 duplicates" in shown
    assert "failing: warnings" in shown and "4,900 ids held" in shown and "did not end" not in shown
    (warnings,) = [text for text in shown.splitlines() if text.startswith("warnings")]
    assert warnings.split(maxsplit=7) == [
        "warnings",
        "Error",
        "10",
        "1",
        "7",
        "3.5",
        "s",
        "answers 503; see that it is up",
    ]


def test_the_command_of_a_job_that_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, status(streams=[]))
    assert main(["status", str(tmp_path)]) == 3
    assert "did not end in order: start it again" in capsys.readouterr().out


def test_the_command_of_a_job_that_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, status("stopped", streams=[]))
    assert main(["status", "--json", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"
    assert [one.writer for one in read_statuses(tmp_path)] == ["live"]


def test_no_live_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert "no live job has run here" in capsys.readouterr().err
    assert main(["status", str(tmp_path / "none")]) == 2


def test_the_view_fits_80_columns() -> None:
    console = Console(width=80, force_terminal=True, color_system=None, file=io.StringIO())
    console.print(picture(status(source={"projects/p/subscriptions/s": "UNAVAILABLE " * 20})))
    shown = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, shown)) <= 80
    text = "\n".join(shown)
    for wanted in (
        "warnings",
        "Error",
        "archive",
        "1,234",
        "250/s",
        "lag 0.4 s",
        "4,900 ids",
        "2 segments",
        "answers 503",
        "UNAVAIL",
    ):
        assert wanted in text, text


def test_without_a_terminal_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    console = Console(file=io.StringIO(), width=1_000)
    with View(console) as view:
        for clock[0] in range(31):
            view.show(status())
    assert console.file.getvalue().splitlines() == [line(status())] * 3  # type: ignore[attr-defined]


def test_a_reader_that_has_gone_does_not_end_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Console, "on_broken_pipe", _raise_again)
    with View(Console(file=Gone(), width=1_000)) as view:
        for clock[0] in range(31):
            view.show(status())


def _raise_again(console: Console) -> None:
    raise BrokenPipeError


def test_metrics() -> None:
    port = free_port()
    server, thread = serve_metrics(port, status)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
    finally:
        server.shutdown()
        thread.join()
    for wanted in (
        "data_streamer_received_total 5000.0",
        "data_streamer_ids 4900.0",
        "data_streamer_lag_seconds 0.4",
        'data_streamer_delivered_total{stream="archive"} 1234.0',
        'data_streamer_oldest_seconds{stream="warnings"} 3.5',
        'data_streamer_state{state="Error",stream="warnings"} 1.0',
        'data_streamer_state{state="Running",stream="warnings"} 0.0',
    ):
        assert wanted in lines, "\n".join(lines)
    named = {re.split(r"[{ ]", text)[0].removeprefix("data_streamer_") for text in lines if text[0] != "#"}
    text = (Path(__file__).parents[3] / "docs" / "watching.md").read_text().partition("## Prometheus")[2]
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    assert named == {name for row in rows for name in re.findall(r"`(\w+)`", row)}, "docs/watching.md"
