"""Killed runs, damaged files and a locked directory."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end import runs
from warehouse.audit import audit


@pytest.fixture(scope="module")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One day of a feed."""
    directory = tmp_path_factory.mktemp("feeds")
    runs.feed(directory, devices=150, days=1, seed=3, conflicts=0.002)
    return directory


@pytest.fixture(scope="module")
def once(feeds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one undisturbed run."""
    output = tmp_path_factory.mktemp("once") / "output"
    runs.run(f"{feeds}/{{feed}}/*/*", output)
    return output


def _spilled(output: Path) -> bool:
    return any(output.glob(".run/*/block-*.arrow"))


def _some_parts(output: Path) -> bool:
    return len(list(output.glob("warehouse/events/dt=*/hh=*/*.parquet"))) > 3


def _nearly_all(output: Path) -> bool:
    return len(list(output.glob("warehouse/usage/dt=*/hh=*/*.parquet"))) > 20


def _run_until(moment: Callable[[Path], bool], sources: str, output: Path) -> None:
    """Runs, and kills the run at a moment."""
    process = subprocess.Popen(
        runs.command(sources, output),
        cwd=runs.REPOSITORY, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(runs.REPOSITORY)},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not moment(output) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("moment", [_spilled, _some_parts, _nearly_all])
def test_a_killed_run_is_repeated_without_a_trace(feeds: Path, once: Path, tmp_path: Path, moment) -> None:
    output = tmp_path / "output"
    _run_until(moment, f"{feeds}/{{feed}}/*/*", output)
    runs.run(f"{feeds}/{{feed}}/*/*", output)
    assert runs.state(output) == runs.state(once)
    assert runs.stream_bytes(output) == runs.stream_bytes(once)
    assert runs.temporary_files(output) == []
    assert audit(output).ok


def test_what_a_killed_run_left_is_not_counted_by_a_run_over_more(tmp_path: Path) -> None:
    """The feed has grown since: other inputs are another writer, which would find the rows beside its own."""
    runs.feed(tmp_path / "feed", devices=60, days=2, seed=3)
    output, sources = tmp_path / "output", f"{tmp_path}/feed/{{feed}}/*/*"
    runs.run(sources, tmp_path / "once")
    _run_until(_some_parts, f"{tmp_path}/feed/{{feed}}/2026-10-01/*", output)
    assert _some_parts(output) and not list(output.glob("warehouse/_commits/*"))
    runs.run(sources, output)
    assert runs.state(output) == runs.state(tmp_path / "once")
    assert runs.stream_bytes(output) == runs.stream_bytes(tmp_path / "once")
    assert audit(output).ok


def _outputs(output: Path) -> list[Path]:
    found = [
        next(iter(sorted(output.glob(pattern))))
        for pattern in (
            "warehouse/events/dt=*/hh=*/*", "warehouse/device_usage_hourly/dt=*/hh=*/*", "warehouse/dead_letters/*",
            "warehouse/ledger/*", "warehouse/ledger_files/*", "warehouse/inputs/*", "streams/warnings/dt=*/hh=*/*",
            "streams/usage-archive/dt=*/hh=*/*", "streams/device-usage/dt=*/hh=*/*",
        )
    ]  # fmt: skip
    return [path.relative_to(output) for path in found]


def _delete(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_delete, _truncate, _flip])
def test_the_audit_names_a_damaged_file(once: Path, tmp_path: Path, damage) -> None:
    for number, relative in enumerate(_outputs(once)):
        output = tmp_path / str(number)
        shutil.copytree(once, output)
        damage(output / relative)
        result = audit(output)
        assert not result.ok, f"{relative} was damaged and the audit did not see it"
        assert str(relative) in str(result.first_difference), f"{relative} is not named by: {result.first_difference}"


def test_a_second_run_at_the_same_time_is_refused(feeds: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    (output / ".run").mkdir(parents=True)
    with open(output / ".run" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = runs.run(f"{feeds}/{{feed}}/*/*", output, code=2)
    assert "a run is under way" in text
    assert not (output / "warehouse").exists()


def test_a_changed_payload_of_a_dead_letter_is_named(tmp_path: Path) -> None:
    runs.feed(tmp_path / "feed", devices=5, days=1, seed=3, over_long=1)
    output = tmp_path / "output"
    runs.run(f"{tmp_path}/feed/{{feed}}/*/*", output, streams=None)
    assert audit(output).ok
    (payload,) = (output / "warehouse" / "dead").iterdir()
    _flip(payload)
    assert payload.name in str(audit(output).first_difference)
