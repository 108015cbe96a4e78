from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks import webhook
from benchmarks.receiver import receiver
from benchmarks.rounds import Bench
from tests.transforms.deliver.support import rows_of


@pytest.mark.parametrize("size", [webhook.LARGE, 1])
def test_lane_and_loop_send_the_same_to_a_receiver(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "MANY", 4_000)
    monkeypatch.setattr(webhook, "FEW", 50)
    events = pa.Table.from_batches([rows_of("events", *({"event_id": number} for number in range(500)))])
    told: list[str] = []
    found = webhook._compare(Bench(tmp_path, 1, 1, told.append), events, size, decodes=True)
    assert found.figure > 0 and found.goal == webhook.GOALS[size] and found.least
    assert len(told) == 2 and "a request of" in found.detail


def test_receiver_decodes() -> None:
    rows = webhook._rows(pa.Table.from_batches([rows_of("events", {})]), 2)
    for decodes in (True, False):
        with receiver(decodes) as url:
            requests = webhook._requests(rows, url, webhook.LARGE)
            assert len(requests) == 1 and requests[0].headers["webhook-id"]
            broken = [webhook._Request(b"no JSON", {})]
            if decodes:
                with pytest.raises(Exception, match="Connection|closed"):
                    webhook._bare(broken, url)
            else:
                webhook._bare(broken, url)
