"""One run at a time in a directory, and none over what a live job that was killed has left."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from pipelines.commands import main
from pipelines.lock import LockedError, is_locked, is_unfinished, live_writers, locked


def killed(output: Path, writer: str) -> None:
    directory = output / ".live" / writer
    directory.mkdir(parents=True)
    (directory / "running").touch()


def _try(output: str) -> None:
    with locked(output):
        pass


def test_a_lock_keeps_others_out(tmp_path: Path) -> None:
    assert not is_locked(str(tmp_path))
    with locked(str(tmp_path)):
        assert is_locked(str(tmp_path)) and is_unfinished(str(tmp_path))
        other = multiprocessing.get_context("spawn").Process(target=_try, args=(str(tmp_path),))
        other.start()
        other.join(120)
        assert other.exitcode == 1
    assert not is_locked(str(tmp_path))


def test_a_live_job_that_was_killed_keeps_all_others_out(tmp_path: Path) -> None:
    killed(tmp_path, "fleet")
    assert live_writers(str(tmp_path)) == ["fleet"]
    assert is_unfinished(str(tmp_path)) and not is_locked(str(tmp_path))
    for live in (None, "other"):
        with pytest.raises(LockedError, match="'fleet' did not end in order.*--streaming --name=fleet"):  # noqa: SIM117
            with locked(str(tmp_path), live):
                pass
    with locked(str(tmp_path), "fleet"):
        assert is_locked(str(tmp_path))


def test_a_live_job_that_ended_in_order_keeps_none_out(tmp_path: Path) -> None:
    killed(tmp_path, "fleet")
    (tmp_path / ".live" / "fleet" / "running").unlink()
    with locked(str(tmp_path)):
        pass
    assert not is_unfinished(str(tmp_path))


def test_nothing_is_delivered_over_a_live_job_that_was_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "warehouse").mkdir()
    killed(tmp_path, "live")
    streams = tmp_path / "streams.yaml"
    streams.write_text("streams: []\n")
    assert main(["deliver", str(tmp_path), f"--streams={streams}"]) == 2
    assert "the live job 'live' did not end in order" in capsys.readouterr().err
