"""Two minutes of chaos: what `python -m tests.chaos` does longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import chaos
from tests.pipelines.live.site import needs_prism


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_is_lost_or_doubled_whatever_happens(tmp_path: Path) -> None:
    needs_prism()
    _, verdict = chaos(tmp_path, minutes=2.0, seed=1, rate=200, kills=2)
    assert not verdict.faults, "\n".join(verdict.faults)
