"""Metrics of a live job: what entries add, and that their description has them all."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from transforms.ledger import metrics
from transforms.ledger.counts import Count, FileEntry, OpenCells, StreamError

ENTRIES = [
    Count("feed", "usage", received=10, decoded=7, dead_lettered=2, empty=1),
    Count("cell", "usage", hour=0, received=7, duplicates=3, delivered=4),
    Count("stream", "usage", "hook", 0, received=4, filtered_out=1, pending=3),
    Count("stream", "usage", "hook", 0, delivered=1, dead_lettered=1, pending=-2),
    OpenCells("usage", 0, 1),
    FileEntry("usage", 0, "warehouse/usage/part-w-0-0.parquet", 4, 1, "0"),
    StreamError("hook", "answers 503", None),
]


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    found: Counter[str] = Counter()

    def metric(namespace: str, name: str) -> SimpleNamespace:
        def add(change: int) -> None:
            found[f"{namespace} {name}"] += change

        return SimpleNamespace(inc=add, update=add)

    monkeypatch.setattr(metrics, "Metrics", SimpleNamespace(counter=metric, distribution=metric))
    return found


def test_entries_count(sums: Counter[str]) -> None:
    metrics.count(ENTRIES)
    assert sums == {
        "feeds usage.received": 10, "feeds usage.dead_letters": 2, "cells usage.duplicates": 3, "cells usage.kept": 4,
        "cells open_cells": 1, "streams hook.filtered_out": 1, "streams hook.pending": 1, "streams hook.delivered": 1,
        "streams hook.refused": 1,
    }  # fmt: skip


def test_all_are_described(sums: Counter[str]) -> None:
    metrics.count(ENTRIES)
    metrics.count_ids(7)
    metrics.count_ahead(1)
    metrics.observe_lag(0.25)
    metrics.observe_oldest("hook", 2.0)
    assert (sums["cells lag_ms"], sums["streams hook.oldest_ms"]) == (250, 2000)
    text = (Path(__file__).parents[3] / "docs" / "watching.md").read_text()
    text = text.partition("## Prometheus")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)
    described = {f"{namespace} {name}" for namespace, names in rows for name in re.findall(r"`([^`]+)`", names)}
    made = {name.replace("usage.", "<feed>.").replace("hook.", "<stream>.") for name in sums}
    assert made == {name for name in described if not name.startswith("source ")}
