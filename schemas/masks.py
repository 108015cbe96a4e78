"""A stream's mask: which personal data it hides, and how. Masking comes after filtering.

Fields are named one by one or by class. `CLASSES` and `HARMLESS` together decide about every column that a stream can
carry: a column that is in neither is a mistake of ours, which a test finds.

The ids of records (``event_id``, ``usage_id``) cannot be masked: receivers tell a repeated delivery by them, dead
letters and `audit` name records by them. They number records, not persons.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, ValidationError, field_validator
from pydantic_core import InitErrorDetails

from schemas.definition import Definition, mistake, none_of
from schemas.destinations import SecretReference
from schemas.tables import STREAM_CONTENTS, TABLES

Action = Literal["drop", "truncate", "pseudonymise"]
_ACTIONS: tuple[str, ...] = ("drop", "truncate", "pseudonymise")

CLASSES: dict[str, dict[str, int]] = {
    # Leading characters that tell no single device: type allocation code, country and issuer, MCC and MNC.
    "subscriber_identifiers": {
        "endpoint_id": 0, "sim_id": 0, "sim_imsi_id": 0, "imsi_id": 0, "iccid": 7, "iccid_19": 7, "msisdn": 3,
        "imsi": 5, "sim_imsi": 5, "imei": 8, "imei_raw": 8,
    },
    "network_addresses": {"device_ip": 3, "breakout_ip": 3, "source_ip": 3, "serving_node": 3},
    "people": {"user_id": 0, "user_username": 2, "user_name": 2},
    "device_names": {"endpoint_name": 2, "tags": 2},
    "organisations": {"organisation_id": 0, "organisation_name": 2},
    "locations": {"lac": 0, "ci": 0},
    "sessions": {"session_id": 8},
    "free_texts": {"description": 0, "detail": 0, "extra": 0},
    "sources": {"source_file": 0},
}  # fmt: skip
"""Class → its columns, each with the leading characters that `truncate` keeps by default (0: it cannot be cut)."""

ADDRESSES = tuple(CLASSES["network_addresses"])
"""Columns that `truncate` cuts as IP addresses where they hold one."""

DELIVERY_IDS = ("event_id", "usage_id")
"""Never masked; see the module."""

HARMLESS = frozenset({
    # what happened, and when
    "event_time", "event_type_id", "event_type", "event_type_received", "category", "severity", "severity_inferred",
    "source", "alert", "outcome", "reason", "reason_domain", "device_state", "session_start", "session_seconds",
    "start_time", "end_time", "first_time", "last_time",
    # networks and countries: shared by all that are served there
    "operator_id", "operator_name", "mcc", "mnc", "operator_mncs", "country", "country_iso", "country_id", "rat", "apn",
    "region", "gtp_version", "breakout_id", "breakout_status",
    # types and batches of hardware, not single ones
    "tac", "sim_production_date", "imsi_import_date",
    # amounts and plans
    "volume_rx", "volume_tx", "volume_total", "unit", "traffic_type", "traffic_type_id", "cost", "currency",
    "currency_id", "currency_symbol", "tariff_id", "tariff_name", "ratezone_id", "ratezone_name", "quota_id",
    "quota_traffic_type", "quota_volume", "quota_threshold_percent", "quota_threshold_volume", "quota_status",
    "quota_action", "quota_expires", "records", "unpriced_records", "events", "alerts",
    # where the row comes from
    "hour", "writer", "pane", "byte_offset", "ingest_time", "schema_version",
})  # fmt: skip
"""Columns that no mask needs to hide: they tell no person and no device."""

CLASS_OF = {column: name for name, columns in CLASSES.items() for column in columns}
"""Column → its class."""

NUMBERS = frozenset(
    field.name
    for content in STREAM_CONTENTS
    for field in TABLES[content].schema
    if field.name in CLASS_OF and pa.types.is_integer(field.type)
)
"""Columns of `CLASSES` that hold numbers: they are dropped or pseudonymised, never cut."""


class MaskEntry(Definition):
    """What to do with some fields. A field's own entry goes before that of its class."""

    fields: tuple[str, ...] = Field(
        description=f"Columns of the content, or classes of them: {', '.join(CLASSES)}.",
        json_schema_extra={"items": {"enum": [*CLASSES, *sorted(CLASS_OF)]}, "minItems": 1},
    )
    action: Action = Field(
        description="drop: null. truncate: addresses to their network (IPv4 /24, IPv6 /48), other texts to their first "
        "characters; numbers of a class are dropped. pseudonymise: a keyed hash, the same for the same value and key."
    )
    key: SecretReference | None = Field(
        default=None, description="Where the key of pseudonymise is kept: at least 16 characters, hard to guess."
    )
    keep: int | None = Field(
        default=None, ge=1, le=64, description="Characters that truncate keeps of a text; each field has its default."
    )

    @field_validator("action", mode="before")
    @classmethod
    def _read_action(cls, given: Any) -> Any:
        if given not in _ACTIONS:
            raise none_of(given, _ACTIONS)
        return given

    @field_validator("fields", mode="before")
    @classmethod
    def _read_fields(cls, given: Any) -> tuple[str, ...]:
        mistakes: list[InitErrorDetails] = []
        for at, name in enumerate(_listed(given)):
            wrong = _wrong_name(name)
            if wrong:
                mistakes.append(mistake((at,), wrong))
        if not _listed(given):
            mistakes.append(mistake((), "names no field: give at least one field or class"))
        if mistakes:
            raise ValidationError.from_exception_data("MaskEntry", mistakes, hide_input=True)
        return tuple(_listed(given))

    @classmethod
    def mistakes_across(cls, given: Mapping[str, Any]) -> list[InitErrorDetails]:
        """Keys that the action does not have or lacks, and fields that it cannot mask."""
        action, found = given.get("action"), []
        if action == "pseudonymise" and given.get("key") is None:
            found.append(mistake(("key",), "pseudonymise needs a key: {env: NAME}, {file: PATH} or {secret_manager: …}",
                                 "missing_key"))  # fmt: skip
        found += [
            mistake((name,), f"{name} is for {owner}, not {action}", "unknown_key")
            for name, owner in (("key", "pseudonymise"), ("keep", "truncate"))
            if given.get(name) is not None and action in _ACTIONS and action != owner
        ]
        for at, name in enumerate(_listed(given.get("fields"))):
            if action == "truncate" and name in NUMBERS:
                found.append(mistake(("fields", at), f"{name} is a number and cannot be cut: drop or pseudonymise it"))
            elif action in ("truncate", "pseudonymise") and "free_texts" in (name, CLASS_OF.get(str(name))):
                text = f"{name} holds whole sentences or records: drop it, or mask what stands in it"
                found.append(mistake(("fields", at), text))
        return found


