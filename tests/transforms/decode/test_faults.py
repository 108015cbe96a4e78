"""Each kind of fault becomes a dead letter with its reason; nothing else does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from transforms.dead_letters import REASONS

DEEP = b"[" * 10_000 + b"]" * 10_000
EVENT_HEAD = b'{"id":77,"timestamp":"2026-10-27T15:17:23Z","event_type":{"id":1}'
USAGE_HEAD = b'{"id":77,"end_timestamp":"2026-10-27T15:17:23Z","traffic_type":{"id":5}'

CASES: list[tuple[str, int, bytes, str | None]] = [
    ("not_json", 0, b"this is not a record", None),
    ("not_json", 0, b"{'id': 5}", None),
    ("not_json", 0, b"{]}", None),
    ("not_json", 0, EVENT_HEAD + b"} trailing", None),
    ("not_json", 0, EVENT_HEAD + b',"a":\\x}', None),
    ("truncated", 0, b"{", None),
    ("truncated", 0, EVENT_HEAD, None),
    ("truncated", 0, EVENT_HEAD + b',"description":"cut he', None),
    ("truncated", 0, EVENT_HEAD + b',"alert":tr', None),
    ("truncated", 0, EVENT_HEAD + b',"description":"cut \\u00', None),
    ("truncated", 1, USAGE_HEAD + b',"cost":', None),
    ("truncated", 1, USAGE_HEAD + b',"cost":0.', None),
    ("truncated", 1, USAGE_HEAD + b',"cost":8.2e', None),
    ("truncated", 1, USAGE_HEAD + b',"cost":8E-', None),
    ("truncated", 1, USAGE_HEAD + b',"cost":-', None),
    ("not_json", 1, USAGE_HEAD + b',"cost":.', None),
    ("wrong_type", 0, b"42", "$"),
    ("wrong_type", 0, b'"a text"', "$"),
    ("wrong_type", 0, b"null", "$"),
    ("wrong_type", 0, b"[1, 2]", "$"),
    ("wrong_type", 0, EVENT_HEAD.replace(b"77", b'"abc"') + b"}", "$.id"),
    ("wrong_type", 0, EVENT_HEAD.replace(b"77", b"[5]") + b"}", "$.id"),
    ("wrong_type", 0, EVENT_HEAD.replace(b"77", b"1.5") + b"}", "$.id"),
    ("wrong_type", 0, EVENT_HEAD.replace(b'"2026-10-27T15:17:23Z"', b"[2026]") + b"}", "$.timestamp"),
    ("wrong_type", 0, EVENT_HEAD.replace(b"2026-10-27T15:17:23Z", b"yesterday") + b"}", "$.timestamp"),
    ("wrong_type", 0, EVENT_HEAD + b',"endpoint":{"id":"abc"}}', "$.endpoint.id"),
    ("wrong_type", 0, EVENT_HEAD + b',"alert":"maybe"}', "$.alert"),
    ("wrong_type", 0, EVENT_HEAD + b',"organisation":true}', "$.organisation"),
    ("wrong_type", 1, USAGE_HEAD + b',"cost":"abc"}', "$.cost"),
    ("missing_field", 0, b"{}", "$.event_type"),
    ("missing_field", 1, b"{}", "$.traffic_type"),
    ("missing_field", 0, b'{"timestamp":"2026-10-27T15:17:23Z","event_type":{"id":1}}', "$.id"),
    ("missing_field", 0, EVENT_HEAD.replace(b"77", b"null") + b"}", "$.id"),
    ("missing_field", 0, b'{"id":77,"event_type":{"id":1}}', "$.timestamp"),
    ("missing_field", 0, EVENT_HEAD.replace(b'{"id":1}', b'{"description":"x"}') + b"}", "$.event_type.id"),
    ("missing_field", 0, EVENT_HEAD.replace(b'{"id":1}', b"null") + b"}", "$.event_type"),
    ("missing_field", 1, b'{"id":77,"traffic_type":{"id":5}}', "$.end_timestamp"),
    ("time_range", 0, EVENT_HEAD.replace(b"2026", b"1999") + b"}", "$.timestamp"),
    ("time_range", 0, EVENT_HEAD.replace(b"2026", b"2100") + b"}", "$.timestamp"),
    ("time_range", 0, EVENT_HEAD.replace(b"2026-10-27", b"2026-02-30") + b"}", "$.timestamp"),
    ("time_range", 1, USAGE_HEAD.replace(b"2026", b"1970") + b"}", "$.end_timestamp"),
    ("time_range", 1, USAGE_HEAD.replace(b"2026", b"1970").replace(b"end_", b"start_") + b"}", "$.start_timestamp"),
    ("number_range", 0, EVENT_HEAD.replace(b"77", b"9223372036854775808") + b"}", "$.id"),
    ("number_range", 0, EVENT_HEAD.replace(b"77", b"-9223372036854775809") + b"}", "$.id"),
    ("number_range", 0, EVENT_HEAD.replace(b"77", b"1" + b"0" * 30) + b"}", "$.id"),
    ("number_range", 0, EVENT_HEAD.replace(b"77", b"1" * 5_000) + b"}", "$.id"),
    ("number_range", 0, EVENT_HEAD.replace(b"77", b"NaN") + b"}", None),
    ("number_range", 0, EVENT_HEAD + b',"detail":{"a":-Infinity}}', None),
    ("number_range", 1, USAGE_HEAD + b',"cost":1e999}', "$.cost"),
    ("number_range", 1, USAGE_HEAD + b',"cost":"1e999999999999999999999"}', "$.cost"),
    ("number_range", 1, USAGE_HEAD + b',"cost":1e28}', "$.cost"),
    ("number_range", 1, USAGE_HEAD + b',"volume":{"rx":-1e40}}', "$.volume.rx"),
    ("invalid_utf8", 0, EVENT_HEAD + b',"description":"\xff"}', None),
    ("invalid_utf8", 0, EVENT_HEAD + b',"detail":{"name":"\xff"}}', "$.detail"),
    ("invalid_utf8", 0, EVENT_HEAD + b',"unknown":"\xff"}', None),
    ("invalid_utf8", 0, b"\xff\xfe{\x22", None),
    ("invalid_utf8", 0, EVENT_HEAD + b',"description":"half a pair \\ud800 is no text"}', None),
    ("nul_bytes", 0, EVENT_HEAD + b',"description":"a\0b"}', None),
    ("nul_bytes", 0, EVENT_HEAD + b',"detail":{"name":"a\0b"}}', None),
    ("nul_bytes", 0, b"\0" * 100, None),
    ("too_deep", 0, DEEP, None),
    ("too_deep", 0, b"[" * 10_000, None),
    ("too_deep", 0, EVENT_HEAD + b',"detail":' + DEEP + b"}", None),
    ("too_deep", 0, EVENT_HEAD + b',"unknown":' + DEEP + b"}", None),
    ("too_deep", 1, USAGE_HEAD + b',"volume":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, None),
    ("wrong_kind", 0, EVENT_HEAD + b',"traffic_type":{"id":5}}', "$.event_type"),
]


@pytest.mark.parametrize(("reason", "feed", "line", "path"), CASES)
def test_fault(reason, feed, line, path, letter):
    found = letter(feed, line)
    assert (found.reason, found.json_path) == (reason, path), found.message
    assert reason in REASONS
    assert found.kind == "malformed"
    assert found.feed == feed


@pytest.mark.parametrize("line", [EVENT_HEAD + b',"alert":tr', EVENT_HEAD + b',"alert":"maybe"}', EVENT_HEAD + b"\0"])
def test_the_id_is_read_where_it_can_be(line, letter):
    assert letter(0, line).record_id == 77


def test_a_line_cut_anywhere_is_truncated(event, usage, letter):
    for kind, record in enumerate(({**event, "description": '\\ \u00fc"\t'}, {**usage, "cost": 1.5e-09})):
        line = json.dumps(record).encode()
        assert {letter(kind, line[:end]).reason for end in range(1, len(line))} == {"truncated"}


def test_messages_hold_no_values(letter):
    line = EVENT_HEAD + b',"user":{"id":"jane@example.com"}}'
    found = letter(0, line)
    assert "jane" not in found.message
    assert found.message == "expected a number, found another text"


def test_one_bad_line_is_one_dead_letter(event, block):
    good = json.dumps(event).encode()
    lines = [good, b"{", good, b"", good, b"[1]", b"  \t", good]
    decoded = block(0, lines)
    assert decoded.batches[0].num_rows == 4
    assert decoded.batches[0]["byte_offset"].to_pylist() == [
        sum(len(line) + 1 for line in lines[:place]) for place in (0, 2, 4, 7)
    ]
    assert [(fault.reason, fault.byte_offset) for fault in decoded.faults] == [
        ("truncated", len(good) + 1),
        ("wrong_type", sum(len(line) + 1 for line in lines[:5])),
    ]
    assert decoded.empty == 2
    assert decoded.received == {0: 8, 1: 0}


def test_faults_found_in_columns_keep_the_others(event, block):
    lines = [json.dumps({**event, "id": number}).encode() for number in range(2_500)]
    lines[1_200] = lines[1_200].replace(b"2026-10-27T15", b"1999-10-27T15")
    lines[2_400] = lines[2_400].replace(b'"id": 2400', b'"id": 9223372036854775808')
    decoded = block(0, lines)
    assert decoded.batches[0]["event_id"].to_pylist() == [
        number for number in range(2_500) if number not in (1_200, 2_400)
    ]
    assert [fault.reason for fault in decoded.faults] == ["time_range", "number_range"]
    assert decoded.faults[0].record_id == 1_200


def test_records_in_the_other_feed_are_accepted(event, usage, block):
    lines: list[Any] = [event, usage, {**event, "foo": 1}, {**usage, "foo": 1}]
    for feed in (0, 1):
        decoded = block(feed, [json.dumps(line).encode() for line in lines])
        assert [batch.num_rows for batch in decoded.batches] == [2, 2]
        assert decoded.received == {0: 2, 1: 2}
        assert decoded.faults == []


def test_a_duplicate_key_and_white_space_are_no_fault(row):
    assert row(0, b' {"id":1 ,\t"id":77' + EVENT_HEAD[8:] + b"} \r")["event_id"] == 77
