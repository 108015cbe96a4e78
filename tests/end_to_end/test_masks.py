"""A run with masks: what files, the spool, a receiver and dead letters hold, beside a stream without a mask."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.end_to_end.jobs import run, samples, write_lines, write_streams
from tests.servers.http import Answer, Request, receiver
from warehouse.layout import part_files

IDENTIFYING = (
    b"123456789123456", b"123456789012345", b"8988303000123456789", b"1234567890123456", b"10.10.10.10",
    b"10.100.10.10", b"100.10.100.20", b"user@example.com", b"admin@example.com", b"Demo Endpoint", b"My Endpoint",
)  # fmt: skip
"""Values of the published events, in columns, details and descriptions."""

MASK: list[dict[str, Any]] = [
    {"fields": ["subscriber_identifiers"], "action": "pseudonymise", "key": {"env": "MASK_KEY"}},
    {"fields": ["network_addresses"], "action": "truncate"},
    {"fields": ["people", "device_names"], "action": "drop"},
]
REFUSED = b"7000000003"


def refuse(number: int, request: Request) -> Answer:
    """Takes all records but one."""
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    return Answer(status=422, body=b"cannot be used") if REFUSED in body else Answer()


def bytes_below(directory: Path) -> bytes:
    """The bytes of all files, those of compressed ones as they are read."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    assert files, f"nothing lies in {directory}"
    return b"".join(map(_content, files))


def _content(path: Path) -> bytes:
    if path.suffix == ".arrow":
        return repr(pa.ipc.open_file(path.read_bytes()).read_all().to_pylist()).encode()
    if path.suffix == ".parquet":
        return repr(pq.read_table(path, partitioning=None).to_pylist()).encode()
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def test_nothing_that_leaves_holds_what_is_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASK_KEY", "0123456789abcdef0123456789abcdef")
    events = write_lines(tmp_path / "in" / "events.ndjson", list(samples("events").values()))
    with receiver(refuse) as server:
        pushed = {"type": "webhook", "url": server.address}
        streams = write_streams(
            tmp_path / "streams.yaml",
            {"name": "open", "content": "events"},
            {"name": "lines", "content": "events", "shape": "emnify", "mask": MASK},
            {"name": "same", "content": "events", "shape": "emnify", "mask": MASK},
            {"name": "columns", "content": "events", "format": "parquet", "mask": MASK},
            {"name": "warehouse", "content": "events", "destination": {"type": "warehouse"}, "mask": MASK},
            {"name": "paused", "content": "events", "state": "paused", "mask": MASK},
            {"name": "pushed", "content": "events", "shape": "emnify", "destination": pushed, "mask": MASK},
            {"name": "hourly", "content": "device_events_hourly", "format": "csv", "mask": [MASK[0], MASK[2]]},
        )
        out = tmp_path / "out"
        run(out, events=events, streams=streams)
        received = b"".join(gzip.decompress(r.body) if r.body[:2] == b"\x1f\x8b" else r.body for r in server.requests)
    letters = [row for path in part_files(out, "dead_letters") for row in pq.read_table(path).to_pylist()]
    refused = [row for row in letters if row["stream"] == "pushed"]
    assert [row["record_id"] for row in refused] == [int(REFUSED)]
    sent = {
        **{name: bytes_below(out / "streams" / name) for name in ("lines", "same", "columns", "hourly")},
        "warehouse": bytes_below(out / "warehouse" / "streams_warehouse"),
        "paused": bytes_below(out / "pending" / "paused"),
        "pushed": received,
        "dead letter": repr(refused).encode(),
    }
    for name, held in sent.items():
        assert [value for value in IDENTIFYING if value in held] == [], name
    shown = bytes_below(out / "streams" / "open")
    assert [value for value in IDENTIFYING if value not in shown] == [], "a stream without a mask has them"
    assert sent["lines"] == sent["same"]
    assert len(sent["lines"].splitlines()) == len(shown.splitlines()) == len(samples("events"))
