"""Selections: what a stream gets does not depend on what it shares with others."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.deliver.support import rows_of
from transforms.deliver import formats, selection
from transforms.deliver.selection import Selection, select

ROWS = pa.concat_batches([rows_of("events", {"event_id": number}) for number in range(9)])

masks = st.dictionaries(st.sampled_from("abcd"), st.lists(st.booleans(), min_size=9, max_size=9).map(np.array))


@given(masks, st.dictionaries(st.sampled_from("abcd"), st.booleans()), st.sampled_from(["table", "emnify"]))
def test_shared_texts_are_those_of_the_rows(chosen: dict, texts: dict, shape: str) -> None:
    made_of_texts = {name: texts.get(name, True) for name in chosen}
    selections = select(ROWS, chosen, made_of_texts)
    for name, mask in chosen.items():
        alone = ROWS.filter(pa.array(mask))
        assert selections[name].num_rows == alone.num_rows
        assert selections[name].rows.equals(alone)
        for form in ("ndjson", "json"):
            shared = formats.encode(form, shape, "events", selections[name])
            assert _records(form, shared) == _records(form, formats.encode(form, shape, "events", alone))


def _records(form: str, data: bytes) -> list[dict]:
    if form == "json":
        return json.loads(data)
    return [json.loads(line) for line in gzip.decompress(data).splitlines()]


def test_texts_are_made_once_for_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    plain = selection.json_lines
    monkeypatch.setattr(selection, "json_lines", lambda *given: made.append(given) or plain(*given))
    half = np.arange(9) < 5
    selections = select(ROWS, {"a": half, "b": half, "c": ~half}, dict.fromkeys("abc", True))
    for one in selections.values():
        list(one.json_lines("table", "events"))
    assert len(made) == 1


def test_streams_that_hardly_overlap_share_nothing() -> None:
    half = np.arange(9) < 5
    selections = select(ROWS, {"a": half, "b": ~half}, dict.fromkeys("ab", True))
    assert all(one._shared is None for one in selections.values())


class _Hides:
    """Stands for a mask: hides one column, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def apply(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        self.asked.append(rows.num_rows)
        place = rows.schema.get_field_index("endpoint_name")
        return rows.set_column(place, rows.schema.field(place), pa.nulls(rows.num_rows, pa.string()))


@given(masks, st.sets(st.sampled_from("abcd")), st.booleans())
def test_masked_streams_share_nothing_with_others(chosen: dict, hiding: set, texts: bool) -> None:
    hides = _Hides()
    selections = select(ROWS, chosen, dict.fromkeys(chosen, texts), dict.fromkeys(hiding, hides))
    assert list(selections) == list(chosen)
    for name, mask in chosen.items():
        alone = ROWS.filter(pa.array(mask))
        expected = _Hides().apply(alone) if name in hiding else alone
        assert selections[name].num_rows == alone.num_rows
        assert selections[name].rows.equals(expected)
        sent = formats.encode("ndjson", "emnify", "events", selections[name])
        assert (b"Demo Endpoint" in gzip.decompress(sent)) == (alone.num_rows > 0 and name not in hiding)
    assert len(hides.asked) <= 1, "streams with the same mask have their rows masked once"


def test_rows_are_taken_out_once() -> None:
    one = Selection(ROWS, np.arange(9) < 5)
    assert one.rows is one.rows
    assert Selection.of(one) is one
    assert Selection.of(ROWS).rows is ROWS
