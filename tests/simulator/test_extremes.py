"""Truth stays exact at the ends of the options."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator import SimulationOptions, simulate
from tests.simulator.naive_recount import recount

EXTREMES = {
    "one device": SimulationOptions(devices=1, conflicts=0.3, duplicates=0.5),
    "all dirt": SimulationOptions(
        devices=10, days=2, duplicates=1, conflicts=0.5, malformed=1, late=1, shuffled=1, odd=1, empty=1, misplaced=1,
        rerendered=1, gzipped=0.5, unpriced=1,
    ),
    "csv alone": SimulationOptions(devices=10, conflicts=0.5, renderings={"csv": 1}),
    "rest alone": SimulationOptions(devices=10, renderings={"rest": 2}),
    "all zipped": SimulationOptions(devices=10, gzipped=1, days=3),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTREMES)
def test_truth_is_exact_at_the_extremes(tmp_path: Path, name: str) -> None:
    truth = simulate(EXTREMES[name], tmp_path).truth
    found = recount(tmp_path)
    for feed, counts in enumerate(truth["feeds"].values()):
        assert counts["dead_letters"] == dict(found.dead[feed])
        assert counts["empty"] == found.empty[feed]
        assert counts["duplicates"] == found.duplicates[feed]
        assert counts["conflicts"] == found.conflicts[feed]
        assert counts["unique"] == len(found.winners[feed])
    assert sum(row["records"] for row in truth["usage"]["totals"]) == len(found.winners[1])
