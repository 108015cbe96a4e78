from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from warehouse.device import Entry, judge, timeline
from warehouse.layout import WarehouseError


@pytest.mark.parametrize(
    ("key", "matched"),
    [
        ("1002", "endpoint id"),
        ("89883030001234567905", "ICCID"),
        ("8988303000123456790", "ICCID"),
        ("8988 3030 0012 3456 790", "ICCID"),
        ("356938035643809", "IMEI"),
        ("3569380356438017", "IMEI"),
        ("35-693803-564380-9", "IMEI"),
    ],
)
def test_a_device_is_found_by_each_of_its_numbers(output: Path, key: str, matched: str) -> None:
    found = timeline(output, key)
    assert found.matched == matched
    assert found.label == "tracker-2, endpoint 1002, ICCID 89883030001234567905, IMEI 356938035643809, of Acme"


def test_signalling_and_usage_share_one_time_axis(output: Path) -> None:
    found = timeline(output, "1001")
    times = [entry.time for entry in found.entries]
    assert times == sorted(times)
    assert [entry.kind for entry in found.entries[:4]] == ["signalling", "signalling", "usage", "usage"]
    assert found.entries[2].text == "1.500001 MB, 0.0100000001 EUR"
    assert found.entries[0].network == "Vodafone IT IT 4G"
    assert found.fault == "account"
    assert "quota_exhausted, 3 times since 2026-10-28 11:09:00, last 2026-10-28 11:11:00" in found.verdict
    newest = timeline(output, "1001", limit=2)
    assert newest.entries == found.entries[-2:]
    assert newest.verdict == found.verdict


def test_markup_in_texts_stays_text(hostile_output: Path) -> None:
    assert "<script>" in timeline(hostile_output, "1001").label


@pytest.mark.parametrize("key", ["12 or 1=1", "", "'; --", "１２", "1" * 21])
def test_a_key_that_is_no_number_is_refused(output: Path, key: str) -> None:
    with pytest.raises(WarehouseError, match="expected an endpoint id, an ICCID"):
        timeline(output, key)


@pytest.mark.parametrize(("key", "tried"), [("999", "endpoint id"), ("123456789012345", "endpoint id, IMEI")])
def test_an_unknown_device_says_what_was_tried(output: Path, key: str, tried: str) -> None:
    with pytest.raises(WarehouseError, match=f"has it as {tried};"):
        timeline(output, key)


def entries(*steps: dict[str, Any]) -> list[Entry]:
    start = datetime.datetime(2026, 10, 28, tzinfo=datetime.UTC)
    base: dict[str, Any] = {
        "kind": "signalling", "what": "x", "network": "", "outcome": None, "reason": None, "domain": None,
        "state": None, "severity": "INFO", "category": "data_connection", "text": "",
    }  # fmt: skip
    return [
        Entry(time=start + datetime.timedelta(minutes=index), **{**base, **step}) for index, step in enumerate(steps)
    ]


ATTACHED = {"outcome": "accepted", "state": "attached", "category": "network_attachment"}
ONLINE = {"outcome": "accepted", "state": "online"}
CLOSED = {"state": "attached"}
TRAFFIC = {"kind": "usage"}
NO_QUOTA = {"outcome": "rejected", "reason": "quota_exhausted", "domain": "account"}
NO_ROAMING = {
    "outcome": "rejected", "reason": "roaming_not_allowed", "domain": "connectivity", "category": "network_attachment",
}  # fmt: skip
UNKNOWN_SIM = {
    "outcome": "rejected", "reason": "unknown_subscriber", "domain": "platform", "category": "network_attachment",
}  # fmt: skip
PURGED = {
    "reason": "location_purged", "domain": "connectivity", "state": "offline", "category": "network_attachment",
}  # fmt: skip
CALLBACK = {"outcome": "failed", "reason": "callback_failed", "domain": "application", "category": "other"}
IMEI_LOCK = {"outcome": "rejected", "reason": "imei_lock_mismatch", "domain": "device"}
GONE = {"state": "offline"}


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ((), "unknown"),
        (({},), "unknown"),
        ((ATTACHED, ONLINE, TRAFFIC), "well"),
        ((ATTACHED, ONLINE, TRAFFIC, CLOSED), "well"),
        ((NO_ROAMING, NO_ROAMING, ATTACHED), "well"),
        ((ATTACHED, NO_ROAMING, NO_ROAMING), "connectivity"),
        ((ATTACHED, ONLINE, NO_QUOTA), "account"),
        # Attaching again does not bring the quota back; traffic would.
        ((ATTACHED, ONLINE, NO_QUOTA, ATTACHED), "account"),
        ((ATTACHED, NO_QUOTA, ATTACHED, ONLINE), "well"),
        ((ATTACHED, NO_QUOTA, TRAFFIC), "well"),
        ((ATTACHED, NO_QUOTA, PURGED), "account"),
        ((ATTACHED, ONLINE, PURGED), "connectivity"),
        ((ATTACHED, UNKNOWN_SIM), "us"),
        ((ATTACHED, ONLINE, CALLBACK), "application"),
        ((ATTACHED, IMEI_LOCK), "device"),
        ((ATTACHED, GONE), "device"),
    ],
)
def test_the_verdict_weighs_signs_of_life_against_troubles(steps: tuple[dict[str, Any], ...], fault: str) -> None:
    found, verdict = judge(entries(*steps))
    assert found == fault, verdict
    assert verdict.startswith(fault) or not steps
