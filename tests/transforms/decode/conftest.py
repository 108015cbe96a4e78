"""Records and blocks for the decoder's tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transforms.dead_letters import DeadLetter
from transforms.decode import Decoded, decode_block, decode_one
from transforms.read.blocks import RawBlock

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


def _samples(folder: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for path in sorted((SAMPLES / folder).glob("*.json")):
        content = json.loads(path.read_text())
        records += content if isinstance(content, list) else [content]
    return [{**record, "id": 1_000 + number} for number, record in enumerate(records)]


@pytest.fixture
def samples() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The published events and usage records, each with an id of its own."""
    return _samples("events"), _samples("usage")


@pytest.fixture
def event() -> dict[str, Any]:
    """An event in the current rendering."""
    return {
        "id": 10582804066,
        "alert": False,
        "description": "New location successfully received",
        "timestamp": "2026-10-27T15:17:23Z",
        "event_type": {"id": 1, "description": "Update location"},
        "event_source": {"id": 0, "description": "Network"},
        "event_severity": {"id": 0, "description": "INFO"},
        "organisation": {"id": 1234, "name": "Example Org"},
        "user": None,
        "endpoint": {"id": 7, "name": "Meter 7", "ip_address": "10.0.0.7", "tags": None, "imei": "123456789012347"},
        "imsi": {"id": 8, "imsi": "295050901064821", "import_date": "2019-10-10T12:14:27Z"},
        "sim": {"id": 9, "iccid": "8988303000123456789", "msisdn": "423", "production_date": "2019-10-10T12:14:27Z"},
        "detail": {"id": 2, "name": "Telekom", "country": {"mcc": "262"}},
    }


@pytest.fixture
def usage() -> dict[str, Any]:
    """A usage record in the current rendering."""
    return _samples("usage")[0]


@pytest.fixture
def block() -> Callable[..., Decoded]:
    """Decodes items as a block of one file."""

    def decode(feed: int, items: list[bytes], header: tuple[str, ...] | None = None) -> Decoded:
        framing = "lines" if header is None else "csv"
        offsets = np.cumsum([0, *(len(item) + 1 for item in items)])[:-1].astype(np.int64)
        return decode_block(RawBlock(feed, "feed.json", 5, framing, header, items, offsets))

    return decode


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    """Decodes one record that must be valid to its columns; what is null is left out."""

    def decode(feed: int, record: Any, header: tuple[str, ...] | None = None) -> dict[str, Any]:
        line = record if isinstance(record, bytes) else json.dumps(record).encode()
        result = decode_one(feed, line, header)
        assert not isinstance(result, DeadLetter), result
        result[1].validate(full=True)
        (columns,) = result[1].to_pylist()
        return {"kind": result[0], **{name: value for name, value in columns.items() if value is not None}}

    return decode


@pytest.fixture
def letter() -> Callable[..., DeadLetter]:
    """Decodes one record that must become a dead letter."""

    def decode(feed: int, record: Any, header: tuple[str, ...] | None = None) -> DeadLetter:
        line = record if isinstance(record, bytes) else json.dumps(record).encode()
        result = decode_one(feed, line, header)
        assert isinstance(result, DeadLetter), result[1].to_pylist()
        assert result.payload == line
        return result

    return decode
