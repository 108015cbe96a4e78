"""Properties that hold for any input."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transforms.dead_letters import DeadLetter
from transforms.decode import decode_block, decode_one
from transforms.decode.decimals import exact_decimals
from transforms.read.blocks import RawBlock

FIELDS = (
    "id", "timestamp", "event_type", "event_severity", "event_source", "alert", "description", "organisation", "user",
    "endpoint", "sim", "imsi", "detail", "traffic_type", "end_timestamp", "start_timestamp", "volume", "cost", "rx",
    "currency", "operator", "tariff", "country", "name", "tags", "mnc", "event_type_id", "traffic_type_id", "detail_id",
)  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["2026-10-27T15:17:23Z", "1", "0.5", "2026-10-27 15:17:23", "1e400", "\udc00"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner),
    max_leaves=8,
)
RECORDS = st.fixed_dictionaries({}, optional={"id": st.just(5) | VALUES, **dict.fromkeys(FIELDS[1:], VALUES)})
LIKELY = st.fixed_dictionaries(
    {"id": st.integers(), "timestamp": st.just("2026-10-27T15:17:23Z"), "event_type": st.just({"id": 1})},
    optional=dict.fromkeys(FIELDS[3:13], VALUES),
)
LINES = st.one_of(
    st.binary(max_size=60),
    RECORDS.map(lambda record: json.dumps(record).encode()),
    LIKELY.map(lambda record: json.dumps(record).encode()),
    st.tuples(LIKELY, st.integers(0, 400), st.binary(max_size=2)).map(
        lambda parts: (line := json.dumps(parts[0]).encode())[: parts[1]] + parts[2] + line[parts[1] :]
    ),
)


def _of_the_other_kind(member: bytes) -> list[bytes]:
    return [b'{"id": 0, "timestamp": "2026-10-27T15:17:23Z", "event_type": {"id": 1}, ' + member + b"}"]


@given(st.integers(0, 1), st.lists(LINES, max_size=6))
@example(1, _of_the_other_kind(b'"event_source": []') + _of_the_other_kind(b'"event_source": {}'))
@example(1, _of_the_other_kind(b'"organisation": 5'))
def test_each_line_is_one_record_dead_letter_or_empty_line(feed, lines):
    decoded = decode_block(RawBlock(feed, "f", 0, "lines", None, lines, np.arange(len(lines))))
    seen = [fault.byte_offset for fault in decoded.faults]
    for batch in decoded.batches:
        if batch is not None:
            batch.validate(full=True)
            seen += batch["byte_offset"].to_pylist()
            for column in ("detail", "extra"):
                for text in batch[column].to_pylist() if column in batch.schema.names else ():
                    assert text is None or json.loads(text) is not NotImplemented
    empty = [number for number, line in enumerate(lines) if not line.strip()]
    assert sorted(seen + empty) == list(range(len(lines)))
    assert decoded.empty == len(empty)
    assert sum(decoded.received.values()) == len(lines)


@given(st.integers(0, 1), LINES)
def test_one_line_is_decoded_as_in_its_block(feed, line):
    alone = decode_one(feed, line)
    decoded = decode_block(RawBlock(feed, "", 0, "lines", None, [line], np.zeros(1, np.int64)))
    if isinstance(alone, DeadLetter):
        assert decoded.faults == [alone] or decoded.empty == 1
    else:
        assert decoded.batches[alone[0]].equals(alone[1])


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**27), max_value=10**27) | st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places), st.integers(-(10**17), 10**17), st.integers(0, 14)
)


@pytest.mark.parametrize("scale", [6, 10])
@given(numbers=st.lists(st.none() | NUMBERS, min_size=1, max_size=20))
def test_fast_decimals_equal_decimals(scale, numbers):
    texts = [None if number is None else format(number, "f") for number in numbers]
    floats = [None if text is None else float(text) for text in texts]
    column = exact_decimals(floats, scale, lambda row: Decimal(texts[row]))
    with localcontext() as context:
        context.prec = 80
        expected = [
            None if text is None else Decimal(text).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_EVEN)
            for text in texts
        ]
        assert column.values.to_pylist() == expected
        for row, (text, rounded) in enumerate(zip(texts, expected, strict=True)):
            if text is not None and row not in column.inexact:
                # Not distinguishable as JSON numbers: a reader's float of both is the same.
                assert float(text) == float(rounded)


def test_too_large_decimals_are_told():
    column = exact_decimals([1e27, 1e28, float(10**37)], 10, lambda row: Decimal(10) ** (27, 28, 37)[row])
    assert column.too_large == [1, 2]
    assert column.values.to_pylist() == [Decimal(10) ** 27, None, None]


@given(st.integers(0, 1), RECORDS)
def test_key_order_and_white_space_do_not_matter(feed, record):
    if any(isinstance(value, float) and value != value for value in record.values()):
        return
    shuffled = dict(reversed(record.items()))
    results = [
        decode_one(feed, json.dumps(item, indent=indent).encode()) for item, indent in ((record, None), (shuffled, 2))
    ]
    assert len({isinstance(result, DeadLetter) for result in results}) == 1
