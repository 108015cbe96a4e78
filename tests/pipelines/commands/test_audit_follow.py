"""``data-streamer audit --follow``: audits while a run works in the directory, and once more in the end."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from pipelines.commands import audit, main
from tests.warehouse.synthetic_output import build_output


def test_it_follows_until_the_run_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "output"
    build_output(output)
    (output / ".run").mkdir()
    waits: list[float] = []
    with (output / ".run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                lock.close()

        monkeypatch.setattr(audit.time, "sleep", wait)
        assert main(["audit", "--follow", str(output)]) == 0
    assert waits == [60.0, 60.0]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("UTC  ")[-1] for line in lines if "UTC  " in line] == ["balanced: nothing was lost"] * 3
    assert sum(line.startswith("note  a run works here") for line in lines) == 1, "the report in full at first"
    assert sum(line.startswith("ok    feed: received") for line in lines) == 2, "and in the end"


def test_ctrl_c_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "output"
    build_output(output)
    (output / ".run").mkdir()

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(audit.time, "sleep", interrupt)
    with (output / ".run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["audit", "--follow", str(output)]) == 0


def test_no_output_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--follow", str(tmp_path)]) == 2
    assert "expected an output directory" in capsys.readouterr().err
