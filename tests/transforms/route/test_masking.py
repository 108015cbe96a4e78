"""Masked rows: no value of a masked class is left in any shape, and what joins still joins."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
from decimal import Decimal
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.destinations import SecretError, SecretReference
from schemas.masks import CLASS_OF, CLASSES, NUMBERS
from schemas.reasons import REASONS
from schemas.streams import SHAPES, Stream, read_streams
from schemas.tables import STREAM_CONTENTS, TABLES
from tests.transforms.deliver.support import rows_of
from transforms.deliver import formats
from transforms.deliver.registry import options_models
from transforms.deliver.selection import Selection
from transforms.route.masking import Mask, compile_mask, compile_masks, preview

KEY = "0123456789abcdef0123456789abcdef"
PSEUDONYMISE = {"action": "pseudonymise", "key": {"env": "MASK_KEY"}}


def stream_of(*mask: dict[str, Any], content: str = "events", name: str = "a") -> Stream:
    given = {"name": name, "content": content, "destination": {"type": "null"}, "mask": list(mask)}
    return read_streams({"streams": [given]}, options_models(), REASONS)[0]


def mask_of(*mask: dict[str, Any], key: str = KEY) -> Mask:
    compiled = compile_mask(stream_of(*mask), lambda _: key)
    assert compiled is not None
    return compiled


def masked(row: dict[str, Any], *mask: dict[str, Any], content: str = "events") -> dict[str, Any]:
    return mask_of(*mask).apply(rows_of(content, row)).to_pylist()[0]


def test_a_stream_without_a_mask_has_none() -> None:
    assert compile_mask(stream_of()) is None
    assert compile_masks([stream_of()]) == {}


def test_rows_keep_their_schema_and_order_and_all_that_is_not_masked() -> None:
    rows = pa.concat_batches([rows_of("events", {"event_id": number, "endpoint_id": number}) for number in range(7)])
    before = rows.to_pylist()
    found = mask_of({"fields": ["endpoint_id"], **PSEUDONYMISE}).apply(rows)
    assert found.schema == rows.schema
    assert found["event_id"].to_pylist() == list(range(7))
    assert [{**row, "endpoint_id": 0} for row in found.to_pylist()] == [{**row, "endpoint_id": 0} for row in before]
    assert rows.to_pylist() == before, "the rows of other streams stay as they are"
    none = rows.slice(0, 0)
    assert mask_of({"fields": ["imsi"], "action": "drop"}).apply(none).equals(none)


def test_dictionary_encoded_columns_stay_so() -> None:
    rows = rows_of("events", {"imsi": "901430000000001"}, {"imsi": None}, {"imsi": "901430000000001"})
    place = rows.schema.get_field_index("imsi")
    encoded = rows.set_column(place, "imsi", rows["imsi"].dictionary_encode())
    mask = mask_of({"fields": ["imsi"], **PSEUDONYMISE})
    found = mask.apply(encoded)
    assert found.schema == encoded.schema
    assert found["imsi"].to_pylist() == mask.apply(rows)["imsi"].to_pylist()


def test_pseudonyms_join_across_columns_records_and_streams() -> None:
    imsi = "901430000000001"
    event = {"imsi": imsi, "sim_imsi": imsi, "endpoint_id": 10_360_462, "iccid": "8988303000123456789"}
    event |= {"detail": json.dumps({"pdp_context": {"imsi": int(imsi)}, "endpoint": {"id": "10360462"}})}
    entry = {"fields": ["subscriber_identifiers"], **PSEUDONYMISE}
    of_event = masked(event | {"description": f"IMSI='{imsi}', ICCID 8988303000123456789"}, entry)
    of_usage = masked({"imsi": imsi, "endpoint_id": 10_360_462}, entry, content="usage")
    assert of_event["imsi"] == of_event["sim_imsi"] == of_usage["imsi"]
    assert of_event["endpoint_id"] == of_usage["endpoint_id"]
    assert 0 < of_event["endpoint_id"] < 2**53
    assert of_event["description"] == f"IMSI='{of_event['imsi']}', ICCID {of_event['iccid']}"
    detail = json.loads(of_event["detail"])
    assert detail == {
        "pdp_context": {"imsi": of_event["imsi"]},
        "endpoint": {"id": str(of_event["endpoint_id"])},
    }


def test_pseudonyms_depend_on_the_key_and_on_nothing_else() -> None:
    entry, rows = {"fields": ["imsi", "sim_id"], **PSEUDONYMISE}, rows_of("events", {"imsi": "901430000000001"})
    one, again = (mask_of(entry).apply(rows).to_pylist()[0] for _ in range(2))
    other = mask_of(entry, key=KEY[::-1]).apply(rows).to_pylist()[0]
    assert one == again
    digest = hashlib.blake2b(b"901430000000001", digest_size=16, key=KEY.encode()).hexdigest()[:24]
    assert one["imsi"] == "p_" + "".join("bcdfghjklmnpqrst"[int(digit, 16)] for digit in digest)
    number = hashlib.blake2b(f"{rows['sim_id'][0]}#".encode(), digest_size=16, key=KEY.encode()).digest()
    assert one["sim_id"] == int.from_bytes(number[:8], "big") >> 11
    assert one["imsi"] != other["imsi"]
    assert one["sim_id"] != other["sim_id"]
    long = mask_of(entry, key=KEY * 3).apply(rows).to_pylist()[0]
    assert long["imsi"] not in (one["imsi"], other["imsi"])


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("device_ip", "10.1.2.3", "10.1.2.0"),
        ("device_ip", "2001:db8:1:2::3", "2001:db8:1::"),
        ("serving_node", "4917212345678", "491"),
        ("imei", "867730051111114", "86773005"),
        ("iccid", "8988303000123456789", "8988303"),
        ("imsi", "901430000000001", "90143"),
        ("imsi", "90143", None),
        ("imsi", "", None),
    ],
)
def test_truncation(column: str, value: str, expected: str | None) -> None:
    assert masked({column: value}, {"fields": [CLASS_OF[column]], "action": "truncate"})[column] == expected


def test_truncation_by_own_length_and_of_numbers() -> None:
    row = {"imsi": "901430000000001", "sim_id": 77}
    assert masked(row, {"fields": ["imsi"], "action": "truncate", "keep": 6})["imsi"] == "901430"
    found = masked(row, {"fields": ["subscriber_identifiers"], "action": "truncate"})
    assert found["sim_id"] is None


def test_texts_are_masked_by_pattern() -> None:
    text = (
        "user@example.com logged in from 10.1.2.3:80, then 2001:db8:1:2::3, at 08:38:02 on 2020-07-20; "
        "IMSI901430000000001 (ICCID 89883030000080139311) called +4915112345678. Version 1.2.3, cell 12345."
    )
    found = masked(
        {"description": text},
        {"fields": ["subscriber_identifiers", "people"], "action": "drop"},
        {"fields": ["network_addresses"], "action": "truncate"},
    )
    assert found["description"] == (
        "*** logged in from 10.1.2.0:80, then 2001:db8:1::, at 08:38:02 on 2020-07-20; "
        "IMSI*** (ICCID ***) called ***. Version 1.2.3, cell 12345."
    )


def test_texts_keep_what_no_masked_class_holds() -> None:
    text = "user@example.com from 10.1.2.3, IMSI='901430000000001'"
    assert masked({"description": text}, {"fields": ["locations"], "action": "drop"})["description"] == text
    only = masked({"description": text}, {"fields": ["people"], "action": "drop"})["description"]
    assert only == "*** from 10.1.2.3, IMSI='901430000000001'"


def test_json_is_masked_by_name_however_deep_and_stays_exact() -> None:
    detail = {
        "id": 3, "name": "Vodafone", "sourceIp": "unknown host", "userAgent": "Firefox",
        "client": {"public_ip": 12, "version": "2.5"}, "user": {"email": "me", "flag": True, "phone": None},
        "support_username": "jd", "changed_data": [{"name": {"old": "Müller", "new": "Meier"}}],
        "nested": json.dumps({"user": {"username": "jd"}, "volume": 1}), "list": [{"username": ["a", "b"]}],
    }  # fmt: skip
    raw = json.dumps(detail)[:-1] + ', "volume": {"rx": 0.1728480000000000001, "tx": 12345678901234567890123}}'
    found = masked({"detail": raw}, {"fields": ["people", "network_addresses"], "action": "drop"})["detail"]
    assert json.loads(found, parse_float=Decimal) == {
        "id": 3, "name": "Vodafone", "sourceIp": None, "userAgent": None,
        "client": {"public_ip": None, "version": "2.5"}, "user": {"email": None, "flag": True, "phone": None},
        "support_username": None, "changed_data": [{"name": {"old": None, "new": None}}],
        "nested": '{"user":{"username":null},"volume":1}', "list": [{"username": [None, None]}],
        "volume": {"rx": Decimal("0.1728480000000000001"), "tx": 12345678901234567890123},
    }  # fmt: skip


def test_json_that_cannot_be_decoded_is_left_out() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    found = masked({"detail": deep, "extra": "{"}, {"fields": ["people"], "action": "drop"})
    assert (found["detail"], found["extra"]) == (None, None)


def test_the_records_own_id_is_kept() -> None:
    row = {"event_id": 1200000000000001, "extra": '{"id":"1200000000000001","other":"1200000000000001"}'}
    found = masked(row, {"fields": ["subscriber_identifiers"], "action": "drop"})
    assert found["event_id"] == 1200000000000001
    assert json.loads(found["extra"]) == {"id": "1200000000000001", "other": "***"}


def test_names_are_found_where_no_pattern_would() -> None:
    row = {
        "user_name": 'Jane "JD" Doe', "endpoint_name": "jane \"jd\" doe's meter", "description": 'by JANE "JD" DOE',
        "detail": json.dumps({"x": {'Jane "JD" Doe': ['(Jane "JD" Doe)', json.dumps({"y": 'Jane "JD" Doe'})]}}),
    }  # fmt: skip
    found = masked(row, {"fields": ["people"], "action": "drop"})
    assert found["endpoint_name"] == "***'s meter"
    assert found["description"] == "by ***"
    assert json.loads(found["detail"]) == {"x": {"***": ["(***)", '{"y":"***"}']}}


def test_short_values_are_found_as_words_only() -> None:
    row = {"user_name": "Ann", "sim_id": 123456, "description": "Ann's annual plan 123456, 0123456 and 1234567"}
    found = masked(row, {"fields": ["people", "sim_id"], "action": "drop"})
    assert found["description"] == "***'s annual plan ***, 0123456 and 1234567"


def test_a_key_is_needed_only_on_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stream_of({"fields": ["imsi", "sim_id"], **PSEUDONYMISE})
    monkeypatch.delenv("MASK_KEY", raising=False)
    with pytest.raises(SecretError, match="MASK_KEY is not set"):
        compile_mask(stream)
    shown = preview(stream).apply(rows_of("events", {"imsi": "901430000000001"})).to_pylist()[0]
    assert (shown["imsi"], shown["sim_id"]) == ("‹pseudonym›", 0)
    monkeypatch.setenv("MASK_KEY", "short")
    with pytest.raises(SecretError, match="fewer than 16 characters") as caught:
        compile_mask(stream)
    assert "short" not in str(caught.value).replace("shorter", "")
    monkeypatch.setenv("MASK_KEY", KEY)
    compiled = compile_mask(stream)
    with pytest.raises(TypeError, match="holds its key"):
        pickle.dumps(compiled)
    assert KEY not in repr(compiled)
    assert KEY.encode() not in pickle.dumps(stream)


def test_equal_masks_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(SecretReference, "resolve", lambda reference: read.append(reference) or KEY)
    entry = {"fields": ["imsi"], **PSEUDONYMISE}
    masks = compile_masks([stream_of(entry, name="a"), stream_of(entry, name="b"), stream_of(name="c")])
    assert masks["a"] is masks["b"]
    assert set(masks) == {"a", "b"}
    assert len(read) == 1


_IDENTIFYING = [name for name in CLASSES if name not in ("free_texts", "sources")]
_COLUMNS = [column for name in _IDENTIFYING for column in CLASSES[name]]


def _values_of(column: str) -> st.SearchStrategy[Any]:
    """What identifiers look like: long enough, and of each column different, so that none is found by chance."""
    own = 10 + _COLUMNS.index(column)
    if column in NUMBERS:
        return st.integers(0, 10**10 - 1).map(lambda number: own * 10**10 + number)
    if column in CLASSES["subscriber_identifiers"]:
        return st.integers(0, 10**13 - 1).map(lambda number: f"{own}{number:013d}")
    if column in CLASSES["network_addresses"]:
        return st.integers(0, 999).map(lambda number: f"1{own}.{100 + number // 10}.2{number % 10:02d}.1")
    word = st.text("abcdefghijklmnopqrstuvwxyzäß\"'", min_size=8, max_size=9)
    return word.map(lambda text: f"{text}{chr(ord('A') + own - 10)}{text}")


_TEMPLATES = ("{} at once", "IMSI='{}', then", "{}", "({})", "a {0}, {0}")


@st.composite
def identified_rows(draw: st.DrawFn, content: str) -> dict[str, Any]:
    """A row whose identifiers stand in its texts too, under names that tell them and under others."""
    names = [name for name in _COLUMNS if name in TABLES[content].schema.names]
    row = {name: draw(_values_of(name)) for name in names}
    drawn = [str(row[name]) for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=8))]
    texts = [draw(st.sampled_from(_TEMPLATES)).format(value) for value in drawn]
    if content in ("events", "usage"):
        members = {f"k{at}": text for at, text in enumerate(texts)}
        row["extra"] = json.dumps({"more": {**members, "inner": json.dumps(members)}, "list": texts})
    if content == "events":
        row["description"] = " ".join(texts)
        named = {name: row[name] for name in ("imsi", "imei_raw", "source_ip")}
        row["detail"] = json.dumps({"pdp_context": named, texts[0]: drawn})
    row["operator_name"] = texts[0]
    return row


@pytest.mark.parametrize("action", ["drop", "pseudonymise"])
@pytest.mark.parametrize("content", STREAM_CONTENTS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_no_masked_value_is_left_in_any_shape_or_format(content: str, action: str, data: st.DataObject) -> None:
    row = data.draw(identified_rows(content))
    classes = data.draw(st.lists(st.sampled_from(_IDENTIFYING), min_size=1, unique=True))
    entry: dict[str, Any] = {"fields": classes, **(PSEUDONYMISE if action == "pseudonymise" else {"action": "drop"})}
    rows = mask_of(entry).apply(pa.RecordBatch.from_pylist([row], TABLES[content].schema))
    hidden = [str(row[column]) for name in classes for column in CLASSES[name] if column in row]
    for shape, (contents, packings, _) in SHAPES.items():
        for packing in packings if content in contents else ():
            sent = _readable(packing, formats.encode(packing, shape, content, Selection(rows)))
            for value in hidden:
                assert value.lower() not in sent, (shape, packing)


def _readable(packing: str, data: bytes) -> str:
    """All texts of an encoded file, compressed or not, with the escapes of JSON undone."""
    if packing == "parquet":
        text = str(pq.read_table(pa.BufferReader(data)).to_pylist())
    elif packing == "avro":
        text = str(list(fastavro.reader(io.BytesIO(bytes(data)))))
    else:
        text = (gzip.decompress(data) if bytes(data[:2]) == b"\x1f\x8b" else bytes(data)).decode()
    # Twice escaped (JSON in JSON): quotes and backslashes are what is escaped, and what values hold.
    for _ in range(4):
        text = text.replace("\\\\", "\\").replace('\\"', '"').replace("\\'", "'").replace('""', '"')
    return text.lower()
