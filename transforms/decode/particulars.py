"""What single fields of events and usage need beyond their columns: texts that differ from the catalogue's, times that
decide, renderings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.lookups import CURRENCIES, RATS
from schemas.records import LEGACY, REST
from schemas.tables import TEXT
from transforms.decode.faults import Fault, json_path

if TYPE_CHECKING:
    from transforms.decode.columns import Builder

Path = tuple[str, ...]

SEVERITY_TEXTS = {(0, "INFO"), (1, "WARN"), (2, "CRITICAL"), (0, "Info"), (1, "Warn"), (2, "Critical"), (None, None)}
SOURCE_TEXTS = {(0, "Network"), (1, "Policy Control"), (2, "API"), (None, None)}
TRAFFIC_TEXTS = {(5, "Data"), (6, "SMS")}
"""Ids with the text that rendering gives back for them; other pairs are kept in ``extra``."""
LOGIN_TYPES = (6, 7)
"""Event types whose text names the user."""

_REST_SEVERITIES = pa.array(["Info", "Warn", "Critical"])


def finish_events(builder: Builder, texts: dict[str, pa.StringArray], renderings: np.ndarray) -> None:
    """Checks the deciding time and finds the renderings of events; ``texts`` are the times as received."""
    builder.require_time("event_time", "timestamp")
    renderings[builder.legacy] = LEGACY
    if "severity_received" in builder.arrays:
        rest = pc.is_in(builder.arrays["severity_received"], value_set=_REST_SEVERITIES)
        rows = rest.to_numpy(zero_copy_only=False)
        renderings[rows] = np.maximum(renderings[rows], REST)
    builder.renderings_by_time(renderings, texts["event_time"])


def finish_usage(builder: Builder, texts: dict[str, pa.StringArray], renderings: np.ndarray) -> None:
    """Checks the deciding time and finds the renderings of usage; ``texts`` are the times as received."""
    starts, ends = texts["start_time"], texts["end_time"]
    builder.require_time("end_time", "end_timestamp")
    builder.renderings_by_time(renderings, pc.coalesce(ends, starts))
    if not ends.null_count:
        return
    open_rows = ends.is_null().to_numpy(zero_copy_only=False)
    builder.require_time("start_time", "start_timestamp", open_rows)
    for row in np.flatnonzero(open_rows & starts.is_null().to_numpy(zero_copy_only=False)).tolist():
        message = "expected end_timestamp or start_timestamp, found neither"
        builder.faults[row] = Fault("missing_field", message, json_path("end_timestamp"))


def _severity(builder: Builder, values: dict[str, Sequence[Any]]) -> None:
    builder.keep_texts(("event_severity",), values, SEVERITY_TEXTS)


def _source(builder: Builder, values: dict[str, Sequence[Any]]) -> None:
    names = values["name"]
    if any(name is not None for name in names):
        texts = list(values["description"])
        for row, name in enumerate(names):
            if name is not None:
                builder.legacy.append(builder.base + row)
                if texts[row] is not None:
                    builder.note(builder.base + row, ("event_source", "name"), name)
                texts[row] = name if texts[row] is None else texts[row]
        values = {**values, "description": texts}
        builder.parts["source_received"][-1] = pa.array(texts, TEXT)
    builder.keep_texts(("event_source",), values, SOURCE_TEXTS)


def _user(builder: Builder, values: dict[str, Sequence[Any]]) -> None:
    """Keeps names of users that rendering would leave out or add, because the texts of log-ins carry them too."""
    users, kinds = values["user"], builder.shared.fields["event_type"].objects
    if not any(users):
        return
    for row in [row for row, user in enumerate(users) if user is not None]:
        user = users[row]
        kind = kinds[builder.numbers[-1][0, row]]  # the event type is the first of the shared fields
        alone = user.id is None and user.name is None
        if kind is not None and kind.id in LOGIN_TYPES and alone != (user.username is None):
            builder.note(builder.base + row, ("user", "username"), user.username)


def _technology(builder: Builder, values: dict[str, Sequence[Any]]) -> None:
    """Keeps radio access technologies for which tables have no name."""
    unknown = set(values["rat_type"]) - {*RATS, None}
    if unknown:
        for row, number in enumerate(values["rat_type"]):
            if number in unknown:
                builder.note(builder.base + row, ("rat_type",), number)


def _traffic_type(builder: Builder, values: dict[str, Sequence[Any]]) -> None:
    builder.keep_texts(("traffic_type",), values, TRAFFIC_TEXTS)


def _currency(builder: Builder, values: dict[str, Sequence[Any]]) -> None:
    """Keeps that a known currency came without its code: tables fill it in."""
    if None not in values["code"]:
        return
    for row, (number, code) in enumerate(zip(values["id"], values["code"], strict=True), builder.base):
        if code is None and number in CURRENCIES and row not in builder.flat:
            builder.note(row, ("currency", "code"), None)


SPECIAL: dict[tuple[int, Path], Callable[[Builder, dict[str, Sequence[Any]]], None]] = {
    (0, ()): _user,
    (0, ("event_severity",)): _severity,
    (0, ("event_source",)): _source,
    (1, ()): _technology,
    (1, ("traffic_type",)): _traffic_type,
    (1, ("currency",)): _currency,
}
"""What some objects need beyond their columns, chunk by chunk, by kind and path."""
