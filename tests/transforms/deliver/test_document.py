"""The reference pages of destinations say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from transforms.deliver import document
from transforms.deliver.registry import DESTINATIONS
from transforms.route.definitions import check_text

PAGES = Path(__file__).resolve().parents[3] / "docs" / "destinations"


def test_pages_are_those_of_the_code(tmp_path: Path) -> None:
    document.write(tmp_path)
    written = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text("utf-8") for path in PAGES.iterdir()}, "run make docs"


def test_pages_of_types_that_are_no_more_go(tmp_path: Path) -> None:
    (tmp_path / "telex.md").write_text("# Destination `telex`")
    document.write(tmp_path)
    assert not (tmp_path / "telex.md").exists()


@pytest.mark.parametrize("name", sorted(DESTINATIONS))
def test_example_is_a_valid_stream(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text("utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (stream,) = check_text(text, page)
    assert stream.destination.type == name
    assert YAML(typ="safe").load(text) == {"streams": [document.example(name)]}


@pytest.mark.parametrize("name", sorted(DESTINATIONS))
def test_every_option_and_the_guarantee_are_told(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text("utf-8")
    assert "Guarantee: " in page
    for key, field in DESTINATIONS[name].options_model.model_fields.items():
        assert field.description, f"{name}.{key} has no description"
        if key != "type":
            assert f"| `{field.alias or key}` |" in page
    assert "<class" not in page
