"""Secrets reach no column and no dead letter."""

from __future__ import annotations

import json
import time

import pytest

from transforms.dead_letters import DeadLetter, dead_letter_batch, scrub

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl_-x"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("detail", {"activationKey": "SECRET1", "token": "SECRET2"}),
        ("detail", {"inner": [{"password": 'SEC\\"RET'}]}),
        ("detail", json.dumps({"token": "SECRET", "volume": 5})),
        ("detail", {"link": f"https://x.test/?t={JWT}"}),
        ("description", f"Token {JWT} was used"),
        ("description", "Callback https://user:SECRET@host.test/path failed"),
        ("unknown", {"api_key": "SECRET", "note": JWT}),
    ],
)
def test_secrets_are_replaced(path, value, event, row):
    columns = row(0, {**event, path: value})
    stored = json.dumps([columns.get(name) for name in ("description", "detail", "extra")])
    assert "***" in stored
    assert "SEC" not in stored
    assert "eyJ" not in stored
    for name in ("detail", "extra"):
        json.loads(columns.get(name, "null"))


def test_tokens_are_replaced_in_every_text(event, usage, row, block):
    name, half = {"name": f"device {JWT}"}, {"name": "ends in eyJ"}
    for kind, record in enumerate((event, usage)):
        for changed in ("organisation", "endpoint"):
            columns = row(kind, {**record, changed: {**record[changed], **name}})
            assert columns[f"{changed}_name"] == "device ***"
        lines = [
            json.dumps({**record, "endpoint": {**record["endpoint"], **more}}).encode() for more in (half, {}, name)
        ]
        assert block(kind, lines).batches[kind]["endpoint_name"].to_pylist()[::2] == ["ends in eyJ", "device ***"]


@pytest.mark.parametrize(
    "text", ["x", "token", 'token"', "eyJ", "a-b_", "word ", '\\"', '"password":"', "://x:", "Basic "]
)
def test_scrubbing_takes_linear_time(text):
    payload = text.encode() * (2_000_000 // len(text))
    begin = time.process_time()
    scrub(payload)
    assert time.process_time() - begin < 3


def test_other_texts_stay(event, row):
    texts = ("Failed authentication request, Reason: Invalid password from IP 10.0.0.1", "token", "Key", "://")
    for text in texts:
        assert row(0, {**event, "description": text})["description"] == text


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"token":"abc', b'{"token":"***"'),
        (b'{"a":"' + JWT[:40].encode(), b'{"a":"***'),
        (b'"password" : 12345}', b'"password" : "***"}'),
        (b"Endpoint=sb://x/;SharedAccessKey=abc+/=;EntityPath=y", b"Endpoint=sb://x/;SharedAccessKey=***;EntityPath=y"),
        (b"no secret here", b"no secret here"),
        (b"\xff\x00", b"\xff\x00"),
    ],
)
def test_scrub(payload, expected):
    assert scrub(payload) == expected
    assert scrub(scrub(payload)) == scrub(payload)


def letter(payload: bytes | None) -> DeadLetter:
    return DeadLetter("malformed", 0, "truncated", "cut", payload, "f.json", 12, 5, record_id=7)


def test_dead_letter_rows(tmp_path):
    batch = dead_letter_batch([letter(b'{"token":"abc"'), letter(None)], "w", str(tmp_path / "dead"))
    batch.validate(full=True)
    first, second = batch.to_pylist()
    assert first["payload"] == b'{"token":"***"'
    assert first["payload_size"] == 14
    assert (first["feed"], first["writer"], first["record_id"], first["byte_offset"]) == ("events", "w", 7, 12)
    assert second["payload"] is None
    assert first["id"] != second["id"]
    assert not (tmp_path / "dead").exists()
    assert dead_letter_batch([letter(b'{"token":"abc"')], "w", str(tmp_path)).to_pylist() == [first]


def test_long_payloads_become_files(tmp_path):
    payload = b'{"token":"abc","x":"' + b"x" * (1 << 20)
    (stored,) = dead_letter_batch([letter(payload)], "w", str(tmp_path / "dead")).to_pylist()
    assert stored["payload"] is None
    assert stored["payload_size"] == len(payload)
    content = (tmp_path / "dead" / stored["payload_sha256"]).read_bytes()
    assert content.startswith(b'{"token":"***","x":"xxx')
    assert [path.name for path in (tmp_path / "dead").iterdir()] == [stored["payload_sha256"]]
