"""One device's timeline: signalling and usage on one time axis, with reasons and domains, and a verdict.

The question at three in the morning is *why is this device offline*, and whose turn it is: the device's, the network's
(connectivity), the account's (limits, policies, activation), the application's, or ours (platform).
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import duckdb

from warehouse.layout import WarehouseError
from warehouse.views import connect

_REMEDIES = {
    "device": "look at the device: its power, antenna, modem, SIM seat, APN and IMEI",
    "connectivity": "look at the network: coverage, the operator, its roaming agreement; another operator may "
    "accept it",
    "account": "look at the account: activation, limits, quotas, coverage policy and service profile of the device",
    "application": "look at the application side: call-back URL, VPN or cloud connection",
    "platform": "look at us: the connectivity platform itself refused or failed",
}
_REASON_REMEDIES = {
    "location_purged": "the network forgot the device: it is switched off, out of coverage, or was reset from here",
    "operator_not_supported": "noise unless it repeats: another operator or IMSI is tried next",
}
"""What to do about reasons for which the advice of their domain is too wide."""
VERDICTS = ("well", "device", "connectivity", "account", "application", "us", "unknown")
"""What a verdict can say about where the fault lies; ``us`` is the domain ``platform``."""


@dataclass(frozen=True)
class Entry:
    """One line of the timeline.

    Attributes:
      time: when it happened (usage: when the record was cut), UTC.
      kind: ``signalling`` or ``usage``.
      what: name of the event type, or the traffic type.
      network: operator, country and RAT, as far as they are known.
      outcome: accepted, rejected, failed, not_applicable; of usage null.
      reason: normalised reason, or null.
      domain: domain of the reason, or null.
      state: state that the event puts the device in, or null.
      severity: INFO, WARN or CRITICAL; of usage null.
      category: category of the event; of usage null.
      text: the event's text, or volume and cost of the usage.
    """

    time: datetime.datetime
    kind: str
    what: str
    network: str
    outcome: str | None
    reason: str | None
    domain: str | None
    state: str | None
    severity: str | None
    category: str | None
    text: str


@dataclass(frozen=True)
class Timeline:
    """A device's timeline, oldest entry first.

    Attributes:
      label: how the device is called: name, endpoint id, ICCID, IMEI.
      matched: by what it was found: endpoint id, ICCID or IMEI.
      entries: signalling and usage.
      fault: one of `VERDICTS`.
      verdict: the conclusion, one line.
    """

    label: str
    matched: str
    entries: list[Entry]
    fault: str
    verdict: str


def timeline(output: str | os.PathLike[str], key: str, limit: int | None = None) -> Timeline:
    """The timeline of one device.

    Args:
      output: the output directory.
      key: endpoint id, ICCID (19 or 20 digits) or IMEI (15 digits, or IMEISV with 16); blanks and dashes are ignored.
      limit: the most entries, the newest ones; the verdict is drawn from all.

    Raises:
      warehouse.layout.WarehouseError: no device of that key in the warehouse, or `key` is none of the three.
    """
    digits = key.replace(" ", "").replace("-", "")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 20:
        raise WarehouseError(
            f"device {key!r}: expected an endpoint id, an ICCID (19 or 20 digits) or an IMEI (15 or 16 digits)"
        )
    with connect(output) as connection:
        for matched, condition in _conditions(digits):
            label = _label(connection, condition)
            if label is not None:
                entries = _entries(connection, condition)
                fault, verdict = judge(entries)
                return Timeline(label, matched, entries[-limit:] if limit else entries, fault, verdict)
    tried = ", ".join(matched for matched, _ in _conditions(digits))
    raise WarehouseError(f"device {key}: no event and no usage record has it as {tried}; check number and directory")


def _conditions(digits: str) -> list[tuple[str, str]]:
    """What the key can be, and how rows are found by it. The key is digits only, so it can stand in the query."""
    found = []
    if len(digits) <= 18:
        found.append(("endpoint id", f"endpoint_id = {int(digits)}"))
    if len(digits) in (19, 20):
        found.append(("ICCID", f"iccid_19 = '{digits[:19]}'"))
    if len(digits) in (15, 16):
        # The last digit of an IMEI is a check digit, the last two of an IMEISV a software version: 14 digits identify.
        found.append(("IMEI", f"(imei[:14] = '{digits[:14]}' OR imei_raw = '{digits}')"))
    return found


def _label(connection: duckdb.DuckDBPyConnection, condition: str) -> str | None:
    columns = "endpoint_id, endpoint_name, iccid, imei, organisation_name"
    row = connection.execute(
        f"SELECT {columns} FROM (SELECT {columns}, event_time AS time FROM events WHERE {condition} UNION ALL "
        f"SELECT {columns}, coalesce(end_time, start_time) AS time FROM usage WHERE {condition}) ORDER BY time "
        f"DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    endpoint_id, name, iccid, imei, organisation = row
    parts = [name or "device without a name"]
    parts += [
        f"{title} {value}"
        for title, value in (("endpoint", endpoint_id), ("ICCID", iccid), ("IMEI", imei), ("of", organisation))
        if value
    ]
    return ", ".join(parts)


def _entries(connection: duckdb.DuckDBPyConnection, condition: str) -> list[Entry]:
    rows = connection.execute(
        f"""
        SELECT event_time, 'signalling', coalesce(event_type, event_type_received, 'type ' || event_type_id),
               concat_ws(' ', operator_name, country_iso, rat), outcome, reason, reason_domain, device_state, severity,
               category, coalesce(description, ''), event_id
        FROM events WHERE {condition}
        UNION ALL
        SELECT coalesce(end_time, start_time), 'usage', traffic_type, concat_ws(' ', operator_name, country_iso, rat),
               NULL, NULL, NULL, NULL, NULL, NULL,
               concat_ws(', ', volume_total || ' ' || unit, cost || ' ' || coalesce(currency, '')), usage_id
        FROM usage WHERE {condition}
        ORDER BY 1, 2, 12
        """
    ).fetchall()
    return [Entry(*_tidy(row)) for row in rows]


def _tidy(row: tuple[Any, ...]) -> tuple[Any, ...]:
    time, kind, what, network, *middle, text, _ = row
    return time, kind, what or "unknown", network or "", *middle, " ".join(text.split())


def judge(entries: list[Entry]) -> tuple[str, str]:
    """Where the fault lies, and the conclusion in one line, from a timeline in order of time.

    A trouble counts until a later sign of life clears it: traffic or an accepted data session clears all, an accepted
    attach clears what kept the device from attaching, but not a data session that was refused (a device without quota
    attaches for ever). A reason names its domain; silence after the device went offline points at the device and its
    coverage.
    """
    if not entries:
        return "unknown", "nothing is known about this device"
    connected = _last(
        entries, lambda entry: entry.kind == "usage" or (entry.outcome == "accepted" and entry.state == "online")
    )
    attached = _last(entries, lambda entry: entry.outcome == "accepted")
    alive = max(connected, attached)
    troubles = [
        entry
        for index, entry in enumerate(entries)
        if entry.reason is not None
        and entry.domain is not None
        and index > (alive if entry.category == "network_attachment" else connected)
    ]
    if troubles:
        return _blame(troubles)
    state = next((entry.state for entry in reversed(entries) if entry.state is not None), None)
    if state == "offline":
        return "device", f"device: offline since {_clock(entries[-1].time)}, no reason given; {_REMEDIES['device']}"
    if alive >= 0:
        return "well", f"well: {state or 'alive'}, last sign of life {_clock(entries[alive].time)}, no trouble after it"
    return "unknown", f"unknown: neither a sign of life nor a trouble until {_clock(entries[-1].time)}"


def _last(entries: list[Entry], test: Callable[[Entry], bool]) -> int:
    """Index of the newest entry that passes, or -1."""
    return max((index for index, entry in enumerate(entries) if test(entry)), default=-1)


def _blame(troubles: list[Entry]) -> tuple[str, str]:
    last = _decisive(troubles)
    same = [entry for entry in troubles if entry.reason == last.reason]
    fault = "us" if last.domain == "platform" else str(last.domain)
    where = f" ({last.network})" if last.network else ""
    times = "once" if len(same) == 1 else f"{len(same)} times since {_clock(same[0].time)}"
    general = _REMEDIES.get(str(last.domain), "read the text of the event")
    remedy = _REASON_REMEDIES.get(str(last.reason), general)
    return fault, f"{fault}: {last.reason}, {times}, last {_clock(last.time)} on {last.what}{where}; {remedy}"


def _decisive(troubles: list[Entry]) -> Entry:
    """The newest entry that refused, failed or blocked; else the newest with a reason (a warning, a purge)."""
    refused = [entry for entry in troubles if entry.outcome in ("rejected", "failed") or entry.state == "blocked"]
    return (refused or troubles)[-1]


def _clock(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
