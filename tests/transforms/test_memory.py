"""Memory is handed back where a step ends."""

from __future__ import annotations

import os
import platform

import pytest

from benchmarks.measure import anonymous
from transforms.memory import give_back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to give memory back")
def test_freed_memory_between_objects_that_stay_goes_back_to_the_system() -> None:
    objects = [bytes(4_000) for _ in range(25_000)]
    kept = objects[::100]
    before = anonymous(os.getpid())
    del objects
    give_back()
    assert anonymous(os.getpid()) < before - 60e6
    assert len(kept) == 250
