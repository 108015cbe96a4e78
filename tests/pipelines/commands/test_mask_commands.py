"""Commands over streams with masks: they need no key, and show none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipelines.commands.conftest import Call
from tests.pipelines.commands.test_streams_commands import EVENT

STREAMS = """\
streams:
  - name: a
    content: events
    shape: emnify
    destination: {type: "null"}
    mask:
      - {fields: [subscriber_identifiers], action: pseudonymise, key: {env: MASK_KEY}}
      - {fields: [network_addresses, imsi], action: truncate, keep: 6}
"""


@pytest.fixture
def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MASK_KEY", raising=False)
    path = tmp_path / "streams.yaml"
    path.write_text(STREAMS)
    return path


def test_validate_says_what_is_masked(call: Call, streams: Path) -> None:
    outcome = call("validate", streams)
    assert outcome.code == 0
    assert "masks   subscriber_identifiers: pseudonymised, key in environment variable MASK_KEY" in outcome.out
    assert "masks   network_addresses, imsi: truncated to 6 characters" in outcome.out


def test_explain_shows_placeholders(call: Call, streams: Path, tmp_path: Path) -> None:
    feed = tmp_path / "feed.json"
    feed.write_text(json.dumps({**EVENT, "sim": {"id": 123456, "iccid": "8988303000123456789"}}))
    outcome = call("explain", feed, f"--streams={streams}")
    assert outcome.code == 0
    assert "masked (pseudonyms need the key: placeholders here)" in outcome.out
    sent = outcome.out.split("placeholders here)")[1]
    assert '"iccid":"‹pseudonym›"' in sent
    assert "8988303000123456789" not in sent


def test_the_json_schema_knows_masks(call: Call) -> None:
    schema = json.loads(call("schema", "streams").out)
    fields = schema["$defs"]["MaskEntry"]["properties"]["fields"]
    assert {"subscriber_identifiers", "imsi", "device_ip"} < set(fields["items"]["enum"])
    assert "event_id" not in fields["items"]["enum"]
    assert "report" in schema["properties"]
