from __future__ import annotations

import gzip
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.decode import decode_block
from transforms.read import messages as module
from transforms.read.messages import message_blocks
from transforms.read.raw import RawBlock

SOURCE = "projects/p/subscriptions/s"


def blocks_of(*payloads: bytes, feed: int = 0) -> list[RawBlock]:
    messages = [(payload, 1_000 + number) for number, payload in enumerate(payloads)]
    return [block.raw for block in message_blocks(feed, SOURCE, messages)]


def block_of(*payloads: bytes) -> RawBlock:
    (block,) = blocks_of(*payloads)
    return block


def record(number: int, **others: object) -> bytes:
    return json.dumps({"id": number, "timestamp": "2026-03-01T12:00:00Z", **others}).encode()


ONE, TWO = record(1), record(2, text="}{ \\ \n [")
PRETTY = json.dumps(json.loads(TWO), indent=2).encode()
FORMS = {
    "a record": (ONE, [ONE]),
    "a record and a line end": (ONE + b"\r\n", [ONE]),
    "a record, pretty-printed": (PRETTY, [PRETTY]),
    "a record behind a byte order mark": (b"\xef\xbb\xbf" + ONE, [ONE]),
    "brackets in a text": (TWO, [TWO]),
    "an array": (b"[" + ONE + b"," + TWO + b"]", [ONE, TWO]),
    "an array of one": (b" [" + ONE + b"]\n", [ONE]),
    "an array, pretty-printed": (b"[\n  " + PRETTY + b",\n  " + ONE + b"\n]\n", [PRETTY, ONE]),
    "lines": (ONE + b"\n" + TWO + b"\n", [ONE, TWO]),
    "lines of Windows": (ONE + b"\r\n" + TWO + b"\r\n", [ONE, TWO]),
    "arrays, one a line": (b"[" + ONE + b"]\n[" + TWO + b"]", [ONE, TWO]),
    "records on end": (ONE + TWO, [ONE, TWO]),
    "a bad line among lines": (b"oops\n" + ONE + b"\n" + TWO, [b"oops", ONE, TWO]),
    "a bad line behind": (ONE + b"\n{oops", [ONE, b"{oops"]),
    "a bad element of an array": (b"[" + ONE + b',{"id":},' + TWO + b"]", [ONE, b'{"id":}', TWO]),
    "no JSON": (b"hello\nworld\n", [b"hello\nworld\n"]),
    "a table": (b"id,timestamp\n1,2026-03-01\n", [b"id,timestamp\n1,2026-03-01\n"]),
    "bytes": (b"\0\xff\xfe{}", [b"\0\xff\xfe{}"]),
    "a number": (b"12", [b"12"]),
    "a record that was cut": (ONE[:-5], [ONE[:-5]]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_forms_of_payloads(form: str, packed: bool) -> None:
    payload, items = FORMS[form]
    block = block_of(gzip.compress(payload, mtime=0) if packed else payload)
    assert (block.items, block.empty, block.faults) == (items, 0, [])
    assert (block.feed, block.path, block.ingest_time, block.header) == (0, SOURCE, 1_000, None)
    assert block.offsets.tolist() == list(range(len(items)))


@pytest.mark.parametrize(
    "payload", [b"", b" \r\n\t", b"[]", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0), gzip.compress(b"[ ]", mtime=0)]
)
def test_an_empty_payload_is_an_empty_line(payload: bytes) -> None:
    block = block_of(ONE, payload, TWO)
    assert (block.items, block.empty, block.faults) == ([ONE, TWO], 1, [])


def test_no_messages_no_block() -> None:
    assert blocks_of() == []


def test_gzip_of_several_members() -> None:
    assert block_of(gzip.compress(ONE + b"\n", mtime=0) + gzip.compress(TWO, mtime=0)).items == [ONE, TWO]


def test_gzip_that_is_cut_anywhere_gives_what_is_readable_and_a_fault() -> None:
    records = [record(number, text=str(number * 7919)) for number in range(200)]
    whole = gzip.compress(b"\n".join(records), mtime=0)
    most = 0
    for size in range(2, len(whole)):
        block = block_of(whole[:size])
        assert block.items == records[: len(block.items)]
        (fault,) = block.faults
        assert (fault.reason, fault.source_file, fault.byte_offset) == ("gzip_cut", SOURCE, len(block.items))
        assert fault.message.startswith(f"a gzip message of {SOURCE} could be read up to byte ")
        if not block.items and not records[0].startswith(fault.payload or b"-"):
            assert fault.payload == whole[:size]  # nothing is readable: the message itself is kept
        elif fault.payload:
            assert records[len(block.items)].startswith(fault.payload)
        most = max(most, len(block.items))
    assert most == len(records)


def test_gzip_that_is_damaged() -> None:
    whole = bytearray(gzip.compress(b"\n".join(record(number) for number in range(500))))
    whole[len(whole) // 2] ^= 0xFF
    block = block_of(bytes(whole))
    assert [fault.reason for fault in block.faults] == ["gzip_cut"]
    assert len(block.items) < 500


def test_a_long_gzip_payload_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 100)
    records = [record(number) for number in range(50)]
    assert block_of(gzip.compress(b"\n".join(records), mtime=0)).items == records
    assert block_of(gzip.compress(b"[" + b",".join(records) + b"]", mtime=0)).items == records
    assert block_of(gzip.compress(b" " * 1_000, mtime=0)).empty == 1


def test_blocks_are_of_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 2_000)
    monkeypatch.setattr(module, "MOST_ITEMS", 30)
    records = [record(number) for number in range(100)]
    payloads = [*records[:20], gzip.compress(b"\n".join(records[20:90]), mtime=0), b"", *records[90:]]
    blocks = blocks_of(*payloads)
    assert [item for block in blocks for item in block.items] == records
    assert sum(block.empty for block in blocks) == 1
    assert all(len(block.items) <= 30 and sum(map(len, block.items)) <= 2_000 + len(records[0]) for block in blocks)
    assert [block.offsets.tolist() for block in blocks] == [list(range(len(block.items))) for block in blocks]
    # Each has the time of its own first message.
    assert [block.ingest_time for block in blocks] == sorted(block.ingest_time for block in blocks)
    assert blocks[-1].ingest_time > 1_000
    again = blocks_of(*payloads)
    assert [block.items for block in again] == [block.items for block in blocks]


