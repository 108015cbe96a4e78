"""The fault matrix, measured again: nothing is lost, what may not be doubled is not, and the document says the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.destinations import reliability
from tests.destinations.bench import Benches
from tests.destinations.reliability import CASES, Case
from tests.destinations.site import Site
from transforms.deliver.registry import DESTINATIONS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.words)
@pytest.mark.parametrize("kind", DESTINATIONS)
def test_a_fault(benches: Benches, day: Site, tmp_path: Path, kind: str, case: Case) -> None:
    documented = reliability.read_document().get((kind, case.words))
    assert documented is not None, (
        f"docs/reliability.md has no row: python -m tests.destinations.reliability --write {kind}"
    )
    with benches.use(kind) as bench:
        reason = reliability.without(bench, case)
        if reason is not None:
            assert documented == reliability.row_of(kind, case, reason)
            return
        found = reliability.measure(bench, case, reliability.rows_of(day), tmp_path)
        assert found.delivered + found.pending + found.dead == found.records > 0
        assert found.later == found.pending and found.lost == found.dead == 0
        doubles = case.doubles and not bench.drops_repeats
        assert found.doubled == 0 or doubles, f"{found.doubled} records arrived again"
        records, *_, doubled, lost = (int(cell.replace(",", "")) for cell in documented[2:])
        assert (records, lost) == (found.records, 0) and (doubled == 0 or doubles)


def test_the_document_has_no_other_rows() -> None:
    known = {(kind, case.words) for kind in DESTINATIONS for case in CASES}
    assert set(reliability.read_document()) <= known


def test_the_document_is_as_it_would_be_written(tmp_path: Path) -> None:
    again = tmp_path / "reliability.md"
    reliability.write_document(reliability.read_document(), again)
    assert again.read_text("utf-8") == reliability.DOCUMENT.read_text("utf-8")
