"""CSV framing."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FIELD = st.text(st.sampled_from('a",\n[] '), max_size=6)
HEADER = ["id", "name", "tags"]


def render(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


@QUICK
@given(fields=st.lists(st.tuples(st.integers(), FIELD, FIELD), max_size=12), block_bytes=st.integers(1, 60))
def test_rows_come_back_at_any_size_of_block(
    read: Callable, fields: list[tuple[int, str, str]], block_bytes: int
) -> None:
    rows = [[str(number), *texts] for number, *texts in fields]
    data = render([HEADER, *rows])
    result = read(data, block_bytes)
    assert [next(csv.reader(io.StringIO(text.decode()))) for text in result.texts] == rows
    assert all(data[offset : offset + len(text)] == text for text, offset in result.items)


def test_a_stray_quote_costs_one_row(read: Callable) -> None:
    rows = [b'"%d","n","t"' % number for number in range(3000)]
    rows[5] = b'"5","n,"t"'
    result = read(b"\r\n".join([b'"id","name","tags"', *rows]), 1000)
    assert result.texts == rows


def test_empty_lines_and_byte_order_mark(read: Callable) -> None:
    data = b'\xef\xbb\xbfid,name,tags\r\n1,a,b\r\n\r\n2,"c\r\nd",e\r\n'
    result = read(data)
    assert result.texts == [b"1,a,b", b'2,"c\r\nd",e']
    assert result.empty == 1
    assert all(data[offset : offset + len(text)] == text for text, offset in result.items)


def test_an_open_row_at_the_end_is_an_item(read: Callable) -> None:
    assert read(b'id,name\n1,a\n2,"b\nc').texts == [b"1,a", b'2,"b\nc']


def test_header_alone(read: Callable) -> None:
    result = read(b'"id","name"\n')
    assert (result.items, result.empty, result.faults) == ([], 0, [])
