"""Line framing."""

from __future__ import annotations

import json
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transforms.read.elements import array_elements
from transforms.read.raw import BYTE_ORDER_MARK, MAX_RECORD_BYTES

ANY_FILE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WHOLE = b'{"id":1}'
LINES = st.lists(
    st.one_of(
        st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")),
        st.sampled_from([b"", b" ", WHOLE, b'{"id":', b'[{"id":1}, {"id":2}]', b"\xff\x00", BYTE_ORDER_MARK + WHOLE]),
    ),
    max_size=12,
)


def is_blank(line: bytes) -> bool:
    return not line.removeprefix(BYTE_ORDER_MARK).strip(b" \t\r\n")


@ANY_FILE
@given(lines=LINES, end=st.sampled_from([b"\n", b"\r\n"]), last=st.booleans(), block_bytes=st.integers(1, 40))
def test_any_split_gives_the_same(read: Callable, lines: list[bytes], end: bytes, last: bool, block_bytes: int) -> None:
    data = end.join([WHOLE, *lines]) + (end if last else b"")
    whole, split = read(data), read(data, block_bytes)
    assert (whole.items, whole.empty, whole.faults) == (split.items, split.empty, [])
    assert all(data[offset : offset + len(text)] == text for text, offset in whole.items)


@ANY_FILE
@given(lines=LINES)
def test_a_line_that_is_no_array_is_one_item_or_empty(read: Callable, lines: list[bytes]) -> None:
    lines = [WHOLE, *(line for line in lines if not line.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"["))]
    result = read(b"\n".join(lines) + b"\n")
    expected = [line.removesuffix(b"\r").removeprefix(BYTE_ORDER_MARK) for line in lines if not is_blank(line)]
    assert result.texts == expected
    assert result.empty == sum(map(is_blank, lines))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda e: st.lists(e, max_size=3))))
def test_elements_of_an_array(elements: list[object]) -> None:
    for text in (json.dumps(elements), json.dumps(elements, indent=1, ensure_ascii=False)):
        line = f"  {text} ".encode()
        placed = array_elements(line)
        assert placed is not None
        assert [json.loads(element) for element, _ in placed] == elements
        assert all(line[at : at + len(element)] == element for element, at in placed)


def test_one_bad_element_of_a_batch_is_at_fault_alone(read: Callable) -> None:
    line = b'[{"id":1}, {"id":nul}, {"id":3}]'
    assert read(WHOLE + b"\n" + line).texts == [WHOLE, b'{"id":1}', b'{"id":nul}', b'{"id":3}']


def test_brackets_do_not_make_an_array(read: Callable) -> None:
    lines = [WHOLE, b"[info] started [ok]", b"[,]", b'[{"id":1}', b'[{"id":1}]]', b'[{"id":1},]', b"[" * 10_000]
    assert read(b"\n".join(lines)).texts == lines


def test_deep_nesting_is_an_item(read: Callable) -> None:
    deep = b'{"id":2,"detail":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    batch = b"[" + b"[" * 10_000 + b"]" * 10_000 + b"]"
    assert read(b"\n".join([WHOLE, deep, batch])).texts == [WHOLE, deep, batch]


def test_a_line_of_just_the_limit(read: Callable) -> None:
    fits = b'{"id":"' + b"x" * (MAX_RECORD_BYTES - 9) + b'"}'
    for block_bytes in (1 << 20, 64 << 20):
        result = read(b"\n".join([WHOLE, fits, fits[:-1] + b" }", WHOLE]), block_bytes)
        assert [len(text) for text in result.texts] == [8, MAX_RECORD_BYTES, 8]
        assert [(fault.reason, fault.payload_size) for fault in result.faults] == [("too_large", MAX_RECORD_BYTES + 1)]
