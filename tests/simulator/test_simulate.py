"""What simulated feeds look like: the same for a seed, complete in their events, late, in all renderings."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator import SECRET_MARK, SimulationOptions, records_per_device_day, simulate
from simulator.catalogue import KNOWN_TYPES, RARE, TYPES, UNKNOWN_TYPE, VARIANTS
from simulator.faults import FAULT_CLASSES
from simulator.fleet import build_fleet, check_digit
from simulator.network import OPERATORS
from simulator.plan import plan_day
from simulator.renderings import EVENT_HEADER, USAGE_HEADER

SMALL = SimulationOptions(devices=20, days=2, seed=3)


def _digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _records(directory: Path, feed: str) -> list[dict[str, object]]:
    """Whole records of the current files of a feed."""
    records = []
    for path in sorted((directory / feed).rglob("current-*.ndjson")):
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                records.append(record)
    return records


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    simulate(SMALL, tmp_path / "first")
    simulate(SMALL, tmp_path / "second")
    simulate(replace(SMALL, seed=4), tmp_path / "other")
    assert _digests(tmp_path / "first") == _digests(tmp_path / "second")
    assert _digests(tmp_path / "first") != _digests(tmp_path / "other")


@pytest.mark.parametrize("devices", [1, 20])
def test_every_known_event_type_occurs(tmp_path: Path, devices: int) -> None:
    truth = simulate(SimulationOptions(devices=devices), tmp_path).truth
    assert {int(number) for number in truth["events"]["by_event_type_id"]} == set(TYPES)
    assert UNKNOWN_TYPE not in KNOWN_TYPES
    assert set(truth["events"]["by_reason"]) == {item.reason for item in VARIANTS if item.reason}
    assert set(truth["events"]["by_category"]) == {category for _, category in TYPES.values()}
    assert set(truth["events"]["by_severity"]) == {"INFO", "WARN", "CRITICAL"}


def test_all_renderings_parse(tmp_path: Path) -> None:
    clean = SimulationOptions(
        devices=60, malformed=0, empty=0, odd=0, renderings={"current": 1, "rest": 1, "legacy": 1, "csv": 1}
    )
    truth = simulate(clean, tmp_path).truth
    counts = dict.fromkeys(("current", "rest", "legacy", "csv"), 0)
    for path in (path for path in tmp_path.rglob("*/*/*.*") if path.is_file()):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if path.suffix == ".csv":
            rows = list(csv.reader(content.decode().splitlines()))
            header = EVENT_HEADER if path.name.startswith("events") else USAGE_HEADER
            assert tuple(rows[0]) == header
            assert {len(row) for row in rows} == {len(header)}
            counts["csv"] += len(rows) - 1
        elif path.suffix == ".json":
            elements = json.loads(content)
            assert all("+0000" in (item.get("timestamp") or item["end_timestamp"]) for item in elements)
            assert not any(item.get("event_severity", {}).get("description") == "INFO" for item in elements)
            counts["rest"] += len(elements)
        else:
            kind = "legacy" if path.name.startswith("legacy") else "current"
            records = [json.loads(line) for line in content.splitlines()]
            assert all(
                ("T" in (item.get("timestamp") or item["end_timestamp"])) == (kind == "current") for item in records
            )
            counts[kind] += len(records)
    assert len(USAGE_HEADER) == 34
    written = [truth["feeds"][feed]["renderings"] for feed in ("events", "usage")]
    assert counts == {name: sum(item[name] for item in written) for name in counts}
    assert min(counts.values()) > 0


def test_late_records_of_the_first_day_lie_in_the_second_days_files(tmp_path: Path) -> None:
    simulate(SMALL, tmp_path)
    second = [
        json.loads(line)["end_timestamp"]
        for path in sorted((tmp_path / "usage/2026-10-02").glob("current-*.ndjson"))
        for line in path.read_bytes().splitlines()
        if line.endswith(b'"}') and b'"end_timestamp":"2026-10-01T' in line
    ]
    assert second


def test_deleted_sessions_carry_the_sum_of_their_usage() -> None:
    options = SimulationOptions(devices=40)
    fleet = build_fleet(options.seed, options.devices, 0, options.devices)
    plan = plan_day(options, fleet, 0, 0)
    ended = plan.events.take(np.array([VARIANTS[kind].type_id == 5 for kind in plan.events.variant]))
    data = plan.usage.take(~plan.usage.sms)
    assert len(ended) > 100
    for session, rx, tx, time in zip(ended.session, ended.rx, ended.tx, ended.time, strict=True):
        mine = data.session == session
        assert (data.rx[mine].sum(), data.tx[mine].sum()) == (rx, tx)
        assert data.time[mine].max() == time
    assert len(np.unique(data.id)) == len(data)
    assert (data.start < data.time).all()


def test_every_fault_class_occurs(tmp_path: Path) -> None:
    truth = simulate(SimulationOptions(devices=60, malformed=0.02), tmp_path).truth
    for feed in ("events", "usage"):
        assert truth["feeds"][feed]["dead_lettered"] >= FAULT_CLASSES
        assert set(truth["feeds"][feed]["dead_letters"]) == {
            "truncated", "not_json", "wrong_type", "missing_field", "time_range", "number_range", "invalid_utf8",
            "nul_bytes", "too_deep",
        }  # fmt: skip


def test_dirt_of_rate_zero_leaves_clean_lines(tmp_path: Path) -> None:
    clean = SimulationOptions(
        devices=20, duplicates=0, malformed=0, late=0, odd=0, empty=0, unpriced=0, gzipped=0, renderings={"current": 1}
    )
    summary = simulate(clean, tmp_path)
    assert summary.records == summary.lines == len(_records(tmp_path, "events")) + len(_records(tmp_path, "usage"))
    assert not any(row["unpriced_records"] for row in summary.truth["usage"]["totals"])


def test_secrets_are_marked(tmp_path: Path) -> None:
    simulate(SMALL, tmp_path)
    planted = {
        record["event_type"]["id"]  # type: ignore[index]
        for record in _records(tmp_path, "events")
        if isinstance(record.get("event_type"), dict) and SECRET_MARK in json.dumps(record)
    }
    assert planted <= {17, 36, 37, 40} and len(planted) >= 3
    assert sum(item.detail == "activation" for item in RARE) == 4


def test_records_per_device_day_predicts_the_size(tmp_path: Path) -> None:
    summary = simulate(SimulationOptions(devices=400), tmp_path)
    assert summary.records == pytest.approx(400 * records_per_device_day(), rel=0.1)


def test_a_large_fleet_has_a_digest_in_place_of_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = simulate(SMALL, tmp_path / "listed").truth["devices"]
    monkeypatch.setattr("simulator.truth.DEVICES_LISTED", 10)
    large = simulate(SMALL, tmp_path / "large").truth["devices"]
    assert "by_endpoint" not in large and len(listed["by_endpoint"]) == large["active"]
    assert large["digest"] == listed["digest"]


def test_progress_and_replacing_an_earlier_simulation(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    simulate(SMALL, tmp_path, lambda done, expected: seen.append((done, expected)))
    summary = simulate(replace(SMALL, days=1), tmp_path)
    assert len(seen) == 2 and seen[0][0] < seen[1][0]
    assert not (tmp_path / "events/2026-10-02").exists()
    assert json.loads((tmp_path / "truth.json").read_text("utf-8")) == summary.truth


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "usage").mkdir()
    with pytest.raises(FileExistsError, match="choose another directory"):
        simulate(SMALL, tmp_path)


def test_all_mistakes_in_options_are_named() -> None:
    with pytest.raises(ValueError, match="late is 2.*devices is 0.*renderings has avro.*start is 'today'"):
        SimulationOptions(devices=0, late=2, renderings={"avro": 1}, start="today")


def test_networks_have_codes_of_the_right_form() -> None:
    assert len({operator.id for operator in OPERATORS}) == len(OPERATORS) >= 10
    for operator in OPERATORS:
        assert len(operator.country.mcc) == 3 and all(len(mnc) in (2, 3) for mnc in operator.mncs)
        assert (operator.country.iso is None) == (operator.country.mcc == "901")


def test_check_digit_of_a_published_imei() -> None:
    assert check_digit("49015420323751") == "8"
