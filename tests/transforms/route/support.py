"""Streams for tests, without a file."""

from __future__ import annotations

from typing import Any

from schemas.reasons import REASONS
from schemas.streams import Stream, read_streams
from transforms.deliver.registry import options_models


def streams_of(*filters: Any, content: str = "events") -> list[Stream]:
    """One stream ``s<number>`` per filter, to a null destination."""
    listed = [
        {"name": f"s{at}", "content": content, "filter": each, "destination": {"type": "null"}}
        for at, each in enumerate(filters)
    ]
    return read_streams({"streams": listed}, options_models(), REASONS)
