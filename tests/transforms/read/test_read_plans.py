"""Reading whole files: every framing, at any block size, gives the same records."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transforms.read import expand_inputs, plan_blocks, read_plan
from transforms.read.raw import BLOCK_BYTES, BYTE_ORDER_MARK, RawBlock

LENIENT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path, block_bytes: int = BLOCK_BYTES, dead_dir: Path | None = None) -> list[RawBlock]:
    plans = plan_blocks(expand_inputs(str(path), None), block_bytes)
    return [block for plan in plans for block in read_plan(plan, block_bytes, dead_dir and str(dead_dir))]


def items(blocks: list[RawBlock]) -> list[tuple[bytes, int]]:
    return [
        pair for block in blocks for pair in zip(block.items, block.offsets.tolist(), strict=True)
    ]


def record(number: int, **more: object) -> dict[str, object]:
    return {"id": number, "timestamp": "2021-10-27T15:17:23Z", "description": 'a "quoted" {text]\\', **more}


RECORDS = [record(n, detail={"mnc": [{"id": 1}, {"id": 2}]}) for n in range(40)]


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(map(json.dumps, RECORDS)),
        "\r\n".join(map(json.dumps, RECORDS)) + "\r\n",
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=4),
        json.dumps(RECORDS, separators=(",", ":")) + "\n",
        "[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n",
        "\n".join(json.dumps(r, indent=2) for r in RECORDS),
        "".join(map(json.dumps, RECORDS)),
        "\n".join(json.dumps(RECORDS[n : n + 8]) for n in range(0, 40, 8)),
        "\n".join(json.dumps(RECORDS[n : n + 8], indent=1) for n in range(0, 40, 8)),
        "".join(json.dumps(RECORDS[n : n + 8]) for n in range(0, 40, 8)),
    ],
    ids=["lines", "crlf", "array", "pretty", "compact", "array-lines", "pretty-objects", "joined", "batches", "pretty-batches", "joined-batches"],
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", [b"", BYTE_ORDER_MARK])
def test_every_framing_gives_every_record(tmp_path: Path, content: str, packed: bool, mark: bytes) -> None:
    data = mark + content.encode()
    path = tmp_path / "feed"
    path.write_bytes(gzip.compress(data) if packed else data)
    for block_bytes in (1000, BLOCK_BYTES):
        blocks = read(path, block_bytes)
        found = items(blocks)
        assert [json.loads(item) for item, _ in found] == RECORDS
        assert all(data[offset : offset + len(item)] == item for item, offset in found)
        assert not any(block.faults or block.empty for block in blocks)
