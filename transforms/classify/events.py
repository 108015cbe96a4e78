"""Record batches of events to rows of the table ``events``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.event_types import EVENT_TYPES, UNKNOWN_CATEGORY
from schemas.lookups import OUTCOMES, SEVERITIES
from schemas.reasons import REASON_TABLE, Reason
from schemas.tables import EVENTS, SCHEMA_VERSION
from transforms.classify import network, quota, text
from transforms.classify.columns import Integers, Mask, Spread, is_one_of, numbers, select, text_array, valid, words
from transforms.classify.detail import network_columns
from transforms.classify.identity import hours, iccid_19, imei_and_tac
from transforms.classify.outcome import (
    ACCEPTED,
    OUTCOME_VOCABULARY,
    REJECTED,
    compile_reasons,
    outcome_codes,
    reasons,
)
from transforms.classify.severity import SEVERITY_VOCABULARY, SOURCE_VOCABULARY, severity_codes, source_codes

_MICROSECONDS = 1_000_000
_NORMALISED: tuple[tuple[str, str, Callable[[pa.Array], pa.Array]], ...] = (
    ("country_iso", "mcc", network.country_iso),
    ("rat", "rat_type", network.rat),
    ("apn", "apn", network.network_part),
    ("breakout_ip", "breakout_ip", network.public_address),
)
"""Columns of the network: name, column it is made from, how."""

# Attributes of the types as columns, in the order of their ids; the last entry stands for unknown types.
_KINDS = sorted(EVENT_TYPES.values(), key=lambda kind: kind.id)
_IDS = np.array([kind.id for kind in _KINDS], np.int64)
_UNKNOWN = len(_KINDS)
_NAMES = text_array([*(kind.name for kind in _KINDS), None])
_CATEGORIES = text_array([*(kind.category for kind in _KINDS), UNKNOWN_CATEGORY])
_STATES = text_array([*(kind.device_state for kind in _KINDS), None])
_QUOTAS = text_array([*(kind.quota for kind in _KINDS), None])
_SEVERITY = np.array([*(list(SEVERITIES.values()).index(kind.severity) for kind in _KINDS), 0], np.int32)
_ATTEMPT = np.array([*(kind.outcome == "attempt" for kind in _KINDS), False])
_OUTCOME = np.array(
    [OUTCOMES.index(kind.outcome if kind.outcome in OUTCOMES else "not_applicable") for kind in _KINDS]
    + [OUTCOMES.index("not_applicable")],
    np.int32,
)
_IN_NETWORK = np.array([*(kind.category in ("network_attachment", "data_connection") for kind in _KINDS), False])
_ABOUT_QUOTA = np.array([*(kind.quota is not None for kind in _KINDS), False])
_ABOUT_BREAKOUT = np.array([*(kind.category == "cloudconnect" for kind in _KINDS), False])

_DELETE_CONTEXT = 5
_ATTACHES = (1, 2)
_LOGINS = (6, 7)
_PERCENT_IN_TEXT = (18, 20, 65)


def _type_codes(ids: Integers) -> Integers:
    codes = np.searchsorted(_IDS, ids)
    codes[codes == _UNKNOWN] = 0
    return np.where(_IDS[codes] == ids, codes, _UNKNOWN)


class _Rows:
    """Columns of the table as they become known; those that never do are null."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.count = batch.num_rows
        self._columns: dict[str, pa.Array] = {}
        self.batch = batch

    def __setitem__(self, name: str, column: pa.Array) -> None:
        self._columns[name] = column

    def __getitem__(self, name: str) -> pa.Array:
        if name not in self._columns:
            received = self.batch.column(name) if name in self.batch.schema.names else None
            kind = EVENTS.schema.field(name).type
            self._columns[name] = pa.nulls(self.count, kind) if received is None else received
        return self._columns[name]

    def add(self, spread: Spread, columns: dict[str, pa.Array]) -> None:
        """Adds columns that are known for some rows."""
        for name, column in columns.items():
            self[name] = spread(column)

    def complete(self, name: str, rows: Integers, column: pa.Array) -> None:
        """Fills in nulls of a column from values that are known for some rows."""
        if len(rows) and column.null_count < len(column):
            self[name] = pc.coalesce(self[name], Spread(rows, self.count)(column))


