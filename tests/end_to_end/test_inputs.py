"""Files of every form and fault through the whole job: one fault is one dead letter, all else is intact."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from simulator.renderings import USAGE_HEADER
from tests.end_to_end import jobs, runs
from warehouse.audit import audit

_ids = count(10**12)
_EVENT = jobs.samples("events")["emnify-openapi-03-create-pdp-context"]
_USAGE = jobs.samples("usage")["emnify-docs-05-data"]


def event(**changes: Any) -> dict[str, Any]:
    """A valid event with an id of its own."""
    return {**copy.deepcopy(_EVENT), "id": next(_ids), "timestamp": "2026-10-05T10:00:00Z", **changes}


def usage(**changes: Any) -> dict[str, Any]:
    """A valid usage record with an id of its own."""
    times = {"start_timestamp": "2026-10-05T10:00:00Z", "end_timestamp": "2026-10-05T10:30:00Z"}
    return {**copy.deepcopy(_USAGE), "id": next(_ids), **times, **changes}


def line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()


def without(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}


@dataclass(frozen=True)
class Case:
    """A file, and what becomes of it.

    Attributes:
      feed: the feed that it is given as.
      content: its bytes.
      events, usage: records in it that are kept.
      fault: the payload of its dead letter, or None where there is none.
      reason: why.
      empty: empty lines.
      suffix: of its name.
    """

    feed: str
    content: bytes
    events: int = 0
    usage: int = 0
    fault: bytes | None = None
    reason: str = ""
    empty: int = 0
    suffix: str = "ndjson"


def faulty_event(fault: bytes, reason: str) -> Case:
    """One faulty line between valid ones."""
    return Case("events", b"\n".join([line(event()), fault, line(event()), line(event())]), 3, 0, fault, reason)


def faulty_usage(fault: bytes, reason: str) -> Case:
    return Case("usage", b"\n".join([line(usage()), line(usage()), fault]) + b"\n", 0, 2, fault, reason)


def deep(record: dict[str, Any], depth: int) -> bytes:
    return line(record)[:-1] + b',"nested":' + b"[" * depth + b"]" * depth + b"}"


def long(record: dict[str, Any], size: int) -> bytes:
    start = line(record)[:-1] + b',"padding":"'
    return start + b"x" * (size - len(start) - 2) + b'"}'


def pretty(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=4).encode()


def csv_row(*, tags: str = "a, b", **changes: str) -> bytes:
    values = {
        **dict.fromkeys(USAGE_HEADER, ""), "id": str(next(_ids)), "event_start_timestamp": "2026-10-05 10:00:00",
        "event_stop_timestamp": "2026-10-05 10:30:00", "organisation_id": "1", "endpoint_id": "7", "volume": "1.500000",
        "traffic_type_id": "5", "volume_rx": "1.000000", "volume_tx": "0.500000", "cost": "0.0150000000",
        "currency_id": "1", "currency_code": "EUR", "endpoint_name": 'the "red"\none', "endpoint_tags": tags, **changes,
    }  # fmt: skip
    return b",".join(b'"%s"' % v.replace('"', '""').encode() if v else b"" for v in values.values())


USAGE_CSV = b",".join(b'"%s"' % name.encode() for name in USAGE_HEADER)
EVENT_CSV = (
    b'"id","timestamp","organisation_id","organisation_name","event_type_id","event_type_description",'
    b'"event_severity_id","event_source_id","event_source_name","endpoint_id","endpoint_name"'
)


def event_row(number: object) -> bytes:
    return b'"%s","2026-10-05 10:00:00","1","Org","3","Create PDP Context","0","0","Network","7","Meter"' % (
        str(number).encode()
    )


def bad_in_array() -> Case:
    fault = line(without(event(), "timestamp"))
    return Case(
        "events", b"[" + b",\n".join([line(event()), fault, line(event())]) + b"]", 2, 0, fault, "missing_field"
    )


def bad_in_pretty_array() -> Case:
    fault = json.dumps(usage(id="none"), indent=4).encode()
    content = b"[\n" + b",\n".join([pretty(usage()), fault, pretty(usage())]) + b"\n]\n"
    return Case("usage", content, 0, 2, fault, "wrong_type", suffix="json")


def bad_in_usage_csv() -> Case:
    fault = csv_row(id="none")
    content = b"\n".join([USAGE_CSV, csv_row(), fault, csv_row()])
    return Case("usage", content, 0, 2, fault, "wrong_type", suffix="csv")


def cut_gzip() -> Case:
    """What is readable counts: a member of complete records, and then one that is cut."""
    whole = gzip.compress(b"".join(line(event()) + b"\n" for _ in range(5)))
    cut = gzip.compress(b"".join(line(event(description=f"{number:x}" * 40)) + b"\n" for number in range(500)))
    return Case("events", whole + cut[:20], 5, 0, b"", "gzip_cut", suffix="ndjson.gz")


def broken_first_line() -> Case:
    """20 MB of lines, the first of which ends too early: they stay lines."""
    fault = line(event())[:100]
    lines = [line(event()) for _ in range(12_000)]
    return Case("events", b"\n".join([fault, *lines]), len(lines), 0, fault, "truncated")


CASES: dict[str, Callable[[], Case]] = {
    "not JSON": lambda: faulty_event(b"this is no record", "not_json"),
    "truncated": lambda: faulty_event(line(event())[:300], "truncated"),
    "truncated at the end of the file": lambda: faulty_usage(line(usage())[:-1], "truncated"),
    "wrong type": lambda: faulty_event(line(event(id={"value": 5})), "wrong_type"),
    "a number for a record": lambda: faulty_usage(b"42", "wrong_type"),
    "no id": lambda: faulty_event(line(without(event(), "id")), "missing_field"),
    "null for an id": lambda: faulty_usage(line(usage(id=None)), "missing_field"),
    "no time": lambda: faulty_event(line(without(event(), "timestamp")), "missing_field"),
    "neither start nor end": lambda: faulty_usage(
        line(without(usage(), "start_timestamp", "end_timestamp")), "missing_field"
    ),
    "1999": lambda: faulty_event(line(event(timestamp="1999-12-31T23:59:59Z")), "time_range"),
    "2100": lambda: faulty_usage(line(usage(end_timestamp="2100-01-01T00:00:00Z")), "time_range"),
    "an id above 64 bits": lambda: faulty_event(line(event(id=2**63)), "number_range"),
    "a cost above 38 digits": lambda: faulty_usage(line(usage(cost=10**29)), "number_range"),
    "NaN": lambda: faulty_usage(line(usage(cost=float("nan"))), "number_range"),
    "Infinity": lambda: faulty_usage(line(usage(cost=float("-inf"))), "number_range"),
    "invalid UTF-8": lambda: faulty_event(line(event(description="@")).replace(b"@", b"\xff\xfe"), "invalid_utf8"),
    "invalid UTF-8 in detail": lambda: faulty_event(
        line(event(detail={"name": "@"})).replace(b"@", b"\xc3("), "invalid_utf8"
    ),
    "NUL bytes": lambda: faulty_event(b"\0" * 64, "nul_bytes"),
    "a NUL byte in a text": lambda: faulty_event(line(event(description="@")).replace(b"@", b"\0"), "nul_bytes"),
    "nested 10,000 deep": lambda: faulty_event(deep(event(), 10_000), "too_deep"),
    "nothing but brackets": lambda: faulty_event(b'{"a":' + b"[" * 10_000, "too_deep"),
    "a line of 17 MB": lambda: faulty_usage(long(usage(), 17_000_000), "too_large"),
    "a line of 50 MB": lambda: faulty_event(long(event(), 50_000_000), "too_large"),
    "a line of 2 MB": lambda: Case("events", long(event(), 2_000_000), 1),
    "a faulty line of 2 MB": lambda: faulty_event(long(event(id=None), 2_000_000), "missing_field"),
    "empty file": lambda: Case("events", b""),
    "only empty lines": lambda: Case("events", b"\n\n \n", empty=3),
    "empty lines": lambda: Case("usage", b"\n".join([line(usage()), b"", b"  ", line(usage()), b""]), 0, 2, empty=2),
    "Windows line ends": lambda: Case("usage", b"\r\n".join([line(usage()), line(usage()), b""]), 0, 2),
    "usage among events": lambda: Case("events", b"\n".join([line(event()), line(usage()), line(event())]), 2, 1),
    "only events in the usage feed": lambda: Case("usage", b"\n".join([line(event()), line(event())]), 2, 0),
    "neither kind": lambda: faulty_event(b'{"id": 77, "hello": "world"}', "missing_field"),
    "array": lambda: Case("events", b"[" + b",".join([line(event()), line(event())]) + b"]", 2),
    "array with a faulty element": bad_in_array,
    "pretty-printed array with a faulty element": bad_in_pretty_array,
    "empty array": lambda: Case("usage", b"[]"),
    "one object": lambda: Case("events", line(event()), 1, suffix="json"),
    "one pretty-printed object": lambda: Case("usage", pretty(usage()), 0, 1, suffix="json"),
    "pretty-printed objects on end": lambda: Case("events", b"\n".join(pretty(event()) for _ in range(3)), 3),
    "arrays, one a line": lambda: Case(
        "events", b"\n".join(b"[" + line(event()) + b"," + line(event()) + b"]" for _ in range(3)), 6
    ),
    "gzip": lambda: Case("events", gzip.compress(line(event()) + b"\n" + line(event())), 2, suffix="ndjson.gz"),
    "gzip without saying so": lambda: Case("usage", gzip.compress(line(usage())), 0, 1, suffix="json"),
    "gzip cut short": cut_gzip,
    "usage CSV": lambda: Case("usage", b"\n".join([USAGE_CSV, csv_row(), csv_row(), b""]), 0, 2, suffix="csv"),
    "usage CSV with a faulty row": bad_in_usage_csv,
    "event CSV": lambda: Case(
        "events", b"\r\n".join([EVENT_CSV, event_row(next(_ids)), event_row(next(_ids))]), 2, suffix="csv"
    ),
    "event CSV with a faulty row": lambda: Case(
        "events", b"\n".join([EVENT_CSV, event_row(next(_ids)), event_row("x")]), 1, 0, event_row("x"), "wrong_type",
        suffix="csv",
    ),
    "byte order mark": lambda: Case("events", b"\xef\xbb\xbf" + line(event()) + b"\n" + line(event()), 2),
    "byte order mark before CSV": lambda: Case(
        "usage", b"\xef\xbb\xbf" + USAGE_CSV + b"\n" + csv_row(), 0, 1, suffix="csv"
    ),
    "a broken first line of many": broken_first_line,
}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[str, Case]]]:
    """The output of one run over the files of all cases; each case with its file's path."""
    directory = tmp_path_factory.mktemp("inputs")
    cases = {}
    for number, (name, make) in enumerate(CASES.items()):
        case = make()
        path = directory / case.feed / f"{number:02d}.{case.suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(case.content)
        cases[name] = (str(path), case)
    jobs.run(directory / "output", events=f"{directory}/events/*", usage=f"{directory}/usage/*")
    return directory / "output", cases


