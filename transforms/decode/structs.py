"""What the strict decoder expects: the nested form of events and usage records (current stream, REST, legacy).

Fields and types as in emnify's Data Streamer documentation. `Event` and `Usage` refuse unknown fields and other
types, so that a record which they accept has a column for everything in it; what they refuse goes to
`transforms.decode.tolerant`. The order of the fields is the order of the columns in `transforms.decode.columns`.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any, get_args

import msgspec
from msgspec import Raw, Struct

JsonNull = type(None)


class Labelled(Struct, gc=False, forbid_unknown_fields=True):
    """A required id with its text: event type, traffic type."""

    id: int
    description: str | None = None


class Severity(Struct, gc=False, forbid_unknown_fields=True):
    """Severity: 0 info, 1 warn, 2 critical."""

    id: int | None = None
    description: str | None = None


class Source(Struct, gc=False, forbid_unknown_fields=True):
    """Source of an event; the legacy rendering calls its text ``name``."""

    id: int | None = None
    description: str | None = None
    name: str | None = None


class Named(Struct, gc=False, forbid_unknown_fields=True):
    """An id with a name: organisation, rate zone."""

    id: int | None = None
    name: str | None = None


class User(Struct, gc=False, forbid_unknown_fields=True):
    """The person whose credentials caused an event."""

    id: int | None = None
    username: str | None = None
    name: str | None = None


class Endpoint(Struct, gc=False, forbid_unknown_fields=True):
    """The device. ``balance`` is null in every published record."""

    id: int | None = None
    name: str | None = None
    ip_address: str | None = None
    tags: str | None = None
    imei: str | None = None
    balance: None = None


class Sim(Struct, gc=False, forbid_unknown_fields=True):
    """The SIM; ``production_date`` is a time."""

    id: int | None = None
    iccid: str | None = None
    msisdn: str | None = None
    production_date: str | None = None


class Imsi(Struct, gc=False, forbid_unknown_fields=True):
    """The SIM's most recently active IMSI; ``import_date`` is a time."""

    id: int | None = None
    imsi: str | None = None
    import_date: str | None = None


class Event(Struct, gc=False, forbid_unknown_fields=True):
    """One event."""

    id: int
    timestamp: str
    event_type: Labelled
    event_severity: Severity | None = None
    event_source: Source | None = None
    alert: bool | int | None = None
    description: str | None = None
    organisation: Named | None = None
    user: User | None = None
    endpoint: Endpoint | None = None
    sim: Sim | None = None
    imsi: Imsi | None = None
    detail: Raw = Raw()


class Volume(Struct, gc=False, forbid_unknown_fields=True):
    """Volumes of a usage record: MB of data, or number of SMS."""

    rx: float | None = None
    tx: float | None = None
    total: float | None = None


class Currency(Struct, gc=False, forbid_unknown_fields=True):
    """Currency of the cost."""

    id: int | None = None
    code: str | None = None
    symbol: str | None = None


class Country(Struct, gc=False, forbid_unknown_fields=True):
    """Visited country."""

    id: int | None = None
    mcc: str | None = None
    name: str | None = None


class Operator(Struct, gc=False, forbid_unknown_fields=True):
    """Visited operator; here ``mnc`` is one text (in events it is a list)."""

    id: int | None = None
    name: str | None = None
    mnc: str | None = None
    country: Country | None = None


class Tariff(Struct, gc=False, forbid_unknown_fields=True):
    """Tariff (data plan) and rate zone (coverage area)."""

    id: int | None = None
    name: str | None = None
    ratezone: Named | None = None


class Usage(Struct, gc=False, forbid_unknown_fields=True):
    """One usage record (CDR)."""

    id: int
    traffic_type: Labelled
    start_timestamp: str | None = None
    end_timestamp: str | None = None
    volume: Volume | None = None
    cost: float | None = None
    currency: Currency | None = None
    organisation: Named | None = None
    endpoint: Endpoint | None = None
    sim: Sim | None = None
    imsi: str | None = None
    imsi_id: int | None = None
    operator: Operator | None = None
    tariff: Tariff | None = None
    rat_type: int | None = None
    quota_id: int | None = None
    session_id: str | None = None


KINDS: tuple[type[Struct], type[Struct]] = (Event, Usage)
"""The record types by feed number."""

MARKERS = ("event_type", "traffic_type")
"""The field that only this kind has."""

SHARED: tuple[dict[str, type[Struct]], dict[str, type[Struct]]] = (
    {"event_type": Labelled, "event_severity": Severity, "event_source": Source, "organisation": Named},
    {"traffic_type": Labelled, "currency": Currency, "organisation": Named, "operator": Operator, "tariff": Tariff},
)
"""Objects that many records share, per kind. The strict decoder leaves them as JSON: each different one is decoded
once a block (`transforms.decode.shared`)."""


def _twin(struct: type[Struct], raw: Collection[str], closed: bool) -> type[Struct]:
    """The struct with some fields left as JSON; ``closed``: unknown fields of its own are refused."""
    members: list[Any] = []
    for field in msgspec.structs.fields(struct):
        kind = Raw if field.name in raw else field.type
        default = Raw() if field.name in raw else field.default
        members.append((field.name, kind) if field.required else (field.name, kind, default))
    return msgspec.defstruct(struct.__name__, members, gc=False, forbid_unknown_fields=closed)


STRICT: tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]] = (
    msgspec.json.Decoder(_twin(Event, SHARED[0], closed=True)),
    msgspec.json.Decoder(_twin(Usage, SHARED[1], closed=True)),
)
"""Decoders of records as documented. Their `SHARED` objects are not looked at yet."""


OPEN: tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]] = (
    msgspec.json.Decoder(_twin(Event, (), closed=False)),
    msgspec.json.Decoder(_twin(Usage, (), closed=False)),
)
"""Decoders of whole records that pass over unknown fields of the record itself; those of its objects are refused."""


@cache
def fields(struct: type[Struct]) -> dict[str, type[Any]]:
    """Types of a struct's fields, without ``| None``: int, str, float, bool, `Raw`, ``NoneType`` or another struct."""
    kinds: dict[str, type[Any]] = {}
    for field in msgspec.structs.fields(struct):
        alternatives = [kind for kind in get_args(field.type) if kind is not JsonNull] or [field.type]
        kinds[field.name] = alternatives[0]
    return kinds


@cache
def required(struct: type[Struct]) -> tuple[str, ...]:
    """Names of a struct's fields that every record has."""
    return tuple(field.name for field in msgspec.structs.fields(struct) if field.required)
