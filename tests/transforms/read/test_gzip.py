"""Gzip files, whole, cut and corrupt."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import pytest

from transforms.read.sources import ByteSource

LINES = [json.dumps({"id": number, "text": str(number**9)}).encode() for number in range(30)]
PLAIN = b"\n".join(LINES) + b"\n"
PACKED = gzip.compress(PLAIN, mtime=0)


def test_cut_at_every_byte(read: Callable) -> None:
    seen = 0
    for size in range(1, len(PACKED)):
        result = read(PACKED[:size], name="feed.gz")
        count = len(result.items)
        assert result.texts == LINES[:count] and count >= seen
        assert result.reasons == ["gzip_cut"]
        (fault,) = result.faults
        readable = b"".join(line + b"\n" for line in LINES[:count])
        assert fault.byte_offset + len(fault.payload or b"") >= len(readable) - 1
        assert PLAIN.startswith(readable[: fault.byte_offset] + (fault.payload or b""))
        assert "feed.gz" in fault.message
        seen = count
    assert seen == len(LINES)


def test_corrupt_at_every_byte(read: Callable) -> None:
    for place in range(10, len(PACKED), 3 if len(PACKED) > 300 else 1):
        broken = bytearray(PACKED)
        broken[place] ^= 0x55
        result = read(bytes(broken), name="feed.gz")
        assert result.reasons == ["gzip_cut"]
        if place >= len(PACKED) - 8:
            assert result.texts == LINES  # checksum and size come last: all was readable


def test_corrupt_behind_many_pieces(read: Callable) -> None:
    lines = [json.dumps({"id": n, "text": str((n + 1) ** 40)}).encode() for n in range(60_000)]
    packed = bytearray(gzip.compress(b"\n".join(lines), 1))
    packed[-5] ^= 1
    result = read(bytes(packed), 1 << 20)
    assert result.texts == lines
    assert result.reasons == ["gzip_cut"]


@pytest.mark.parametrize("between", [b"", b"\0" * 700, gzip.compress(b"")], ids=["members", "padding", "empty member"])
def test_several_members(read: Callable, between: bytes) -> None:
    packed = b"".join(gzip.compress(line + b"\n") + between for line in LINES)
    assert read(packed, 100).texts == LINES
    assert read(packed, 100).reasons == []


def test_second_member_cut(read: Callable) -> None:
    result = read(PACKED + PACKED[:-4])
    assert (result.texts, result.reasons) == (LINES * 2, ["gzip_cut"])


def test_trailing_garbage_is_told(read: Callable) -> None:
    result = read(PACKED + b"garbage")
    assert (result.texts, result.reasons) == (LINES, ["gzip_cut"])


def test_a_complete_last_line_of_a_cut_file_is_a_record(read: Callable) -> None:
    packed = gzip.compress(PLAIN[:-1])
    result = read(packed[:-8])
    assert (result.texts, result.reasons, result.faults[0].payload) == (LINES, ["gzip_cut"], b"")


def test_array_in_a_cut_file(read: Callable) -> None:
    packed = gzip.compress(b"[" + b",".join(LINES) + b"]")
    for size in range(20, len(packed), 7):
        result = read(packed[:size], name="feed.gz")
        assert result.texts == LINES[: len(result.items)]
        assert result.reasons == ["gzip_cut"]


def test_name_in_gz_with_plain_content(read: Callable) -> None:
    assert read(PLAIN, name="feed.json.gz").texts == LINES


def test_name_in_gz_with_other_content(read: Callable) -> None:
    result = read(b"PK\3\4 something else", name="feed.gz")
    assert (result.items, result.reasons) == ([], ["gzip_cut"])


def test_unread_comes_first(tmp_path) -> None:
    path = tmp_path / "feed"
    path.write_bytes(b"abcdef")
    with ByteSource(str(path), gzip=False) as source:
        source.unread(source.read(4))
        assert [source.read(2), source.read(9), source.read(1)] == [b"ab", b"cdef", b""]
