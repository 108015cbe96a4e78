"""What is not installed is told before the run, and the base install says nothing of what it does not need."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import commands
from tests.end_to_end import jobs

ROOT = Path(__file__).resolve().parents[2]


def without(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == module else find(name, *more))


@pytest.mark.parametrize("option", ["events", "usage", "streams", "output"])
@pytest.mark.parametrize(("scheme", "module", "extra"), [("gs", "google.cloud.storage", "gcp"), ("s3", "boto3", "aws")])
def test_a_missing_extra_is_named_by_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, scheme: str, module: str, extra: str
) -> None:
    without(monkeypatch, module)
    line = jobs.write_lines(tmp_path / "events.json", [])
    given = {"events": line, "output": tmp_path / "output", option: f"{scheme}://bucket/x"}
    done = jobs.start(*(f"--{name}={value}" for name, value in given.items()))
    assert done.code == 2
    expected = f"--{option}: {scheme}://bucket/x needs {module}, which is not installed: pip install -e '.[{extra}]'"
    assert expected in done.text and "1 mistake found" in done.text, done.text
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("name", ["audit", "report", "sql", "device"])
def test_readers_name_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str) -> None:
    without(monkeypatch, "google.cloud.storage")
    assert commands.main([name, "gs://bucket/x", *{"sql": ["SHOW TABLES"], "device": ["1"]}.get(name, [])]) == 2
    assert "pip install -e '.[gcp]'" in capsys.readouterr().err


_WITHOUT_GOOGLE = """
import sys
class Blocked:
    def find_spec(self, name, *_):
        if name.startswith(("apitools", "google_auth_httplib2", "google.auth", "apache_beam.io.gcp.gcsfilesystem")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from pipelines import commands
sys.exit(commands.main(sys.argv[1:]))
"""


def test_a_local_run_needs_nothing_of_google_cloud_and_does_not_warn(tmp_path: Path) -> None:
    events = jobs.write_lines(tmp_path / "events.json", list(jobs.samples("events").values()))
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_GOOGLE, "run", f"--events={events}", f"--output={tmp_path / 'output'}"],
        cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_other_warnings_of_the_root_logger_are_still_shown() -> None:
    script = "import logging, pipelines; logging.warning('apitools not found, and'); logging.warning('other')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stderr == "other\n"
