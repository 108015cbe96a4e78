"""Decodes ``detail`` of network events: operator, country, session and PDP context, once per row.

A typed decoder that knows only the needed fields takes nearly every row; numbers that come as texts are accepted. A row
that it refuses is decoded without types and read field by field: an odd field is null, the others keep their values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.records import END_TIME, FIRST_TIME
from schemas.tables import TIME
from transforms.classify.columns import Integers
from transforms.classify.decimals import volumes

_CHUNK = 2048
"""Rows decoded at a time: few enough for their objects to stay in the processor's cache."""


class Volume(msgspec.Struct, gc=False):
    """``detail.volume``: the doubles are made exact by `volumes`."""

    rx: float | None = None
    tx: float | None = None
    total: float | None = None


class PdpContext(msgspec.Struct, gc=False):
    """The needed fields of ``detail.pdp_context``, in the order in which they are sent: that decodes faster."""

    tunnel_created: str | None = None
    gtp_version: int | None = None
    region: str | None = None
    imsi: str | int | None = None
    mcc: str | int | None = None
    mnc: str | int | None = None
    lac: int | None = None
    ci: int | None = None
    rat_type: int | None = None
    breakout_ip: str | None = None
    apn: str | None = None


class Country(msgspec.Struct, gc=False):
    """The needed fields of ``detail.country``."""

    name: str | None = None
    mcc: str | int | None = None


class NetworkDetail(msgspec.Struct, gc=False):
    """The needed fields of ``detail`` of network events."""

    id: int | None = None
    name: str | None = None
    country: Country | None = None
    session_id: str | None = None
    mnc: Any = None
    pdp_context: PdpContext | None = None
    volume: Volume | None = None


_PDP_FIELDS = PdpContext.__struct_fields__
_TYPED = msgspec.json.Decoder(NetworkDetail, strict=False)
_UNTYPED = msgspec.json.Decoder()
_EXACT = msgspec.json.Decoder(float_hook=str)
_NO_VOLUME = Volume()
_NO_CONTEXT = PdpContext()
_NO_COUNTRY = Country()
_MCC_DIGITS = 3
_MNC_DIGITS = 2


def number_or_none(value: object) -> int | None:
    """An integer from a JSON number or text; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    return None


def text_or_none(value: object) -> str | None:
    """A text from a JSON text or integer; None for anything else."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _code_or_none(value: object) -> str | int | None:
    return value if isinstance(value, str | int) and not isinstance(value, bool) else None


def object_or_empty(value: object) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def untyped(data: bytes | memoryview, decoder: msgspec.json.Decoder[Any] = _UNTYPED) -> object:
    """Any ``detail`` without types; of a text that holds JSON, the value in it; None for bytes that are no JSON."""
    try:
        value = decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(value, str):
        return value
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return value


