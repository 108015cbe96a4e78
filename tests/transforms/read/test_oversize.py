"""Records that are too large for memory."""

from __future__ import annotations

import gzip
import hashlib
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.dead_letters import scrub
from transforms.read.oversize import Scrubber

RECORD = b'{"id":1,"timestamp":"2021-10-27T15:17:23Z"}'
SECRET = b'"token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop"'
HEAD, MIDDLE, TAIL = b'{"id":2,' + SECRET + b',"x":"', b" " * 50_000_000, b'",' + SECRET + b"}"
LARGE = HEAD + MIDDLE + TAIL


@pytest.mark.parametrize(("packed", "before"), [(False, False), (True, True)], ids=["first", "gzip, behind a record"])
def test_a_line_of_fifty_megabytes(read: Callable, tmp_path: Path, packed: bool, before: bool) -> None:
    lines = [RECORD, LARGE, RECORD] if before else [LARGE, RECORD]
    data = b"\n".join(lines)
    dead = tmp_path / "dead"
    result = read(gzip.compress(data, 1) if packed else data, dead_dir=str(dead))
    assert result.texts == [line for line in lines if line is not LARGE]
    (fault,) = result.faults
    digest = hashlib.sha256(LARGE).hexdigest()
    assert (fault.reason, fault.payload, fault.payload_size) == ("too_large", None, len(LARGE))
    assert (fault.payload_sha256, fault.byte_offset) == (digest, data.index(LARGE))
    assert os.listdir(dead) == [digest]
    assert (dead / digest).read_bytes() == scrub(HEAD) + MIDDLE + scrub(TAIL)


def test_any_size_of_block_finds_it_once(read: Callable) -> None:
    data = b"\n".join([RECORD] * 3 + [LARGE] + [RECORD] * 3)
    for block_bytes in (1 << 20, 20 << 20, 64 << 20):
        result = read(data, block_bytes)
        assert (len(result.items), result.reasons) == (6, ["too_large"])


def test_memory_does_not_grow_with_the_line(read: Callable, tmp_path: Path) -> None:
    path = tmp_path / "feed.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(RECORD + b"\n")
        for _ in range(150):
            file.write(b"x" * 1_000_000)
    data = path.read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = read(data, name="feed.gz")
    assert [fault.payload_size for fault in result.faults] == [150_000_000]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


PARTS = st.sampled_from([b" " * 5000, b'","a":"b",', SECRET + b",", b'"password" : "a b c"', b"\n", b" " * 70_000])


@settings(max_examples=5, deadline=None)
@given(st.lists(PARTS, min_size=50, max_size=150), st.integers(1, 300_000))
def test_scrubbing_in_pieces_is_scrubbing_at_once(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    scrubber = Scrubber()
    scrubbed = b"".join(scrubber.add(data[start : start + size]) for start in range(0, len(data), size))
    assert scrubbed + scrubber.finish() == scrub(data)
