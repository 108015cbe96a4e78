"""Reading whole files: every framing, plain or packed, at any block size, gives the same records."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from transforms.read import expand_inputs, plan_blocks
from transforms.read.raw import BLOCK_BYTES, BYTE_ORDER_MARK

RECORDS = [
    {
        "id": number,
        "timestamp": "2021-10-27T15:17:23Z",
        "description": 'a "quoted" {text]\\',
        "detail": {"mnc": [{"id": 1}, {"id": 2}]},
    }
    for number in range(40)
]
LINES = [json.dumps(record) for record in RECORDS]
BATCHES = [RECORDS[number : number + 8] for number in range(0, 40, 8)]
RENDERINGS = {
    "lines": "\n".join(LINES),
    "crlf": "\r\n".join(LINES) + "\r\n",
    "array": json.dumps(RECORDS),
    "pretty": json.dumps(RECORDS, indent=4),
    "compact": json.dumps(RECORDS, separators=(",", ":")) + "\n",
    "array of lines": "[\n" + ",\n".join(LINES) + "\n]\n",
    "array without indent": json.dumps(RECORDS, indent=0),
    "pretty objects": "\n".join(json.dumps(record, indent=2) for record in RECORDS),
    "objects on end": "".join(LINES),
    "batches": "\n".join(map(json.dumps, BATCHES)),
    "pretty batches": "\n".join(json.dumps(batch, indent=1) for batch in BATCHES),
    "batches on end": "".join(map(json.dumps, BATCHES)),
    "lines and batches": "\n".join([*LINES[:8], *map(json.dumps, BATCHES[1:])]),
}


@pytest.mark.parametrize("rendering", RENDERINGS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("mark", [b"", BYTE_ORDER_MARK], ids=["", "bom"])
def test_every_rendering_gives_every_record(read: Callable, rendering: str, packed: bool, mark: bytes) -> None:
    data = mark + RENDERINGS[rendering].encode()
    for block_bytes in (1000, BLOCK_BYTES):
        result = read(gzip.compress(data) if packed else data, block_bytes)
        assert [json.loads(text) for text in result.texts] == RECORDS
        assert all(data[offset : offset + len(text)] == text for text, offset in result.items)
        assert not result.faults and not result.empty


def test_plain_lines_are_split_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text(RENDERINGS["lines"])
    (tmp_path / "lines.gz").write_bytes(gzip.compress(RENDERINGS["lines"].encode()))
    (tmp_path / "array").write_text(RENDERINGS["array"])
    plans = plan_blocks(expand_inputs(f"{tmp_path}/*", None), 1000)
    size = len(RENDERINGS["lines"])
    ranges = [(plan.start, plan.end) for plan in plans if plan.path.endswith("lines")]
    assert ranges == [(start, min(start + 1000, size)) for start in range(0, size, 1000)]
    assert [(plan.start, plan.end) for plan in plans if not plan.path.endswith("lines")] == [(0, -1)] * 2
    assert [plan.number for plan in plans] == list(range(len(plans)))


@pytest.mark.parametrize("name", ["empty", "empty.gz"])
def test_an_empty_file_has_no_records(read: Callable, name: str) -> None:
    assert read(b"", name=name).blocks == 0


def test_a_file_of_white_space_counts_its_lines(read: Callable) -> None:
    result = read(b" \n\r\n\t\n")
    assert (result.items, result.empty) == ([], 3)
