"""Odd records come back from shape ``emnify`` with the JSON values that were received: nothing is lost on the way."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.transforms.decode.test_lossless import load, plain, replaced
from transforms.classify import event_rows, usage_rows
from transforms.dead_letters import DeadLetter
from transforms.decode import decode_one
from transforms.deliver.shapes import json_lines

LOGIN = "Failed authentication request from 'jane@example.com', Reason: Invalid password from IP 10.0.0.1"

EVENTS: list[dict[str, Any]] = [
    {"event_severity": {"id": 17, "description": "Strange"}},
    {"event_severity": {"id": 2, "description": None}},
    {"event_severity": {"description": "WARN"}},
    {"event_severity": {"id": 1, "description": ""}},
    {"event_severity": None},
    {"event_severity": {}},
    {"event_source": {"id": 9, "description": "Martian"}},
    {"event_source": {"id": 1}},
    {"event_source": {"description": "api"}},
    {"event_source": None},
    {"event_type": {"id": 4711, "description": "New"}},
    {"event_type": {"id": 0, "description": ""}},
    {"alert": None},
    {"alert": 1},
    {"description": ""},
    {"description": None},
    {"organisation": {"id": 0, "name": ""}},
    {"endpoint": {"id": 0, "name": "", "ip_address": "", "tags": "", "imei": ""}},
    {"sim": {"id": 0, "iccid": "", "msisdn": "", "production_date": None}},
    {"imsi": {"id": 0, "imsi": "", "import_date": ""}},
    {"detail": ""},
    {"detail": {}},
    {"detail": []},
    {"user": {"id": 0, "username": "", "name": ""}},
    *(
        {"event_type": {"id": kind, "description": "Login"}, "description": text, "user": user}
        for kind in (6, 7)
        for text in (LOGIN, "Login failed", None)
        for user in (
            None,
            {},
            {"username": "jane@example.com"},
            {"username": "jane"},
            {"username": ""},
            {"id": 5},
            {"id": 5, "username": "bob", "name": "Bob"},
            {"name": "Jane", "username": None},
        )
    ),
]

USAGE: list[dict[str, Any]] = [
    *({"rat_type": number} for number in (-1, 0, 1, 6, 7, 10, 11, 77, 2**31 - 1)),
    {"rat_type": None},
    {"quota_id": 0},
    {"currency": {"id": 1}},
    {"currency": {"id": 2, "code": None, "symbol": "$"}},
    {"currency": {"id": 0, "code": ""}},
    {"currency": {"id": 77, "code": "XXX", "symbol": ""}},
    {"currency": {"code": "EUR"}},
    {"currency": {"id": 1, "code": "USD"}},
    {"currency": {}},
    {"currency": None},
    {"traffic_type": {"id": 0}},
    {"traffic_type": {"id": 5}},
    {"traffic_type": {"id": 6, "description": "sms"}},
    {"traffic_type": {"id": 7, "description": "Data"}},
    {"volume": {"total": 0, "rx": 0.0, "tx": -0.5}},
    {"volume": {"total": 10}},
    {"cost": 0},
    {"cost": 0.12345678901},
    {"imsi": "", "imsi_id": 0, "session_id": ""},
    {"operator": {"id": 0, "name": "", "mnc": "", "country": {"id": 0, "mcc": "", "name": ""}}},
    {"operator": {"country": {}}},
    {"tariff": {"id": 0, "name": None, "ratezone": {"id": 0}}},
    {"endpoint": {"id": 0, "imei": "1"}, "sim": {"id": 0}},
    {"end_timestamp": None},
]


def comes_back(kind: int, record: dict[str, Any]) -> None:
    """The record, decoded, classified and shaped, is what it was."""
    line = json.dumps(record).encode()
    found = decode_one(kind, line)
    assert not isinstance(found, DeadLetter), found
    rows = (event_rows, usage_rows)[kind](found[1], "w", 0)
    (shaped,) = json_lines("emnify", "usage" if kind else "events", rows)
    assert plain(load(shaped)) == plain(json.loads(line, parse_float=Decimal)), shaped


@pytest.mark.parametrize("change", EVENTS, ids=str)
def test_odd_events_come_back(change, event):
    for path, value in change.items():
        event = replaced(event, path, value)
    comes_back(0, event)


@pytest.mark.parametrize("change", USAGE, ids=str)
def test_odd_usage_comes_back(change, usage):
    for path, value in change.items():
        usage = replaced(usage, path, value)
    comes_back(1, usage)
