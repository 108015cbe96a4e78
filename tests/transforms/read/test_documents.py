"""Document framing: elements at any size of array, and malformed ones that take nothing with them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transforms.read import documents
from transforms.read.raw import MAX_RECORD_BYTES
from transforms.read.structure import State, scan

QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(st.sampled_from('ab"\\{}[],\n é'), max_size=8)
VALUE = st.recursive(TEXT | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=6)
OBJECTS = st.lists(st.dictionaries(TEXT, VALUE, max_size=3), max_size=8)


def record(number: int) -> bytes:
    return json.dumps({"id": number, "detail": {"mnc": [{"id": 1}, {"id": 2}]}, "timestamp": "2021-10-27"}).encode()


def pretty(number: int) -> bytes:
    return json.dumps(json.loads(record(number)), indent=4).replace("\n", "\n    ").encode()


@QUICK
@given(objects=OBJECTS, indent=st.sampled_from([None, 0, 2]), joined=st.booleans(), piece=st.integers(1, 50))
def test_elements_at_any_size_of_piece(
    read: Callable, objects: list[dict[str, object]], indent: int | None, joined: bool, piece: int
) -> None:
    texts = [json.dumps(item, indent=indent, ensure_ascii=False) for item in objects]
    data = ("".join(texts) if joined else json.dumps(objects, indent=indent, ensure_ascii=False)).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transforms.read.blocks.find_framing", lambda head: ("documents", None))
        patch.setattr(documents, "_PIECE", piece)
        result = read(data, 20)
    assert [json.loads(text) for text in result.texts] == objects
    assert all(data[offset : offset + len(text)] == text for text, offset in result.items)
    assert not result.faults


@QUICK
@given(
    text=st.binary(max_size=60).map(lambda raw: bytes(b'"\\{}[],\n x'[code % 10] for code in raw)),
    cut=st.integers(0, 60),
)
def test_scanning_in_two_pieces_is_scanning_once(text: bytes, cut: int) -> None:
    once, twice = State(), State()
    whole = scan(text, 0, once)
    first, second = scan(text[:cut], 0, twice), scan(text[cut:], 0, twice)
    assert once == twice
    for name in ("opens", "closes", "borders"):
        joined = [*getattr(first, name).tolist(), *(getattr(second, name) + min(cut, len(text))).tolist()]
        assert getattr(whole, name).tolist() == joined


BAD = {
    "no closing brace": lambda good: good[:-1],
    "no closing quote": lambda good: good.replace(b'"2021-10-27"', b'"2021-10-27'),
    "no closing bracket": lambda good: good.replace(b"]", b""),
    "extra closing brace": lambda good: good + b"}",
    "not JSON": lambda good: b"garbage",
    "no value": lambda good: good.replace(b"7", b"bad"),
    "cut in a key": lambda good: good[: good.index(b"stamp")],
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("rendering", [record, pretty], ids=["one line", "pretty"])
@pytest.mark.parametrize("total", [10, 3000], ids=["short", "long"])
def test_a_malformed_element_takes_nothing_with_it(
    read: Callable, fault: str, rendering: Callable[[int], bytes], total: int
) -> None:
    elements = [rendering(number) for number in range(total)]
    elements[7] = BAD[fault](elements[7])
    separator = b",\n    " if rendering is pretty else b","
    result = read(b"[" + separator.join(elements) + b"]")
    good = {rendering(number) for number in range(total) if number != 7}
    others = [text for text in result.texts if text not in good]
    assert good <= set(result.texts) and not result.faults
    # One that closes the array leaves the array's own bracket over.
    assert len(others) == (2 if fault == "extra closing brace" else 1)


@pytest.mark.parametrize("total", [3, 3000])
def test_malformed_elements_one_after_another(read: Callable, total: int) -> None:
    elements = [record(number)[:-1] if number % 2 else record(number) for number in range(total)]
    result = read(b"[" + b",".join(elements) + b"]")
    assert set(map(record, range(0, total, 2))) <= set(result.texts)


def test_an_array_cut_short_keeps_what_is_whole(read: Callable) -> None:
    data = b"[" + b",".join(map(record, range(5)))
    result = read(data[:-3])
    assert result.texts == [*map(record, range(4)), record(4)[:-3]]


def test_scalars_and_garbage_between_elements(read: Callable) -> None:
    data = b'[{"id":1}, 2, "a,b", {"id":3} junk, null,, [4]] tail {"id":5}'
    result = read(data)
    texts = [b'{"id":1}', b"2", b'"a,b"', b'{"id":3}', b"junk, null", b"[4]", b"tail", b'{"id":5}']
    assert result.texts == texts
    assert all(data[offset : offset + len(text)] == text for text, offset in result.items)


def test_stray_brackets_are_one_item(read: Callable) -> None:
    assert read(b'[{"id":1}]]]}}').texts == [b'{"id":1}', b"]]}}"]


def test_a_long_valid_element_is_left_whole(read: Callable) -> None:
    envelope = b'{"events":[' + b",".join(map(record, range(20_000))) + b"]}"
    result = read(b"[" + envelope + b"," + record(1) + b"]")
    assert result.texts == [envelope, record(1)]


@pytest.mark.parametrize("nested", [b"", b'"]"', b"[" * 10_000 + b"]" * 10_000], ids=["flat", "quoted", "deep"])
def test_an_element_that_is_too_large(read: Callable, nested: bytes) -> None:
    large = b'{"id":2,"list":[' + nested + b',"' + b"x" * (MAX_RECORD_BYTES + 5_000_000) + b'"]}'
    data = b"[" + record(1) + b"," + large + b"," + record(3) + b"]"
    result = read(data)
    assert result.texts == [record(1), record(3)]
    assert [data[offset : offset + len(text)] for text, offset in result.items] == result.texts
    (fault,) = result.faults
    assert (fault.reason, fault.payload_size, fault.byte_offset) == ("too_large", len(large), data.index(large))


def test_white_space_of_any_length_is_nothing(read: Callable) -> None:
    result = read(b"[" + b" " * (2 * MAX_RECORD_BYTES) + record(1) + b"\n" * 300_000 + b"]")
    assert (result.texts, result.faults) == ([record(1)], [])


def test_deep_nesting_is_an_item(read: Callable) -> None:
    deep = b'{"id":2,"detail":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    assert read(b"[" + deep + b"," + record(1) + b"]").texts == [deep, record(1)]
