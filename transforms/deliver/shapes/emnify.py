"""Shape ``emnify``: the nested JSON of emnify's current data streams.

A record that came in this rendering comes out with equal JSON values: numbers by value, times by instant, null equal to
absent. What the columns cannot hold is in the row's ``extra`` and is merged over the rendered record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from schemas.lookups import RATS
from transforms.deliver import text
from transforms.deliver.shapes.columns import SEVERITY_IDS, SOURCE_IDS, SOURCE_NAMES, TRAFFIC_NAMES

Tree = Mapping[str, "str | Tree"]
"""An object: its members by name, each a column or an object."""

_RAT_NUMBERS = {name: number for number, name in RATS.items()}

_SIM: Tree = {"id": "sim_id", "iccid": "iccid", "msisdn": "msisdn", "production_date": "sim_production_date"}
_ORGANISATION: Tree = {"id": "organisation_id", "name": "organisation_name"}
_ENDPOINT: Tree = {
    "id": "endpoint_id", "name": "endpoint_name", "ip_address": "device_ip", "tags": "tags", "imei": "imei_raw",
}  # fmt: skip

EVENT: Tree = {
    "id": "event_id",
    "timestamp": "event_time",
    "event_type": {"id": "event_type_id", "description": "event_type_received"},
    "event_severity": {"id": "_severity_id", "description": "_severity"},
    "event_source": {"id": "_source_id", "description": "_source"},
    "alert": "alert",
    "description": "description",
    "organisation": _ORGANISATION,
    "user": {"id": "user_id", "username": "user_username", "name": "user_name"},
    "endpoint": _ENDPOINT,
    "sim": _SIM,
    "imsi": {"id": "sim_imsi_id", "imsi": "sim_imsi", "import_date": "imsi_import_date"},
}
"""An event; ``detail``, which is JSON already, follows."""

USAGE: Tree = {
    "id": "usage_id",
    "start_timestamp": "start_time",
    "end_timestamp": "end_time",
    "traffic_type": {"id": "traffic_type_id", "description": "traffic_type"},
    "currency": {"id": "currency_id", "code": "currency", "symbol": "currency_symbol"},
    "organisation": _ORGANISATION,
    "operator": {
        "id": "operator_id",
        "name": "operator_name",
        "mnc": "mnc",
        "country": {"id": "country_id", "mcc": "mcc", "name": "country"},
    },
    "tariff": {"id": "tariff_id", "name": "tariff_name", "ratezone": {"id": "ratezone_id", "name": "ratezone_name"}},
    "endpoint": _ENDPOINT,
    "imsi": "imsi",
    "imsi_id": "imsi_id",
    "sim": _SIM,
    "session_id": "session_id",
}
"""A usage record; ``volume`` and ``cost``, whose numbers must stay exact, follow."""


def json_lines(content: str, rows: pa.RecordBatch) -> pl.Series:
    """Each row of ``events`` or ``usage`` as one JSON text in emnify's rendering."""
    frame = text.frame_of(rows)
    if frame.height == 0:
        return pl.Series(dtype=pl.String)
    if content == "usage":
        known = _Columns(_usage_words(frame))
        records = text.objects(known.members(_usage_tree(known)), _usage_numbers(known))
    else:
        known = _Columns(_event_words(frame))
        records = text.objects(known.members(EVENT), [("detail", pl.col("detail").fill_null(text.NULL))])
    return _merge_extra(known.frame.select(records).to_series(), frame.get_column("extra"))


def _event_words(frame: pl.DataFrame) -> pl.DataFrame:
    # A severity that was not received, and a user that was found in a failed login's text, are not part of the record.
    severity = pl.when(~pl.col("severity_inferred").fill_null(False)).then(pl.col("severity"))
    login_only = pl.col("user_id").is_null() & pl.col("user_name").is_null()
    in_text = pl.col("description").str.contains(pl.col("user_username"), literal=True)
    from_text = pl.col("event_type_id").is_in([6, 7]) & login_only & in_text
    return frame.with_columns(
        severity.alias("_severity"),
        _translated(severity, SEVERITY_IDS, pl.Int32).alias("_severity_id"),
        _translated(pl.col("source"), SOURCE_NAMES, pl.String).alias("_source"),
        _translated(pl.col("source"), SOURCE_IDS, pl.Int32).alias("_source_id"),
        pl.when(~from_text.fill_null(False)).then(pl.col("user_username")).alias("user_username"),
    )


