"""Prism is found, runs in a session of its own, and never outlives who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipelines.live import prism
from pipelines.live.prism import Prism, PrismError, find_prism
from tests.end_to_end.runs import REPOSITORY
from tests.pipelines.live.site import needs_prism
from tests.servers.processes import wait_until


def program(path: Path, text: str = "#!/bin/sh\nexit 3\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prism, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(prism, "BUILT", tmp_path / "built" / "prism")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(PrismError, match="make prism"):
        find_prism()
    program(tmp_path / "cache" / "apache_beam-v2.77.0-prism-linux-amd64.zip")
    program(tmp_path / "cache" / "apache_beam-v2.70.0-prism-linux-amd64")
    with pytest.raises(PrismError, match="make prism"):
        find_prism()
    cached = program(tmp_path / "cache" / "apache_beam-v2.77.0-prism-linux-amd64")
    assert find_prism() == cached
    on_path = program(tmp_path / "path" / "prism")
    assert find_prism() == on_path
    built = program(tmp_path / "built" / "prism")
    assert find_prism() == built
    named = program(tmp_path / "named")
    assert find_prism(str(named)) == named


def test_a_location_that_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(PrismError, match="--prism_location: .* is no program"):
        find_prism(str(tmp_path))


def test_it_ends_when_it_is_started(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        pytest.raises(PrismError, match=f"Prism ended with exit code 3 when it was started; see {log}"),
        Prism(program(tmp_path / "prism"), log),
    ):
        pass


def test_it_has_a_session_of_its_own_and_is_stopped(tmp_path: Path) -> None:
    needs_prism()
    with Prism(find_prism(), tmp_path / "log") as running:
        (process,) = [child for child in psutil.Process().children() if child.name() == "prism"]
        assert os.getsid(process.pid) != os.getsid(0)
        assert running.ended is None
    wait_until(lambda: not process.is_running(), "Prism has ended", 10)


def test_it_tells_how_it_ended(tmp_path: Path) -> None:
    needs_prism()
    with Prism(find_prism(), tmp_path / "log") as running:
        (process,) = [child for child in psutil.Process().children() if child.name() == "prism"]
        process.kill()
        assert running.has_ended(10)
        assert running.ended == "Prism was ended by signal 9"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with the one that started it")
def test_killed_it_takes_prism_along(tmp_path: Path) -> None:
    needs_prism()
    code = (
        "import pathlib, time\nfrom pipelines.live.prism import Prism, find_prism\n"
        f"with Prism(find_prism(), pathlib.Path({str(tmp_path / 'log')!r})):\n    print('started', flush=True)\n"
        "    time.sleep(300)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "started\n"
    (process,) = psutil.Process(parent.pid).children()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(
        lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "Prism has ended as well", 10
    )
