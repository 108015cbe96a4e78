"""Two minutes of chaos: what `python -m tests.chaos` does longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.__main__ import chaos
from tests.pipelines.live.site import Site, needs_prism
from tests.servers.pubsub import pubsub_servicer

pytestmark = pytest.mark.slow


@pytest.mark.timeout(1200)
def test_nothing_is_lost_or_doubled_whatever_happens(tmp_path: Path) -> None:
    needs_prism()
    _, verdict = chaos(tmp_path, minutes=2.0, seed=1, rate=200, kills=2)
    assert not verdict.faults, "\n".join(verdict.faults)


def test_prism_that_is_killed_before_it_has_the_pipeline_ends_the_job(tmp_path: Path) -> None:
    needs_prism()
    with pubsub_servicer() as server:
        job = Site(tmp_path, server, []).job().started()
        try:
            job.prism.kill()
            assert job.ended() == 1
        finally:
            job.process.kill()
    assert "Prism was ended by signal 9. Nothing is lost" in job.text