def _usage_words(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(
        _translated(pl.col("traffic_type"), TRAFFIC_NAMES, pl.String).alias("traffic_type"),
        _translated(pl.col("rat"), _RAT_NUMBERS, pl.Int32).alias("_rat"),
    )


def _translated(column: pl.Expr, words: Mapping[str, Any], kind: type[pl.DataType]) -> pl.Expr:
    return column.replace_strict(words, default=None, return_dtype=kind)


class _Columns:
    """A frame with what rendering asks of each column, found once: its type, and how many values are missing."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self._kinds = dict(frame.schema)
        self._missing = {column.name: column.null_count() for column in frame}

    def members(self, tree: Tree) -> list[pl.Expr]:
        """An object's members as named expressions; an object without any value is null."""
        members: list[pl.Expr] = []
        for name, member in tree.items():
            if isinstance(member, str):
                value = text.encodable(member, self._kinds[member])
            elif self.never(*_columns(member)):
                value = pl.lit(None, pl.String)
            else:
                value = self.where_any(_columns(member), pl.struct(self.members(member)))
            members.append(value.alias(name))
        return members

    def never(self, *columns: str) -> bool:
        """Whether no row has a value in any of the columns."""
        return all(self._missing[column] == self.frame.height for column in columns)

    def where_any(self, columns: Sequence[str], value: pl.Expr) -> pl.Expr:
        """A value on the rows where one of the columns has one, else null."""
        if any(self._missing[column] == 0 for column in columns):
            return value
        return pl.when(pl.any_horizontal([pl.col(column).is_not_null() for column in columns])).then(value)


def _columns(tree: Tree) -> list[str]:
    found: list[str] = []
    for member in tree.values():
        found += [member] if isinstance(member, str) else _columns(member)
    return found


def _usage_tree(known: _Columns) -> Tree:
    """Members that emnify's current usage records do not have are shown only in batches that carry them."""
    rare = {"rat_type": "_rat", "quota_id": "quota_id"}
    return {**USAGE, **{member: column for member, column in rare.items() if not known.never(column)}}


def _usage_numbers(known: _Columns) -> list[tuple[str, pl.Expr]]:
    volume = pl.concat_str(
        pl.lit('{"total":'), text.number("volume_total"), pl.lit(',"rx":'), text.number("volume_rx"),
        pl.lit(',"tx":'), text.number("volume_tx"), pl.lit("}"),
    )  # fmt: skip
    volume = known.where_any(["volume_total", "volume_rx", "volume_tx"], volume).fill_null(text.NULL)
    return [("volume", volume), ("cost", text.number("cost"))]


def _merge_extra(lines: pl.Series, extra: pl.Series) -> pl.Series:
    places = extra.is_not_null().arg_true()
    if len(places) == 0:
        return lines
    merged = [merge(line, more) for line, more in zip(lines.gather(places), extra.gather(places), strict=True)]
    return lines.scatter(places, pl.Series(merged, dtype=pl.String))


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def merge(record: str, extra: str) -> str:
    """A JSON object with another merged over it: objects by member, all else replaced. Numbers keep their text."""
    return msgspec.json.encode(_merged(record.encode(), extra.encode())).decode()


def _merged(record: bytes | msgspec.Raw, extra: bytes | msgspec.Raw) -> dict[str, Any]:
    members: dict[str, Any] = dict(_OBJECT.decode(record))
    for name, more in _OBJECT.decode(extra).items():
        both_objects = bytes(more)[:1] == b"{" and name in members and bytes(members[name])[:1] == b"{"
        members[name] = _merged(members[name], more) if both_objects else more
    return members
