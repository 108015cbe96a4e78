from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from transforms.dead_letters import DeadLetter
from transforms.read import expand_inputs, plan_blocks, read_plan


@dataclass
class Read:
    """All that was read of one file."""

    items: list[tuple[bytes, int]]
    faults: list[DeadLetter]
    empty: int
    blocks: int

    @property
    def texts(self) -> list[bytes]:
        return [item for item, _ in self.items]

    @property
    def reasons(self) -> list[str]:
        return [fault.reason for fault in self.faults]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Read]:
    """Reads bytes as a file, in blocks of a size."""

    def read_bytes(data: bytes, block_bytes: int = 16 << 20, name: str = "feed", dead_dir: str | None = None) -> Read:
        path = tmp_path / name
        path.write_bytes(data)
        result = Read([], [], 0, 0)
        for plan in plan_blocks(expand_inputs(str(path), None), block_bytes):
            for block in read_plan(plan, block_bytes, dead_dir):
                assert len(block.items) == len(block.offsets)
                result.items += zip(block.items, block.offsets.tolist(), strict=True)
                result.faults += block.faults
                result.empty += block.empty
                result.blocks += 1
        return result

    return read_bytes
