"""What a correct pipeline must find in the feed, counted from the simulator's own numbers.

Volumes and costs are whole numbers of their smallest unit throughout and become decimal texts at the end. Records count
once per id, as the winner among its copies; the winner of a conflict is decided in `simulator.dirt`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import xxhash

from simulator import catalogue, details
from simulator.catalogue import LIMIT_TYPES, SEVERITIES, TYPES, VARIANTS
from simulator.columns import HOUR, EventColumns, UsageColumns
from simulator.fleet import FIRST_ENDPOINT, Fleet
from simulator.network import COUNTRIES, OPERATOR_COUNTRY, Organisation
from simulator.options import RENDERINGS, SimulationOptions
from simulator.plan import Sessions
from simulator.renderings import CSV, EVENTS
from simulator.write import FEEDS

DEVICES_LISTED = 20_000
"""Fleets up to this size have their devices listed one by one; larger ones have a digest."""

_SUMS = ("volume_rx", "volume_tx", "volume_total", "cost", "records", "unpriced_records")
_UNITS = ("MB", "SMS")


def decimal_text(value: int, scale: int) -> str:
    """``value`` · 10^-``scale`` as a plain decimal with all its digits."""
    sign, digits = ("-" if value < 0 else ""), f"{abs(value):0{scale + 1}d}"
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}"


def _sums_json(sums: np.ndarray) -> dict[str, Any]:
    values = dict(zip(_SUMS, sums.tolist(), strict=True))
    return {
        **{name: decimal_text(values[name], 6) for name in _SUMS[:3]},
        "cost": decimal_text(values["cost"], 10) if values["records"] > values["unpriced_records"] else None,
        "records": values["records"], "unpriced_records": values["unpriced_records"],
    }  # fmt: skip


def _ordered(counts: Counter[Any]) -> dict[str, int]:
    return {str(key): counts[key] for key in sorted(counts, key=str)}


class Truth:
    """Adds up the truth over all runs and days."""

    def __init__(self, options: SimulationOptions, owners: tuple[Organisation, ...]) -> None:
        self.options = options
        self.owners = owners
        self.feeds = [Counter[str](), Counter[str]()]
        self.dead_letters = [Counter[str](), Counter[str]()]
        self.renderings = [Counter[str](), Counter[str]()]
        self.hours = [Counter[int](), Counter[int]()]
        # [organisation, country, unit, sum] and [device of the fleet, unit, sum]: whole numbers below 2^63.
        self._usage = np.zeros((len(owners), len(COUNTRIES), len(_UNITS), len(_SUMS)), np.int64)
        self._devices = np.zeros((0, len(_UNITS), len(_SUMS)), np.int64)
        self._device_events = np.zeros((0, 2), np.int64)
        self._active = 0
        self._digest = xxhash.xxh3_128()
        self._by_endpoint: dict[str, Any] = {}
        self._events = np.zeros((len(VARIANTS), len(SEVERITIES), 2), np.int64)
        self._event_owners = np.zeros(len(owners), np.int64)
        self._sessions = Counter[str]()
        self._logins = Counter[tuple[str, str]]()
        self._limits: dict[int, set[int]] = {}

    def begin_fleet(self, fleet: Fleet) -> None:
        """Call before the first records of a run of devices; those of the run before must have been ended."""
        self._devices = np.zeros((len(fleet), len(_UNITS), len(_SUMS)), np.int64)
        self._device_events = np.zeros((len(fleet), 2), np.int64)

    def end_fleet(self, fleet: Fleet) -> None:
        """Call after the last records of a run of devices."""
        active = np.flatnonzero(self._devices[:, :, 4].any(1) | (self._device_events[:, 0] > 0))
        sums = self._devices[active].reshape(len(active), -1)
        table = np.concatenate([fleet.endpoint_id[active, None], sums, self._device_events[active]], 1)
        self._digest.update("".join(f"{','.join(map(str, row))}\n" for row in table.tolist()).encode())
        self._active += len(active)
        if self.options.devices <= DEVICES_LISTED:
            for place in active.tolist():
                self._by_endpoint[str(fleet.endpoint_id[place])] = self._device_json(fleet, place)

    def _device_json(self, fleet: Fleet, place: int) -> dict[str, Any]:
        events, alerts = self._device_events[place].tolist()
        owner = self.owners[fleet.organisation[place]]
        sums = self._devices[place]
        units = {text: _sums_json(sums[unit]) for unit, text in enumerate(_UNITS) if sums[unit, 4]}
        return {
            "organisation_id": owner.id, "currency": owner.currency, "events": events, "alerts": alerts, "usage": units,
        }  # fmt: skip

    def add_usage(self, rows: UsageColumns, fleet: Fleet) -> None:
        """Counts usage records, one row per id."""
        priced = rows.cost >= 0
        values = np.stack(
            [rows.rx, rows.tx, rows.rx + rows.tx, np.where(priced, rows.cost, 0), np.ones_like(rows.rx), ~priced], 1
        )
        unit = rows.sms.astype(np.int64)
        country = OPERATOR_COUNTRY[rows.operator]
        np.add.at(self._usage, (fleet.organisation[rows.device], country, unit), values)
        np.add.at(self._devices, (rows.device, unit), values)
        self._add_hours(1, rows.time)

    def add_events(self, rows: EventColumns, rendering: np.ndarray, fleet: Fleet, sessions: Sessions) -> None:
        """Counts events, one row per id; those that are only there as CSV have neither text nor detail nor alert."""
        bare = rendering == CSV
        np.add.at(self._events, (rows.variant, rows.severity, bare.astype(np.int64)), 1)
        np.add.at(self._event_owners, rows.organisation, 1)
        alert = np.array([item.alert for item in VARIANTS])[rows.variant] & ~bare
        on_device = rows.device >= 0
        ones = np.ones(int(on_device.sum()), np.int64)
        np.add.at(self._device_events, rows.device[on_device], np.stack([ones, alert[on_device]], 1))
        self._add_hours(EVENTS, rows.time)
        self._add_sessions(rows, bare)
        types = np.array([item.type_id for item in VARIANTS])[rows.variant]
        for place in np.flatnonzero(np.isin(types, LIMIT_TYPES)).tolist():
            device = FIRST_ENDPOINT + fleet.first + int(rows.device[place])
            self._limits.setdefault(device, set()).add(int(types[place]))
        for place in np.flatnonzero(np.isin(types, (6, 7))).tolist():
            salt = int(rows.salt[place])
            name = details.user_name(salt) if types[place] == 6 else details.application_name(salt)
            self._logins[name, details.address(salt)] += 1

    def _add_sessions(self, rows: EventColumns, bare: np.ndarray) -> None:
        created, deleted = (rows.variant == kind for kind in (catalogue.CREATE, catalogue.DELETE))
        ended = rows.take(deleted & ~bare)
        self._sessions["created"] += int((created & ~bare).sum())
        self._sessions["deleted"] += len(ended)
        self._sessions["seconds"] += int(((ended.time - ended.session_start) // 1_000_000).sum())
        self._sessions["volume_rx"] += int(ended.rx.sum())
        self._sessions["volume_tx"] += int(ended.tx.sum())

    def _add_hours(self, feed: int, times: np.ndarray) -> None:
        hours, counts = np.unique(times // HOUR, return_counts=True)
        self.hours[feed].update(dict(zip(hours.tolist(), counts.tolist(), strict=True)))

    def as_json(self, files: Counter[str]) -> dict[str, Any]:
        """The whole truth, in the form of ``truth.json``. Volumes and costs are decimal texts.

        ``feeds`` counts records by their kind, faulty and empty lines by the feed of their file. ``renderings`` are
        those of the files (an odd current record may be taken for another), ``hours`` count unique records by their
        time, ``files`` all lines, array elements or rows, faulty and empty ones included.
        """
        return {
            "options": self.options.as_json(),
            "feeds": {name: self._feed_json(feed) for feed, name in enumerate(FEEDS)},
            "usage": self._usage_json(),
            "events": self._events_json(),
            "sessions": self._sessions_json(),
            "failed_logins": [
                {"user": user, "source_ip": address, "events": self._logins[user, address]}
                for user, address in sorted(self._logins)
            ],
            "limits": self._limits_json(),
            "devices": self._devices_json(),
            "files": dict(sorted(files.items())),
        }

    def _feed_json(self, feed: int) -> dict[str, Any]:
        counts = self.feeds[feed]
        dead = sum(self.dead_letters[feed].values())
        decoded = counts["unique"] + counts["duplicates"] + counts["conflicts"]
        return {
            "received": decoded + dead + counts["empty"], "empty": counts["empty"], "dead_lettered": dead,
            "dead_letters": _ordered(self.dead_letters[feed]), "decoded": decoded, "duplicates": counts["duplicates"],
            "conflicts": counts["conflicts"], "unique": counts["unique"], "late": counts["late"],
            "misplaced": counts["misplaced"],
            "renderings": {name: self.renderings[feed][name] for name in RENDERINGS},
            "hours": {
                f"{np.datetime64(hour, 'h')}:00:00Z": self.hours[feed][hour] for hour in sorted(self.hours[feed])
            },
        }  # fmt: skip

    def _usage_json(self) -> dict[str, Any]:
        currencies = sorted({owner.currency for owner in self.owners})

        def groups(axis: int, names: list[tuple[str, Any]]) -> list[dict[str, Any]]:
            rows = []
            for place, name in enumerate(names):
                for currency in currencies:
                    billed = [owner.currency == currency for owner in self.owners]
                    # Organisations that bill in another currency count as nothing.
                    kept = np.where(np.array(billed)[:, None, None, None], self._usage, 0)
                    sums = kept.take(place, axis).sum(0) if axis < 2 else kept.sum((0, 1))
                    for unit, text in enumerate(_UNITS):
                        if sums[unit, 4]:
                            key = {name[0]: name[1]} if name[0] else {}
                            rows.append({**key, "currency": currency, "unit": text, **_sums_json(sums[unit])})
            return rows

        return {
            "totals": groups(2, [("", None)]),
            "by_country": groups(1, [("country_iso", country.iso) for country in COUNTRIES]),
            "by_organisation": groups(0, [("organisation_id", owner.id) for owner in self.owners]),
        }

    def _events_json(self) -> dict[str, Any]:
        by: dict[str, Counter[Any]] = {
            name: Counter()
            for name in ("category", "severity", "outcome", "reason", "reason_domain", "event_type_id", "source")
        }
        alerts = 0
        for kind, severity, bare in np.argwhere(self._events).tolist():
            count, item = int(self._events[kind, severity, bare]), VARIANTS[kind]
            outcome, reason, domain = item.without_text() if bare else (item.outcome, item.reason, item.domain)
            values = {
                "category": TYPES[item.type_id][1], "severity": SEVERITIES[severity], "outcome": outcome,
                "reason": reason,
                "reason_domain": domain, "event_type_id": item.type_id,
                "source": ("network", "policy_control", "api")[item.source],
            }  # fmt: skip
            alerts += count if item.alert and not bare else 0
            for name, value in values.items():
                if value is not None:
                    by[name][value] += count
        owners = {
            str(owner.id): int(count) for owner, count in zip(self.owners, self._event_owners, strict=True) if count
        }
        return {"total": int(self._events.sum()), "alerts": alerts, **{f"by_{name}": _ordered(counts) for name,
                counts in by.items()},
                "by_organisation": owners}  # fmt: skip

    def _sessions_json(self) -> dict[str, Any]:
        volumes = {name: decimal_text(self._sessions[name], 6) for name in ("volume_rx", "volume_tx")}
        total = decimal_text(self._sessions["volume_rx"] + self._sessions["volume_tx"], 6)
        return {
            "about": "sessions that events 3 and 5 name; those that are only there as CSV have no session id",
            "created": self._sessions["created"], "deleted": self._sessions["deleted"],
            "seconds": self._sessions["seconds"],
            **volumes, "volume_total": total,
        }  # fmt: skip

    def _limits_json(self) -> dict[str, Any]:
        listed = dict(sorted(self._limits.items())) if len(self._limits) <= DEVICES_LISTED else {}
        return {
            "event_types": list(LIMIT_TYPES),
            "devices": len(self._limits),
            "event_types_by_endpoint": {str(device): sorted(types) for device, types in listed.items()},
        }

    def _devices_json(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "active": self._active,
            "digest": "xxh3_128:" + self._digest.hexdigest(),
            "digest_of": "per device by id a line of whole numbers, comma separated: endpoint_id; of data rx, tx, "
            "total (10^-6), cost (10^-10), records, unpriced; the same of SMS; events; alerts",
        }
        if self.options.devices <= DEVICES_LISTED:
            result["by_endpoint"] = self._by_endpoint
        return result