def entry_of_columns(entries: Sequence[MaskEntry]) -> dict[str, MaskEntry]:
    """Each masked column with its entry: its own, else that of its class."""
    by_class = {
        column: entry for entry in entries for name in entry.fields if name in CLASSES for column in CLASSES[name]
    }
    return by_class | {name: entry for entry in entries for name in entry.fields if name not in CLASSES}


def content_mistakes(content: str | None, given: Any, at: tuple[str | int, ...] = ()) -> list[InitErrorDetails]:
    """Fields of a mask, as written, that the content has not, and those that are named twice.

    A class may name fields that the content has not: its values also stand inside texts.

    Args:
      content: a table of `STREAM_CONTENTS`; None: any.
      given: the list of entries as written; parts with other mistakes are passed over.
      at: location of the list.
    """
    columns = {name for table in ((content,) if content else STREAM_CONTENTS) for name in TABLES[table].schema.names}
    named = {name for entry in _listed(given) for name in _listed(_of(entry, "fields")) if isinstance(name, str)}
    seen: dict[str, str] = {}
    found = []
    for number, entry in enumerate(_listed(given)):
        for place, name in enumerate(_listed(_of(entry, "fields"))):
            if not isinstance(name, str) or _wrong_name(name):
                continue
            here = (*at, number, "fields", place)
            if name in seen:
                found.append(mistake(here, f"{name} is masked by {seen[name]} too: name it once"))
            elif name not in CLASSES and name not in columns:
                found.append(mistake(here, f"{content} has no {name}: remove it"))
            elif content and (key := _merged_keys(content, name, entry, named)):
                text = f"{', '.join(key)}: rows of {content} are told apart by it: pseudonymise it"
                found.append(mistake(here, text))
            seen.setdefault(name, f"mask[{number}]")
    return found


def _of(entry: Any, name: str) -> Any:
    """A field of an entry as written, or as read."""
    return entry.get(name) if isinstance(entry, Mapping) else getattr(entry, name, None)


def _merged_keys(content: str, name: str, entry: Any, named: Collection[str]) -> list[str]:
    """Columns of an aggregate's key that an entry would make the same on rows that differ: receivers of repeated rows
    would take them for one.
    """
    table = TABLES[content]
    if table.unit == "records" or _of(entry, "action") == "pseudonymise":
        return []
    columns = [column for column in CLASSES[name] if column not in named] if name in CLASSES else [name]
    return [column for column in columns if column in table.key]


def _wrong_name(name: Any) -> str | None:
    if name in DELIVERY_IDS:
        return f"{name} cannot be masked: receivers tell a repeated record by it"
    if not isinstance(name, str) or not (name in CLASSES or name in CLASS_OF):
        harmless = name in HARMLESS if isinstance(name, str) else False
        return f"{name} tells no person and no device, and is not masked" if harmless else str(
            none_of(name, [*CLASSES, *CLASS_OF]).message()
        )  # fmt: skip
    return None


def _listed(given: Any) -> list[Any]:
    if given is None or isinstance(given, Mapping):
        return []
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
