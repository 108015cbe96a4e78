"""A small feed, its batch run, and streams that are pushed; and whether a live job made the same of the feed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import jobs, runs
from tests.servers.http import Receiver, receiver
from warehouse.audit import audit

_USAGE_SUMS = "sum(volume_rx), sum(volume_tx), sum(volume_total), sum(cost), sum(records), sum(unpriced_records)"
_EVENT_SUMS = "sum(events), sum(alerts), min(first_time), max(last_time)"
_SUMMED = {
    "device_usage_hourly": ("volume_rx, volume_tx, volume_total, cost, records, unpriced_records", _USAGE_SUMS),
    "device_events_hourly": ("events, alerts, first_time, last_time", _EVENT_SUMS),
}


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("feed")
    runs.feed(
        directory, devices=8, days=1, seed=5, duplicates=0.05, rerendered=0.0, late=0.1, malformed=0.02, empty=0,
        gzipped=0, renderings={"current": 1.0},
    )  # fmt: skip
    return directory


@pytest.fixture(scope="module")
def batch(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("batch") / "output"
    jobs.run(output, events=f"{feed}/events/**/*", usage=f"{feed}/usage/**/*")
    return output


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def streams(tmp_path: Path, server: Receiver) -> Path:
    hook = {"type": "webhook", "url": server.address, "shards": 2}
    return jobs.write_streams(
        tmp_path / "streams.yaml",
        {"name": "warnings", "content": "events", "filter": {"min_severity": "WARN"}},
        {"name": "hours", "content": "device_usage_hourly", "destination": {"type": "warehouse"}},
        {"name": "hook", "content": "usage", "destination": hook, "batch": {"size": 50}},
        {"name": "sums", "content": "device_usage_hourly", "destination": {**hook, "url": f"{server.address}/sums"}},
    )


def everything(output: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What a warehouse says, with partial sums summed."""
    found = {table: runs.rows(output, table, runs.LINEAGE) for table in runs.RECORD_TABLES}
    for table, (left_out, sums) in _SUMMED.items():
        lineage = ", ".join(runs.LINEAGE & {"writer", "pane", "schema_version"})
        query = f"SELECT * EXCLUDE ({left_out}, {lineage}), {sums} FROM {table} GROUP BY ALL"
        found[table] = sorted(runs.ask(output, query), key=repr)
    letters = "SELECT kind, feed, reason, record_id, payload_sha256 FROM dead_letters"
    found["dead_letters"] = sorted(runs.ask(output, letters), key=repr)
    found["ledger"] = runs.ask(
        output,
        "SELECT stage, feed, hour, sum(received), sum(decoded), sum(duplicates + conflicts), sum(dead_lettered), "
        "sum(delivered) FROM ledger WHERE stage IN ('feed', 'cell') GROUP BY ALL ORDER BY ALL",
    )
    return found


def sent(server: Receiver, path: str) -> Counter[Any]:
    """What a receiver took, and how often: usage ids, or sums."""
    rows = [row for request in server.accepted() if request.path == path for row in json.loads(request.body)]
    return Counter(row["usage_id"] if "usage_id" in row else json.dumps(row, sort_keys=True) for row in rows)


def usage_ids(output: Path) -> set[int]:
    return {number for (number,) in runs.ask(output, "SELECT usage_id FROM usage")}


def standing(output: Path) -> list[tuple[Any, ...]]:
    return runs.ask(
        output,
        "SELECT stream, sum(received), sum(filtered_out), sum(delivered), sum(pending), sum(dead_lettered) "
        "FROM ledger WHERE stream IS NOT NULL GROUP BY ALL ORDER BY ALL",
    )


def check(output: Path, batch: Path, server: Receiver, once: bool = True) -> None:
    found, expected = everything(output), everything(batch)
    for name, rows in expected.items():
        assert found[name] == rows, name
    hook = sent(server, "/")
    assert set(hook) == usage_ids(batch)
    assert not once or max(hook.values()) == 1
    assert all(pending == 0 for *_, pending, _ in standing(output))
    result = audit(output)
    assert result.ok, "\n".join(result.lines)
