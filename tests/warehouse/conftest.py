from __future__ import annotations

from pathlib import Path

import pytest

from tests.warehouse.synthetic_output import build_output


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output directory with known content; it may be changed."""
    return build_output(tmp_path / "output")


@pytest.fixture
def empty_output(tmp_path: Path) -> Path:
    """The output of a run over a feed without records."""
    return build_output(tmp_path / "empty", empty=True)


@pytest.fixture
def hostile_output(tmp_path: Path) -> Path:
    """Names and texts hold markup."""
    return build_output(tmp_path / "hostile", hostile=True)
