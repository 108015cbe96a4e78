"""Run the job in this process, where a process of its own is not the point: starting one costs seconds."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipelines.data_streamer import main

TIMES = ("timestamp", "start_timestamp", "end_timestamp", "production_date", "import_date")
SAMPLES = Path(__file__).parents[1] / "data" / "samples"


@dataclass(frozen=True)
class Done:
    """How a run ended: its exit code, and what it printed."""

    code: int
    text: str


def start(*arguments: str | Path) -> Done:
    """Runs the job with these arguments."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = main([str(argument) for argument in arguments])
    return Done(code, printed.getvalue())


def run(
    output: Path, *options: str, events: str | Path | None = None, usage: str | Path | None = None,
    streams: Path | None = None, code: int = 0, report: bool = False,
) -> str:  # fmt: skip
    """Runs the job over these feeds and returns what it printed; it must end with ``code``. Views and report, a third
    of a small run, are made where they are asked for.
    """
    given = {"events": events, "usage": usage, "streams": streams, "output": output}
    done = start(
        *(f"--{name}={value}" for name, value in given.items() if value is not None),
        *options,
        *([] if report else ["--no_report"]),
    )
    assert done.code == code, f"exit code {done.code}, expected {code}\n{done.text}"
    return done.text


def write_streams(path: Path, *streams: dict[str, Any]) -> Path:
    """Writes a streams file; a stream without a destination gets files."""
    listed = [{"destination": {"type": "files"}, **stream} for stream in streams]
    path.write_text(json.dumps({"streams": listed}))  # JSON is YAML
    return path


def write_lines(path: Path, lines: Sequence[bytes | dict[str, Any]]) -> Path:
    """Writes records (as JSON) and raw lines, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"".join((json.dumps(line).encode() if isinstance(line, dict) else line) + b"\n" for line in lines)
    )
    return path


def samples(feed: str) -> dict[str, dict[str, Any]]:
    """The published records of a feed by the name of their file, each with an id of its own."""
    found: dict[str, dict[str, Any]] = {}
    for number, path in enumerate(sorted((SAMPLES / feed).glob("*.json"))):
        content = json.loads(path.read_text())
        (record,) = content if isinstance(content, list) else [content]
        found[path.stem] = {**record, "id": 7_000_000_000 + number}
    return found


def load(text: str | bytes) -> Any:
    """A JSON text with its numbers exact."""
    return json.loads(text, parse_float=Decimal)


def plain(value: Any, name: str = "") -> Any:
    """JSON values for comparison: numbers by value, times by instant, null equal to absent."""
    if isinstance(value, dict):
        members = {key: plain(item, key) for key, item in value.items()}
        return {key: item for key, item in members.items() if item is not None and item != {}}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and name in TIMES:
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            return value
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    return value
