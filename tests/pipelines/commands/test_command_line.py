from __future__ import annotations

import importlib
import keyword
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.commands import COMMANDS, cli, errors
from tests.pipelines.commands.conftest import Call

ROOT = Path(__file__).resolve().parents[3]


def test_help_lists_every_command(call: Call) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        outcome = call(*arguments)
        assert outcome.code == 0
        assert all(name in outcome.out and purpose in outcome.out for name, purpose in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, call: Call) -> None:
    outcome = call(name, "--help")
    assert outcome.code == 0
    assert f"data-streamer {name}" in outcome.out
    assert outcome.err == ""
    assert max(map(len, outcome.out.splitlines())) <= 100


def test_each_module_holds_its_command() -> None:
    modules = {path.stem for path in (ROOT / "pipelines" / "commands").glob("*.py")} - {"__init__", "errors", "trace"}
    named = {f"{name}_" if keyword.iskeyword(name) else name: name for name in COMMANDS}
    assert modules == set(named)
    for module, name in named.items():
        assert importlib.import_module(f"pipelines.commands.{module}").command is cli.get_command(None, name)  # type: ignore[arg-type]


def test_version(call: Call) -> None:
    outcome = call("--version")
    assert outcome.code == 0
    assert outcome.out.startswith("data-streamer ")


def test_a_misspelt_command_gets_a_suggestion(call: Call) -> None:
    outcome = call("raeson")
    assert (outcome.code, outcome.out) == (2, "")
    assert "did you mean reasons?" in outcome.err


def test_a_misspelt_option_gets_a_suggestion(call: Call) -> None:
    outcome = call("simulate", "--devics=3", "--output=x")
    assert outcome.code == 2
    assert "'--devices'" in outcome.err


@pytest.mark.parametrize("command", [("audit",), ("report",), ("device", "1"), ("sql", "SHOW TABLES"), ("deliver",)])
def test_a_directory_that_is_no_output_is_a_mistake(command: tuple[str, ...], call: Call, tmp_path: Path) -> None:
    streams = tmp_path / "streams.yaml"
    streams.write_text("streams: []\n")
    extra = [f"--streams={streams}"] if command[0] == "deliver" else []
    outcome = call(command[0], tmp_path / "nowhere", *command[1:], *extra)
    assert (outcome.code, outcome.out) == (2, "")
    assert "expected an output directory" in outcome.err
    assert not (tmp_path / "nowhere").exists()


def _crash() -> None:
    try:
        raise OSError("no space left on the disk")
    except OSError as error:
        raise RuntimeError("bundle failed: no space left on the disk [while running 'Write']") from error


def test_a_crash_is_told_with_its_cause_and_without_a_traceback(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    types = importlib.import_module("pipelines.commands.types")
    monkeypatch.setattr(types, "console_of", _crash)
    outcome = call("types")
    assert (outcome.code, outcome.out) == (1, "")
    assert "no space left on the disk [while running 'Write']" in outcome.err
    assert "because of OSError: no space left on the disk" in outcome.err
    assert "Traceback" not in outcome.err
    assert "Traceback" in call("--debug", "types").err


def test_of_the_traceback_of_a_worker_only_the_error_and_its_place_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    message = (
        'failed:Traceback (most recent call last):\n  File "/x/transforms/deliver/storage.py", line 7, in publish\n'
        "    open(path)\nPermissionError: [Errno 13] Permission denied: '/out'\n"
    )
    errors.print_crash(RuntimeError(message), ["run"])
    told = capsys.readouterr().err
    assert "crashed: PermissionError: [Errno 13] Permission denied: '/out'" in told
    assert "at /x/transforms/deliver/storage.py:7, publish" in told


@pytest.mark.parametrize("arguments", [["--help"], ["types"], ["reasons"], ["validate", "examples/streams.yaml"]])
def test_light_commands_do_not_import_beam(arguments: list[str]) -> None:
    program = (
        "import sys; from pipelines.commands import main; code = main(sys.argv[1:]); "
        "sys.exit(code or 'apache_beam.pipeline' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    "program",
    [
        ["-c", "import sys; from pipelines.commands import main; sys.exit(main(['schema', 'streams']))"],
        ["-m", "pipelines.data_streamer", "--help"],
    ],
    ids=["command", "job"],
)
def test_a_reader_that_stops_early_is_no_crash(program: list[str]) -> None:
    pipe = subprocess.Popen([sys.executable, *program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert pipe.stdout is not None and pipe.stderr is not None
    pipe.stdout.close()
    assert pipe.wait(60) == 0
    assert pipe.stderr.read() == b""
