"""Framing of a file from its head."""

from __future__ import annotations

import pytest

from transforms.read.framing import HEAD_BYTES, find_framing

CASES = {
    "lines": [
        b'{"id":1}\n{"id":2}\n',
        b'{"id":1}',
        b"hello",
        b"",
        b'garbage\n{"id":1}\n',
        b'{"id":1,\n{"id":2}\n',
        b'{"id":1,"detail":\n{"id":2}\n',
        b'{"id":1,\n{"id":2,\n',
        b'[\n{"id":1}\n{"id":2}\n',
        b'[{"id":1}]\n[{"id":2}]\n',
        b'[{"id":1}]\n{"id":2}\n',
        b'[{"id":1}\n{"id":2}\n{"id":3}\n',
        b'{"id":"' + b"x" * HEAD_BYTES,
        b"id;timestamp\n1;2\n",
        b"\xef\xbb\xbf\n\n" + b'{"id":1}\n{"id":2}\n',
    ],
    "documents": [
        b'[{"id":1},{"id":2}]',
        b'[\n{"id":1},\n{"id":2}\n]',
        b'[\n{"id":1}\n]',
        b'[\n{"id":1},\n{"id":bad},\n{"id":2}\n]',
        b'{\n  "id": 1\n}\n',
        b'{\n  "id": 1,\n  "x": bad\n}\n',
        b'{"id": 1,\n "x": 2}\n',
        b'{"id":1}{"id":2}',
        b'[{"id":1},{"id":2},{"i',
        b'[{"id":"' + b"x" * HEAD_BYTES,
        b"[" + b"[" * 10_000,
    ],
    "csv": [
        b'"id","event_start_timestamp"\n"1","2020-01-01 00:00:00"\n',
        b"\xef\xbb\xbfid,timestamp\r\n",
        b'"timestamp","ID"',
    ],
}


@pytest.mark.parametrize(("framing", "head"), [(framing, head) for framing, heads in CASES.items() for head in heads])
def test_framing(framing: str, head: bytes) -> None:
    assert find_framing(head[:HEAD_BYTES])[0] == framing


def test_header_of_a_csv_file() -> None:
    assert find_framing(b'"id","volume_tx", "cost"\r\n"1",,\n') == ("csv", ("id", "volume_tx", "cost"))