def test_a_block_tells_which_messages_end_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ITEMS", 10)
    of_messages = [[b"%d" % (100 * number + place) for place in range(number)] for number in (1, 2, 25, 4, 10, 3, 11)]
    payloads = [b"[" + b",".join(items) + b"]" for items in of_messages]
    begun = ended = 0
    held: list[bytes] = []
    for block in message_blocks(0, SOURCE, [(payload, 0) for payload in payloads]):
        held += block.raw.items
        if not block.is_cut:
            # What was held back so far is whole messages.
            assert held == [item for items in of_messages[begun : block.messages] for item in items]
            held, begun = [], block.messages
        assert block.messages >= ended
        ended = block.messages
    assert (begun, held) == (len(payloads), [])


def test_a_payload_of_very_many_items_unpacks_into_several_blocks() -> None:
    payload = gzip.compress(b"[" + b"1," * 299_999 + b"1]", mtime=0)
    assert len(payload) < 10_000
    blocks = blocks_of(payload)
    assert sum(len(block.items) for block in blocks) == 300_000
    assert max(len(block.items) for block in blocks) <= module.MOST_ITEMS


def test_a_record_that_is_too_large_is_a_fault() -> None:
    block = block_of(gzip.compress(b'{"id":1,"text":"' + b"x" * (17 << 20) + b'"}\n' + ONE, mtime=0))
    assert block.items == [ONE]
    assert [(fault.reason, fault.byte_offset) for fault in block.faults] == [("too_large", 1)]


PAYLOADS = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([payload for payload, _ in FORMS.values()]),
    st.lists(st.sampled_from([ONE, TWO, PRETTY, b"\n", b",", b"[", b"]", b"{", b"}", b" ", b'"']), max_size=12).map(
        b"".join
    ),
)
PACKED = st.one_of(
    PAYLOADS,
    PAYLOADS.map(gzip.compress),
    st.tuples(PAYLOADS.map(gzip.compress), st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]]),
    PAYLOADS.map(lambda payload: b"\x1f\x8b" + payload),
    PAYLOADS.map(zlib.compress),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PACKED, max_size=6))
def test_no_payload_is_lost_or_raises_and_the_same_gives_the_same(payloads: list[bytes]) -> None:
    blocks = blocks_of(*payloads)
    if payloads:
        # Each message is at least one item, empty line or fault.
        assert sum(len(block.items) + block.empty + len(block.faults) for block in blocks) >= len(payloads)
    assert [(block.items, block.empty, block.faults) for block in blocks] == [
        (block.items, block.empty, block.faults) for block in blocks_of(*payloads)
    ]
    for block in blocks:
        received = len(block.items) + block.empty + len(block.faults)
        assert sum(decode_block(block).received.values()) == received


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=30), st.integers(0, 3), st.booleans())
def test_records_come_out_whole_in_each_form(numbers: list[int], form: int, packed: bool) -> None:
    records = [record(number) for number in numbers]
    payloads = (
        records,
        [b"\n".join(records)],
        [b"[" + b",".join(records) + b"]"],
        [b"[\n" + b",\n".join(records) + b"\n]"],
    )[form]
    blocks = blocks_of(*(map(gzip.compress, payloads) if packed else payloads))
    assert [item for block in blocks for item in block.items] == records