def event_rows(
    batch: pa.RecordBatch, writer: str, pane: int, table: tuple[Reason, ...] = REASON_TABLE
) -> pa.RecordBatch:
    """Classifies and normalises events.

    Args:
      batch: at most `PANE_ROWS` records in the schema `schemas.records.EVENT_RECORD`.
      writer: who writes the rows.
      pane: number of the writer's output for this cell.
      table: the reasons, see `schemas.reasons.load_reasons`.

    Returns:
      One row per record, in their order, in the schema of the table ``events``. No record is dropped or refused: what a
      ``detail`` or text does not hold in a known form is null.
    """
    rows = _Rows(batch)
    ids = numbers(batch.column("event_type_id"))
    codes = _type_codes(ids)
    folded = text.fold(batch.column("description"))
    severities, inferred = severity_codes(
        numbers(batch.column("severity_id")), batch.column("severity_received"), _SEVERITY[codes]
    )
    sources = source_codes(numbers(batch.column("source_id")), batch.column("source_received"))
    outcomes = outcome_codes(folded, _ATTEMPT[codes], _OUTCOME[codes], severities)

    rows["hour"] = hours(batch.column("event_time"))
    rows["event_type"] = words(codes, _NAMES)
    rows["category"] = words(codes, _CATEGORIES)
    rows["severity"] = words(severities, SEVERITY_VOCABULARY)
    rows["severity_inferred"] = pa.array(inferred)
    rows["source"] = words(sources, SOURCE_VOCABULARY)
    rows["imei"], rows["tac"] = imei_and_tac(batch.column("imei_raw"))
    rows["iccid_19"] = iccid_19(batch.column("iccid"))
    _add_network(rows, ids, codes)
    _add_from_text(rows, ids, folded, outcomes)
    _add_quota(rows, ids, codes, folded)
    _add_breakout(rows, codes)
    _add_source_address(rows, codes)

    rows["reason"], rows["reason_domain"] = reasons(
        compile_reasons(table), outcomes, ids, folded, sources, rows["breakout_status"]
    )
    rows["outcome"] = words(outcomes, OUTCOME_VOCABULARY)
    changes_state = ~_ATTEMPT[codes] | (outcomes == ACCEPTED)
    rows["device_state"] = words(np.where(changes_state, codes, _UNKNOWN), _STATES)
    _add_lineage(rows, writer, pane)
    return pa.RecordBatch.from_arrays([rows[name] for name in EVENTS.schema.names], schema=EVENTS.schema)


def _add_network(rows: _Rows, ids: Integers, codes: Integers) -> None:
    """Operator, country, session and PDP context, out of ``detail``."""
    detail = rows.batch.column("detail")
    found = quota.named_rows(detail, _IN_NETWORK[codes])
    if found.size:
        decoded, places = _decode_network(detail, found, is_one_of(ids[found], _ATTACHES))
        for name, source, normalise in _NORMALISED:
            decoded[name] = normalise(decoded[source])
        del decoded["rat_type"]
        rows.add(Spread(found, rows.count, places), decoded)
        ended = pa.array(ids == _DELETE_CONTEXT)
        rows["session_seconds"] = _seconds(rows.batch.column("event_time"), rows["session_start"], ended)
        for name in ("volume_rx", "volume_tx", "volume_total"):
            rows[name] = pc.if_else(ended, rows[name], pa.scalar(None, rows[name].type))
    rows["imsi"] = pc.coalesce(rows["imsi"], rows.batch.column("sim_imsi"))


