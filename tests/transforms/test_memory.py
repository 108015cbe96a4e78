"""Memory is handed back where a step ends."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure import anonymous
from transforms.memory import give_back

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told to give memory back, or to keep less"
)


def test_freed_memory_between_objects_that_stay_goes_back_to_the_system() -> None:
    objects = [bytes(4_000) for _ in range(25_000)]
    kept = objects[::100]
    before = anonymous(os.getpid())
    del objects
    give_back()
    assert anonymous(os.getpid()) < before - 60e6
    assert len(kept) == 250


_FREED = """
import os, sys
from benchmarks.measure import anonymous
from transforms.memory import keep_little
if sys.argv[1] == "little":
    keep_little()
bytes(30 << 20)  # from now on glibc, by itself, takes pieces up to this size from its own stock
pieces = [bytearray(b"x") * (1 << 20) for _ in range(100)]
before = anonymous(os.getpid())
del pieces[:99]  # below one that stays
print(before - anonymous(os.getpid()))
"""


@pytest.mark.parametrize(("keeps", "least", "most"), [("little", 95e6, 110e6), ("much", -1e6, 5e6)])
def test_large_pieces_go_back_as_soon_as_they_are_freed(keeps: str, least: float, most: float) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FREED, keeps], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert least < int(done.stdout) < most