@pytest.mark.parametrize("name", CASES)
def test_case(done: tuple[Path, dict[str, tuple[str, Case]]], name: str) -> None:
    output, cases = done
    path, case = cases[name]
    for table in runs.RECORD_TABLES:
        wanted = getattr(case, table)
        assert runs.ask(output, f"SELECT count(*) FROM {table} WHERE source_file = '{path}'") == [(wanted,)], table
    letters = runs.ask(
        output,
        "SELECT kind, reason, feed, payload, payload_sha256, payload_size, byte_offset FROM dead_letters "
        f"WHERE source_file = '{path}'",
    )
    if case.fault is None:
        assert letters == []
        return
    ((kind, reason, feed, payload, sha256, size, offset),) = letters
    assert (kind, reason, feed) == ("malformed", case.reason, case.feed)
    if case.reason == "gzip_cut":
        return
    if payload is None:
        payload = (output / "warehouse" / "dead" / sha256).read_bytes()
    assert len(payload) == size == len(case.fault)
    assert payload == case.fault
    assert case.content[offset : offset + size] == case.fault


def test_all_is_accounted_for(done: tuple[Path, dict[str, tuple[str, Case]]]) -> None:
    output, cases = done
    assert audit(output).ok
    listed = dict(runs.ask(output, "SELECT file, dead_letters FROM inputs"))
    assert listed == {path: int(case.fault is not None) for path, case in cases.values()}
    empty = sum(case.empty for _, case in cases.values())
    assert runs.ask(output, "SELECT sum(empty) FROM ledger WHERE stage = 'feed'") == [(empty,)]


def test_text_in_csv_is_exact(done: tuple[Path, dict[str, tuple[str, Case]]]) -> None:
    output, cases = done
    path, _ = cases["usage CSV"]
    found = runs.ask(
        output, f"SELECT DISTINCT endpoint_name, tags, cost::VARCHAR FROM usage WHERE source_file = '{path}'"
    )
    assert found == [('the "red"\none', "a, b", "0.0150000000")]


def test_a_feed_with_nothing_in_it(tmp_path: Path) -> None:
    (tmp_path / "empty.ndjson").touch()
    jobs.run(tmp_path / "output", events=tmp_path / "empty.ndjson", report=True)
    assert audit(tmp_path / "output").ok
    assert runs.rows(tmp_path / "output", "events") == []
    assert (tmp_path / "output" / "report.html").is_file()
