"""``truth.json`` against a naive recount of the written files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pytest

from simulator import SimulationOptions, Summary, simulate
from simulator.catalogue import LIMIT_TYPES, TYPES
from simulator.network import COUNTRIES
from tests.simulator.naive_recount import Recount, recount

DIRTY = SimulationOptions(
    devices=120,
    days=2,
    seed=7,
    duplicates=0.05,
    conflicts=0.02,
    malformed=0.03,
    late=0.1,
    shuffled=0.1,
    odd=0.05,
    empty=0.01,
    misplaced=0.01,
    rerendered=0.4,
    unpriced=0.05,
    over_long=1,
    renderings={"current": 0.7, "rest": 0.1, "legacy": 0.1, "csv": 0.1},
)
ISO = {country.mcc: country.iso for country in COUNTRIES}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Recount]:
    directory = tmp_path_factory.mktemp("feed")
    return simulate(DIRTY, directory), recount(directory)


@pytest.mark.parametrize("feed", [0, 1])
def test_counts_of_each_feed(simulated: tuple[Summary, Recount], feed: int) -> None:
    summary, found = simulated
    truth = summary.truth["feeds"][("events", "usage")[feed]]
    assert truth["dead_letters"] == dict(found.dead[feed])
    assert truth["empty"] == found.empty[feed]
    assert truth["decoded"] == found.decoded[feed]
    assert truth["duplicates"] == found.duplicates[feed]
    assert truth["conflicts"] == found.conflicts[feed] > 0
    assert truth["unique"] == len(found.winners[feed])
    assert truth["received"] == truth["empty"] + truth["dead_lettered"] + truth["decoded"]
    hours = Counter(f"{record['time']:%Y-%m-%dT%H}:00:00Z" for record in found.winners[feed])
    assert truth["hours"] == dict(sorted(hours.items()))


def _sums(records: list[dict[str, Any]]) -> dict[str, Any]:
    costs = [record["cost"] for record in records if record["cost"] is not None]
    return {
        **{f"volume_{name}": sum(record[name] for record in records) for name in ("rx", "tx", "total")},
        "cost": sum(costs) if costs else None,
        "records": len(records),
        "unpriced_records": len(records) - len(costs),
    }


def _decimals(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: Decimal(value) if key.startswith("volume") or (key == "cost" and value is not None) else value
        for key, value in row.items()
    }


def test_sums_of_usage(simulated: tuple[Summary, Recount]) -> None:
    summary, found = simulated
    keys: dict[str, Any] = {
        "totals": lambda record: (),
        "by_country": lambda record: (("country_iso", ISO[record["mcc"]]),),
        "by_organisation": lambda record: (("organisation_id", record["organisation"]),),
    }
    for name, key in keys.items():
        groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for record in found.winners[1]:
            groups[*key(record), ("currency", record["currency"]), ("unit", "SMS" if record["sms"] else "MB")].append(
                record
            )
        expected = {frozenset({**dict(group), **_sums(records)}.items()) for group, records in groups.items()}
        assert {frozenset(_decimals(row).items()) for row in summary.truth["usage"][name]} == expected


def test_sums_of_each_device(simulated: tuple[Summary, Recount]) -> None:
    summary, found = simulated
    devices: dict[str, Any] = defaultdict(lambda: {"events": 0, "alerts": 0, "MB": [], "SMS": []})
    for record in found.winners[0]:
        if record["endpoint"] is not None:
            devices[str(record["endpoint"])]["events"] += 1
            devices[str(record["endpoint"])]["alerts"] += record["alert"]
    for record in found.winners[1]:
        devices[str(record["endpoint"])]["SMS" if record["sms"] else "MB"].append(record)
    truth = summary.truth["devices"]["by_endpoint"]
    assert set(truth) == set(devices)
    for endpoint, device in devices.items():
        assert (truth[endpoint]["events"], truth[endpoint]["alerts"]) == (device["events"], device["alerts"])
        usage = {unit: _decimals(sums) for unit, sums in truth[endpoint]["usage"].items()}
        assert usage == {unit: _sums(device[unit]) for unit in ("MB", "SMS") if device[unit]}


def test_counts_of_events(simulated: tuple[Summary, Recount]) -> None:
    summary, found = simulated
    truth, events = summary.truth["events"], found.winners[0]
    assert truth["total"] == len(events)
    assert truth["alerts"] == sum(event["alert"] for event in events)
    assert truth["by_event_type_id"] == _texts(Counter(event["type"] for event in events))
    assert truth["by_category"] == _texts(Counter(TYPES[event["type"]][1] for event in events))
    assert truth["by_severity"] == _texts(Counter(("INFO", "WARN", "CRITICAL")[event["severity"]] for event in events))
    assert truth["by_source"] == _texts(
        Counter(("network", "policy_control", "api")[event["source"]] for event in events)
    )
    assert truth["by_organisation"] == _texts(Counter(event["organisation"] for event in events))
    # CSV has no text: there the severity of an attempt tells.
    bare = [event for event in events if not event["text"] and event["type"] in (1, 2, 3, 4) and event["severity"] > 0]
    rejected = sum("rejected" in event["text"] for event in events) + len(bare)
    assert truth["by_outcome"]["rejected"] == rejected


def _texts(counts: Counter[Any]) -> dict[str, int]:
    return {str(key): count for key, count in counts.items()}


def test_sessions(simulated: tuple[Summary, Recount]) -> None:
    summary, found = simulated
    named = [
        event for event in found.winners[0] if isinstance(event["detail"], dict) and "session_id" in event["detail"]
    ]
    ended = [event for event in named if event["type"] == 5]
    truth = summary.truth["sessions"]
    assert truth["created"] == sum(event["type"] == 3 for event in named)
    assert truth["deleted"] == len(ended)
    for name in ("rx", "tx", "total"):
        volumes = [Decimal(event["detail"]["volume"][name]) for event in ended]
        assert Decimal(truth[f"volume_{name}"]) == sum(volumes)


def test_limits_and_failed_logins(simulated: tuple[Summary, Recount]) -> None:
    summary, found = simulated
    limits: dict[str, set[int]] = defaultdict(set)
    logins: Counter[tuple[str, str]] = Counter()
    for event in found.winners[0]:
        if event["type"] in LIMIT_TYPES:
            limits[str(event["endpoint"])].add(event["type"])
        if event["type"] in (6, 7):
            match = re.search(r"request from '(.*)', Reason.* from IP (\S+)$", event["text"])
            assert match
            logins[match[1], match[2]] += 1
    assert summary.truth["limits"]["event_types_by_endpoint"] == {key: sorted(types) for key, types in limits.items()}
    truth = {(row["user"], row["source_ip"]): row["events"] for row in summary.truth["failed_logins"]}
    assert truth == dict(logins)


def test_every_file_is_listed(simulated: tuple[Summary, Recount]) -> None:
    summary, _ = simulated
    files = {str(path.relative_to(summary.directory)) for path in summary.directory.rglob("*/*.*") if path.is_file()}
    assert set(summary.truth["files"]) == files
    assert sum(summary.truth["files"].values()) == summary.lines
