"""Quotas and CloudConnect breakouts: details of rare events, in the several shapes in which they are sent."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.lookups import QUOTA_ACTIONS, QUOTA_STATUSES, TRAFFIC_TYPES
from schemas.tables import VOLUME
from transforms.classify.columns import Integers
from transforms.classify.decimals import volume
from transforms.classify.detail import number_or_none, object_or_empty, slices, text_or_none, times, untyped

_BARE_DATE = re.compile(r":\s*(\d{4}-\d{2}-\d{2}[T ]?[0-9:.]*(?:Z|[+-]\d{2}:?\d{2})?)\s*(?=[,}])")
_PAIR = re.compile(r'"(\w+)"\s*:\s*("(?:[^"\\]|\\.)*"|[^,{}\s][^,{}]*)')

# Names of the same field: snake case (18-21), camel case (56, 58), and the flat names of a detail that is text.
_VOLUME = ("volume",)
_PERCENT = ("threshold_percentage", "thresholdPercentage")
_THRESHOLD = ("threshold_volume", "thresholdVolume")
_EXPIRES = ("expiry_date", "expiryDate")
_STATUS = ("status", "quota_status", "quota_status_id")
_ACTION = ("action_on_exhaustion", "actionOnExhaustion", "action_on_quota_exhaustion", "action_on_quota_exhaustion_id")
_TRAFFIC = ("traffic_type", "trafficType", "traffic_type_id")

_BY_WORD = {name.lower(): name for name in (*QUOTA_STATUSES.values(), *QUOTA_ACTIONS.values(), *TRAFFIC_TYPES.values())}


def fields_of_text(text: str) -> dict[str, Any]:
    """The fields of a detail that is text and not quite JSON: its dates stand without quotes."""
    value = untyped(_BARE_DATE.sub(r': "\1"', text).encode())
    if isinstance(value, dict):
        return value
    return {name: found.strip().strip('"') for name, found in _PAIR.findall(text)}


def detail_fields(data: bytes | memoryview) -> dict[str, Any]:
    """The fields of any ``detail``: of an object, or of a text."""
    value = untyped(data)
    return fields_of_text(value) if isinstance(value, str) else object_or_empty(value)


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> object:
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def _word(value: object, names: dict[int, str]) -> str | None:
    """Our word for a look-up: by id, else by its description, else the description as it is."""
    if value is None:
        return None
    parts = value if isinstance(value, dict) else {"id": value, "description": value}
    identity = number_or_none(parts.get("id"))
    if identity is not None and identity in names:
        return names[identity]
    description = parts.get("description")
    if not isinstance(description, str) or not description.strip() or number_or_none(description) is not None:
        return None
    return _BY_WORD.get(description.strip().lower(), description.strip())


def _percent(value: object) -> int | None:
    exact = volume(value)
    return int(exact) if exact is not None and abs(exact) < 2**31 else None


def quota_columns(detail: pa.Array, rows: Integers) -> dict[str, pa.Array]:
    """Quota columns of the chosen rows (none of whose details is null), by their name in the events table."""
    found: list[tuple[Any, ...]] = []
    for data in slices(detail, rows):
        fields = detail_fields(data)
        quota = object_or_empty(fields.get("quota")) or fields
        found.append((
            _word(_first(quota, _TRAFFIC), TRAFFIC_TYPES),
            volume(_first(quota, _VOLUME)),
            _percent(_first(quota, _PERCENT)),
            volume(_first(quota, _THRESHOLD)),
            _word(_first(quota, _STATUS), QUOTA_STATUSES),
            _word(_first(quota, _ACTION), QUOTA_ACTIONS),
            text_or_none(_first(quota, _EXPIRES)),
        ))  # fmt: skip
    traffic, amount, percent, threshold, status, action, expires = zip(*found, strict=True)
    return {
        "quota_traffic_type": pa.array(traffic, pa.string()),
        "quota_volume": pa.array(amount, VOLUME),
        "quota_threshold_percent": pa.array(percent, pa.int32()),
        "quota_threshold_volume": pa.array(threshold, VOLUME),
        "quota_status": pa.array(status, pa.string()),
        "quota_action": pa.array(action, pa.string()),
        "quota_expires": times(pa.array(expires, pa.string())),
    }


def breakout_columns(detail: pa.Array, rows: Integers) -> dict[str, pa.Array]:
    """Breakout columns of the chosen rows (none of whose details is null), by their name in the events table."""
    found = [detail_fields(data) for data in slices(detail, rows)]
    status = [_status_word(fields.get("status")) for fields in found]
    return {
        "breakout_id": pa.array([number_or_none(fields.get("breakout_id")) for fields in found], pa.int64()),
        "breakout_status": pa.array(status, pa.string()),
    }


def _status_word(value: object) -> str | None:
    word = object_or_empty(value).get("description") if isinstance(value, dict) else value
    return word.strip().upper() if isinstance(word, str) and word.strip() else None


def source_addresses(detail: pa.Array, rows: Integers) -> pa.Array:
    """``detail.sourceIp`` of the chosen rows (none of whose details is null)."""
    found = [detail_fields(data) for data in slices(detail, rows)]
    return pa.array([text_or_none(_first(fields, ("sourceIp", "source_ip"))) for fields in found], pa.string())


def named_rows(detail: pa.Array, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> Integers:
    """Rows of the mask whose detail holds anything: not null, ``null``, ``{}`` or ``""``."""
    lengths = np.diff(np.frombuffer(detail.buffers()[1], np.int32)[detail.offset : detail.offset + len(detail) + 1])
    holds = lengths > len("null")
    if detail.null_count:
        holds &= detail.is_valid().to_numpy(zero_copy_only=False)
    return np.flatnonzero(mask & holds)
