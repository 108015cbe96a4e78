"""The destination of ``docs/adding-a-destination.md`` works as it stands there: one file, one line."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pipelines.commands import main
from tests.servers import http
from transforms.deliver import registry
from transforms.deliver.document import example, page
from transforms.route.definitions import check_text

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "adding-a-destination.md"


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The documented file, imported, and its line in the registry."""
    text = DOCUMENT.read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (line,) = re.findall(r'```\n    "(\w+)": (\w+),\n```', text)
    path = tmp_path / "lines.py"
    path.write_text(code, "utf-8")
    spec = importlib.util.spec_from_file_location("documented_lines", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "documented_lines", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(registry.DESTINATIONS, line[0], getattr(module, line[1]))
    yield module


def test_it_is_found_by_streams_file_and_reference(lines: ModuleType) -> None:
    assert "| `token` | secret | required |" in page("lines")
    (stream,) = check_text(
        "streams: [{name: x, content: events, destination: {type: lines, url: 'https://h/x', token: {env: T}}}]", "x"
    )
    assert stream.destination.type == example("lines")["destination"]["type"] == "lines"


def test_it_delivers(lines: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES_TOKEN", "hunter2")
    with http.receiver() as server:
        streams = tmp_path / "streams.yaml"
        streams.write_text(
            "streams:\n  - name: logs\n    content: events\n    destination:\n      type: lines\n"
            f"      url: {server.address}/ingest\n      token: {{env: LINES_TOKEN}}\n"
        )
        assert main(["test", "logs", f"--streams={streams}"]) == 0
        (request,) = server.requests
    assert request.headers["authorization"] == "Bearer hunter2"
    assert request.body.count(b"\n") == 1 and b"data-streamer-test" in request.body