def _decode_network(detail: pa.Array, found: Integers, attaching: Mask) -> tuple[dict[str, pa.Array], Integers]:
    """Decoded columns of the rows found, and where in them each row's values stand.

    Details of attaches hold nothing but the operator, so that few differ: each of these is decoded once.
    """
    encoded = select(detail, found[attaching]).dictionary_encode()
    distinct, others = len(encoded.dictionary), found[~attaching]
    places = np.empty(len(found), np.int32)
    places[attaching] = encoded.indices.to_numpy()
    places[~attaching] = np.arange(distinct, distinct + len(others))
    parts = []
    if distinct:
        parts.append(network_columns(encoded.dictionary, np.arange(distinct)))
    if others.size:
        parts.append(network_columns(detail, others))
    return {name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]}, places


def _seconds(end: pa.Array, start: pa.Array, ended: pa.Array) -> pa.Array:
    """Whole seconds from start to end of sessions that ended; null where the end comes first."""
    length = pc.subtract(end.cast(pa.int64()), start.cast(pa.int64()))
    known = pc.and_(ended, pc.greater_equal(length, 0))
    return pc.if_else(known, pc.divide(length, _MICROSECONDS), pa.scalar(None, pa.int64()))


def _add_from_text(rows: _Rows, ids: Integers, folded: pa.Array, outcomes: Integers) -> None:
    """What only the text holds: serving node, operator of a rejected attach, technology, user and address of logins."""
    descriptions = rows.batch.column("description")
    attaches = is_one_of(ids, _ATTACHES)
    accepted = np.flatnonzero(attaches & (outcomes == ACCEPTED))
    refused = np.flatnonzero(attaches & (outcomes == REJECTED))
    rows.complete("serving_node", accepted, text.attached_node(select(descriptions, accepted)))
    node, operator = text.refusing_node_and_operator(select(descriptions, refused))
    rows.complete("serving_node", refused, node)
    rows.complete("operator_name", refused, operator)
    naming, technology = text.rat_in_text(descriptions, folded, np.flatnonzero(attaches))
    rows.complete("rat", naming, technology)
    logins = np.flatnonzero(is_one_of(ids, _LOGINS))
    user, address = text.login_in_text(select(descriptions, logins))
    rows.complete("user_username", logins, user)
    rows.complete("source_ip", logins, address)


def _add_quota(rows: _Rows, ids: Integers, codes: Integers, folded: pa.Array) -> None:
    about = _ABOUT_QUOTA[codes]
    if not about.any():
        return
    detail = rows.batch.column("detail")
    if (found := quota.named_rows(detail, about)).size:
        rows.add(Spread(found, rows.count), quota.quota_columns(detail, found))
    rows["quota_traffic_type"] = pc.coalesce(rows["quota_traffic_type"], words(codes, _QUOTAS))
    missing = np.flatnonzero(is_one_of(ids, _PERCENT_IN_TEXT) & ~valid(rows["quota_threshold_percent"]))
    rows.complete("quota_threshold_percent", missing, text.per_cent_in_text(select(folded, missing)))


def _add_breakout(rows: _Rows, codes: Integers) -> None:
    detail = rows.batch.column("detail")
    found = quota.named_rows(detail, _ABOUT_BREAKOUT[codes])
    if found.size:
        rows.add(Spread(found, rows.count), quota.breakout_columns(detail, found))


def _add_source_address(rows: _Rows, codes: Integers) -> None:
    """``detail.sourceIp`` goes before an address in the text."""
    detail = rows.batch.column("detail")
    known = quota.named_rows(detail, ~_IN_NETWORK[codes])
    found = known[text.contains(select(detail, known), '"sourceIp"', literal=True)]
    if found.size:
        addresses = Spread(found, rows.count)(quota.source_addresses(detail, found))
        rows["source_ip"] = pc.coalesce(addresses, rows["source_ip"])


def _add_lineage(rows: _Rows, writer: str, pane: int) -> None:
    rows["writer"] = pa.repeat(writer, rows.count)
    rows["pane"] = pa.repeat(pa.scalar(pane, pa.int32()), rows.count)
    rows["source_file"] = rows.batch.column("source_file").cast(pa.string())
    rows["schema_version"] = pa.repeat(pa.scalar(SCHEMA_VERSION, pa.int32()), rows.count)