def _double(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


_READERS: dict[str, Callable[[object], Any]] = {
    **dict.fromkeys(("gtp_version", "lac", "ci", "rat_type"), number_or_none),
    **dict.fromkeys(("mcc", "mnc"), _code_or_none),
}
"""How to read fields of ``pdp_context`` that are not texts."""


def _tolerant(data: bytes | memoryview) -> NetworkDetail:
    """A detail that the typed decoder refuses, field by field."""
    fields = object_or_empty(untyped(data))
    detail = NetworkDetail(
        id=number_or_none(fields.get("id")),
        name=text_or_none(fields.get("name")),
        session_id=text_or_none(fields.get("session_id")),
        mnc=fields.get("mnc"),
    )
    if isinstance(country := fields.get("country"), dict):
        detail.country = Country(text_or_none(country.get("name")), _code_or_none(country.get("mcc")))
    if isinstance(amounts := fields.get("volume"), dict):
        detail.volume = Volume(*(_double(amounts.get(name)) for name in Volume.__struct_fields__))
    if isinstance(context := fields.get("pdp_context"), dict):
        read: dict[str, Any] = {name: _READERS.get(name, text_or_none)(context.get(name)) for name in _PDP_FIELDS}
        detail.pdp_context = PdpContext(**read)
    return detail


def slices(column: pa.Array, rows: Integers) -> list[memoryview]:
    """The bytes of the chosen rows of a text column, without copying them."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    data = memoryview(column.buffers()[2] or b"")
    return [data[a:b] for a, b in zip(offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True)]


def _decode(messages: Sequence[memoryview]) -> list[NetworkDetail]:
    """Typed decoding that resumes after each refused row."""
    details: list[NetworkDetail] = []
    pending = iter(messages)
    decoded = map(_TYPED.decode, pending)
    while len(details) < len(messages):
        try:
            details.extend(decoded)
        except (msgspec.DecodeError, RecursionError):
            details.append(_tolerant(messages[len(details)]))
    return details


def _texts(values: Sequence[object]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([text_or_none(value) for value in values], pa.string())


def _codes(values: Sequence[str | int | None], digits: int) -> pa.Array:
    """Mobile codes as texts; numbers have lost their leading zeros and get them back up to the usual length."""
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([str(v).zfill(digits) if isinstance(v, int) else v for v in values], pa.string())


def _integers(values: Sequence[int | None], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, OverflowError):
        limit = 2 ** (kind.bit_width - 1)
        return pa.array([v if v is not None and -limit <= v < limit else None for v in values], kind)


def times(texts: pa.Array) -> pa.Array:
    """Times without zone, with ``Z`` or ``+0000`` (all UTC); what is no time, or not within 2000 to 2100, is null."""
    if texts.null_count == len(texts):
        return pa.nulls(len(texts), TIME)
    try:
        parsed = pc.utf8_rtrim(texts, "Z").cast(pa.timestamp("us")).cast(pa.int64())
    except pa.ArrowInvalid:
        parsed = pa.array([_microseconds(text) for text in texts.to_pylist()], pa.int64())
    sound = pc.and_(pc.greater_equal(parsed, FIRST_TIME), pc.less(parsed, END_TIME))
    return pc.if_else(sound, parsed, pa.scalar(None, pa.int64())).cast(TIME)


def _microseconds(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _mncs(listed: object) -> tuple[str | None, str | None]:
    """(the only MNC, all of several) of ``detail.mnc``: a list of objects, of texts, or one text."""
    found: list[str] = []
    for entry in listed if isinstance(listed, list) else [listed]:
        code = entry.get("mnc") if isinstance(entry, dict) else entry
        if isinstance(code, int) and not isinstance(code, bool):
            code = str(code).zfill(_MNC_DIGITS)
        if isinstance(code, str) and code and code not in found:
            found.append(code)
    if len(found) > 1:
        return None, ",".join(found)
    return (found[0] if found else None), None


def _operator_mncs(details: list[NetworkDetail]) -> tuple[pa.Array, pa.Array]:
    """The columns of `_mncs`; details with a PDP context have none."""
    listed = [detail.mnc for detail in details]
    if listed.count(None) == len(listed):
        return pa.nulls(len(listed), pa.string()), pa.nulls(len(listed), pa.string())
    only, several = zip(*map(_mncs, listed), strict=True)
    return _texts(only), _texts(several)


def _chunk(messages: list[memoryview]) -> pa.RecordBatch:
    """Columns of a few rows, made before their objects leave the processor's cache; volumes still as doubles."""
    details = _decode(messages)
    contexts = [detail.pdp_context or _NO_CONTEXT for detail in details]
    countries = [detail.country or _NO_COUNTRY for detail in details]
    amounts = [detail.volume or _NO_VOLUME for detail in details]
    mncs = _operator_mncs(details)
    columns = {
        "operator_id": _integers([detail.id for detail in details], pa.int64()),
        "operator_name": _texts([detail.name for detail in details]),
        "operator_mnc": mncs[0],
        "operator_mncs": mncs[1],
        "country": _texts([country.name for country in countries]),
        "country_mcc": _codes([country.mcc for country in countries], _MCC_DIGITS),
        "session_id": _texts([detail.session_id for detail in details]),
        "session_start": _texts([context.tunnel_created for context in contexts]),
        "gtp_version": _integers([context.gtp_version for context in contexts], pa.int32()),
        "region": _texts([context.region for context in contexts]),
        "breakout_ip": _texts([context.breakout_ip for context in contexts]),
        "apn": _texts([context.apn for context in contexts]),
        "imsi": _texts([context.imsi for context in contexts]),
        "mcc": _codes([context.mcc for context in contexts], _MCC_DIGITS),
        "mnc": _codes([context.mnc for context in contexts], _MNC_DIGITS),
        "lac": _integers([context.lac for context in contexts], pa.int64()),
        "ci": _integers([context.ci for context in contexts], pa.int64()),
        "rat_type": _integers([context.rat_type for context in contexts], pa.int32()),
        "volume_rx": pa.array([amount.rx for amount in amounts], pa.float64()),
        "volume_tx": pa.array([amount.tx for amount in amounts], pa.float64()),
        "volume_total": pa.array([amount.total for amount in amounts], pa.float64()),
    }
    return pa.RecordBatch.from_pydict(columns)


def network_columns(detail: pa.Array, rows: Integers) -> dict[str, pa.Array]:
    """Decodes the details of the chosen rows (none of them null, at least one), in the order of `rows`.

    Columns: operator_id, operator_name, mcc, mnc, operator_mncs, country, apn, region, breakout_ip, gtp_version, lac,
    ci, rat_type, imsi, session_id, session_start, volume_rx, volume_tx, volume_total.
    """
    starts = range(0, len(rows), _CHUNK)
    whole = pa.concat_batches([_chunk(slices(detail, rows[start : start + _CHUNK])) for start in starts])
    columns: dict[str, pa.Array] = dict(zip(whole.schema.names, whole.columns, strict=True))
    columns["mcc"] = pc.coalesce(columns["mcc"], columns.pop("country_mcc"))
    listed = columns["operator_mncs"]
    columns["operator_mncs"] = pc.if_else(columns["mnc"].is_null(), listed, pa.scalar(None, pa.string()))
    columns["mnc"] = pc.coalesce(columns["mnc"], columns.pop("operator_mnc"))
    columns["session_start"] = times(columns["session_start"])
    for name in ("rx", "tx", "total"):
        received = partial(_volume_as_received, detail, rows, name)
        columns[f"volume_{name}"] = volumes(columns[f"volume_{name}"], received)
    return columns


def _volume_as_received(detail: pa.Array, rows: Integers, name: str, position: int) -> object:
    fields = object_or_empty(untyped(slices(detail, rows[position : position + 1])[0], _EXACT))
    return object_or_empty(fields.get("volume")).get(name)
