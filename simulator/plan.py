"""What a run of devices does in a day: sessions, their usage and the events around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from simulator import catalogue
from simulator.columns import DAY, SECOND, EventColumns, UsageColumns
from simulator.fleet import CADENCES, Fleet, build_fleet
from simulator.network import OPERATORS, ZONE
from simulator.options import SimulationOptions

Rows = TypeVar("Rows", UsageColumns, EventColumns)

_FIRST_ID = 10_600_000_000_000
_IDS_OF_A_DAY = 1 << 24

_PURGES = 0.06
_ATTACH_REJECTIONS = 0.02
_PDP_REJECTIONS = 0.012
_UPDATES = 0.01
_CIRCUIT_ATTACHES = 0.25  # of the packet attaches, how many come with one in the circuit domain
_RARE_EVENTS = 0.15  # a device and day


@dataclass
class Sessions:
    """Data sessions, one element each; ``text`` is the session's UUID."""

    device: np.ndarray
    start: np.ndarray
    end: np.ndarray
    deltas: np.ndarray
    operator: np.ndarray
    rat: np.ndarray
    volume: np.ndarray
    text: list[str]

    def __len__(self) -> int:
        return len(self.device)


@dataclass
class DayPlan:
    """All that happens on a day that a run of devices begins, cut off at the end of the simulation."""

    sessions: Sessions
    usage: UsageColumns
    events: EventColumns


def plan_day(options: SimulationOptions, fleet: Fleet, run: int, day: int) -> DayPlan:
    """The plan of run number ``run`` on day number ``day``; rows are sorted by time, ids rise with it."""
    random = np.random.default_rng([options.seed, 2, run, day])
    first = int(np.datetime64(options.start, "us").astype(np.int64))
    begin, end = first + day * DAY, first + options.days * DAY
    sessions = _plan_sessions(random, fleet, begin)
    usage, rx, tx = _session_usage(random, fleet, sessions)
    usage = UsageColumns.concatenate([usage, _messages(random, fleet, sessions)])
    _price(random, fleet, usage, options.unpriced)
    events = EventColumns.concatenate(
        [
            *_session_events(random, fleet, sessions, rx, tx, complete=run == 0 and day == 0),
            _rare_events(random, fleet, begin, complete=run == 0 and day == 0),
        ]
    )
    number = _FIRST_ID + (run * options.days + day) * _IDS_OF_A_DAY
    return DayPlan(sessions, _in_order(usage, first, end, number), _in_order(events, first, end, number))


def records_per_device_day(options: SimulationOptions | None = None) -> float:
    """Unique records, events and usage, of a device on the day of a one-day simulation: for choosing ``devices``."""
    options = options or SimulationOptions()
    sample = SimulationOptions(devices=2000, seed=options.seed, start=options.start)
    plan = plan_day(sample, build_fleet(sample.seed, sample.devices, 0, sample.devices), 1, 0)
    return (len(plan.usage) + len(plan.events)) / sample.devices


def _in_order(rows: Rows, begin: int, end: int, number: int) -> Rows:
    rows = rows.take(rows.time < end)
    rows.time[:] = np.maximum(rows.time, begin)
    rows = rows.take(np.argsort(rows.time, kind="stable"))
    rows.id[:] = number + np.arange(len(rows))
    return rows


def _plan_sessions(random: np.random.Generator, fleet: Fleet, begin: int) -> Sessions:
    kind = fleet.kind
    count = np.array([cadence.sessions for cadence in CADENCES])[kind]
    device = np.repeat(np.arange(len(fleet)), count)
    place = np.arange(len(device)) - np.repeat(np.cumsum(count) - count, count)
    of_session = kind[device]
    period = DAY // np.array([cadence.sessions for cadence in CADENCES])[of_session]
    length = np.array([cadence.seconds for cadence in CADENCES])[of_session] * random.lognormal(0, 0.4, len(device))
    # A session fills at most nine tenths of its period, so that sessions of a device never overlap.
    length = np.minimum(np.maximum(length, 10).astype(np.int64) * SECOND, period * 9 // 10 // SECOND * SECOND)
    slack = period - length
    start = begin + place * period + (random.random(len(device)) * slack).astype(np.int64) // SECOND * SECOND
    mean = np.array([cadence.deltas for cadence in CADENCES])[of_session]
    deltas = 1 + random.poisson(mean - 1)
    roams = random.random(len(device)) < np.array([cadence.roams for cadence in CADENCES])[of_session]
    operator = np.where(roams, random.integers(0, len(OPERATORS), len(device)), fleet.home[device])
    usual = np.array([cadence.rat for cadence in CADENCES])[of_session]
    rat = np.where(random.random(len(device)) < 0.05, 2, usual)
    volume = np.array([cadence.volume for cadence in CADENCES])[of_session]
    return Sessions(device, start, start + length, deltas, operator, rat, volume, _uuids(random, len(device)))


def _uuids(random: np.random.Generator, count: int) -> list[str]:
    raw = np.frombuffer(random.bytes(16 * count), np.uint8).reshape(count, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    text = raw.tobytes().hex()
    digits = [text[at : at + 32] for at in range(0, 32 * count, 32)]
    return [f"{item[:8]}-{item[8:12]}-{item[12:16]}-{item[16:20]}-{item[20:]}" for item in digits]


def _session_usage(
    random: np.random.Generator, fleet: Fleet, sessions: Sessions
) -> tuple[UsageColumns, np.ndarray, np.ndarray]:
    """Usage deltas of all sessions, and rx and tx of each session as the sums of its deltas."""
    count = sessions.deltas
    session = np.repeat(np.arange(len(sessions)), count)
    first = np.cumsum(count) - count
    place = np.arange(len(session)) - first[session]
    last = place == count[session] - 1
    begin, length = sessions.start[session], (sessions.end - sessions.start)[session]
    # Cuts lie jittered around equal steps (at most a third of one off), so that they rise; the last is the end.
    share = (place + 1 + np.where(last, 0, (random.random(len(session)) - 0.5) * 0.6)) / count[session]
    cut = (share * length / 1000).astype(np.int64) * 1000
    cut = np.where(random.random(len(session)) < 0.7, cut // SECOND * SECOND, cut)
    end = begin + np.where(last, length, cut)
    start = np.where(place == 0, begin, np.roll(end, 1))
    volume = (sessions.volume[session] * 1e6 * random.lognormal(0, 0.8, len(session))).astype(np.int64) + 40
    down = (volume * random.beta(4, 2, len(session))).astype(np.int64)
    rx, tx = down, volume - down
    empty = np.zeros(len(session), np.int64)
    device = sessions.device[session]
    usage = UsageColumns(empty.copy(), start, end, device, sessions.operator[session], session,
                         np.zeros(len(session), bool), rx, tx, empty)  # fmt: skip
    return usage, np.add.reduceat(rx, first), np.add.reduceat(tx, first)


def _messages(random: np.random.Generator, fleet: Fleet, sessions: Sessions) -> UsageColumns:
    share = np.array([cadence.messages for cadence in CADENCES])[fleet.kind[sessions.device]]
    chosen = np.flatnonzero(random.random(len(sessions)) < share)
    sent = random.integers(0, 2, len(chosen)) * SECOND
    time = sessions.start[chosen] + random.integers(0, 60, len(chosen)) * SECOND
    none = np.zeros(len(chosen), np.int64)
    return UsageColumns(none, time, time + SECOND, sessions.device[chosen], sessions.operator[chosen], chosen,
                        np.ones(len(chosen), bool), SECOND - sent, sent, none.copy())  # fmt: skip


def _price(random: np.random.Generator, fleet: Fleet, usage: UsageColumns, unpriced: float) -> None:
    owner = fleet.organisation[usage.device]
    prices = np.array([item.prices for item in fleet.organisations])
    messages = np.array([item.sms_price for item in fleet.organisations])
    # Volume in 10^-6 MB times a price in 10^-4 is a cost in 10^-10: exact.
    cost = (usage.rx + usage.tx) * prices[owner, ZONE[usage.operator] - 1]
    usage.cost[:] = np.where(usage.sms, messages[owner], cost)
    usage.cost[random.random(len(usage)) < unpriced] = -1


def _session_events(
    random: np.random.Generator, fleet: Fleet, sessions: Sessions, rx: np.ndarray, tx: np.ndarray, complete: bool
) -> list[EventColumns]:
    """Events around the sessions; ``complete``: the first session has one of each kind."""
    size = len(sessions)
    attaches = np.array([cadence.attaches for cadence in CADENCES])[fleet.kind[sessions.device]]

    def chosen(share: np.ndarray | float) -> np.ndarray:
        mask = random.random(size) < share
        mask[0] |= complete
        return np.flatnonzero(mask)

    def events(rows: np.ndarray, time: np.ndarray, variant: np.ndarray | int, volumes: bool = False) -> EventColumns:
        zero = np.zeros(len(rows), np.int64)
        variants = np.broadcast_to(variant, rows.shape).astype(np.int64)
        device = sessions.device[rows]
        severity = np.array([item.severity for item in catalogue.VARIANTS])[variants]
        return EventColumns(
            zero.copy(), time, variants, device, fleet.organisation[device], sessions.operator[rows], rows,
            sessions.start[rows], sessions.rat[rows], rx[rows] if volumes else zero.copy(),
            tx[rows] if volumes else zero.copy(),
            severity, random.integers(0, 1 << 31, len(rows)),
        )  # fmt: skip

    everyone = np.arange(size)
    packet = chosen(attaches)
    circuit = chosen(attaches * _CIRCUIT_ATTACHES)
    refused_attach, refused_session = chosen(_ATTACH_REJECTIONS), chosen(_PDP_REJECTIONS)
    updated, purged, purged_packet = chosen(_UPDATES), chosen(_PURGES / 3), chosen(_PURGES)
    after = random.integers(30, 900, size) * SECOND
    middle = (sessions.start + (sessions.end - sessions.start) // 2) // SECOND * SECOND
    return [
        events(refused_attach, sessions.start[refused_attach] - 9 * SECOND,
               _pick(random, catalogue.ATTACH_REJECTED, catalogue.FIRST_ATTACH_REJECTED, len(refused_attach))),
        events(packet, sessions.start[packet] - 4 * SECOND, catalogue.UPDATE_GPRS_LOCATION),
        events(circuit, sessions.start[circuit] - 3 * SECOND, catalogue.UPDATE_LOCATION),
        events(refused_session, sessions.start[refused_session] - 2 * SECOND,
               _pick(random, catalogue.PDP_REJECTED, catalogue.FIRST_PDP_REJECTED, len(refused_session))),
        events(everyone, sessions.start, catalogue.CREATE),
        events(updated, middle[updated], catalogue.UPDATE, volumes=False),
        events(everyone, sessions.end, catalogue.DELETE, volumes=True),
        events(purged, sessions.end[purged] + after[purged], catalogue.PURGE),
        events(purged_packet, sessions.end[purged_packet] + after[purged_packet], catalogue.PURGE_GPRS),
    ]  # fmt: skip


def _pick(random: np.random.Generator, variants: tuple[catalogue.Variant, ...], first: int, count: int) -> np.ndarray:
    weights = np.array([variant.weight for variant in variants])
    return first + random.choice(len(variants), size=count, p=weights / weights.sum())


def _rare_events(random: np.random.Generator, fleet: Fleet, begin: int, complete: bool) -> EventColumns:
    """Events of users, organisations, limits and SIM life; ``complete``: all rare and rejected variants occur."""
    variant = _pick(random, catalogue.RARE, catalogue.FIRST_RARE, int(random.poisson(_RARE_EVENTS * len(fleet))))
    if complete:
        variant = np.concatenate([np.arange(catalogue.FIRST_ATTACH_REJECTED, len(catalogue.VARIANTS)), variant])
    count = len(variant)
    has_device = np.array([item.scope == "device" for item in catalogue.VARIANTS])[variant]
    device = np.where(has_device, random.integers(0, len(fleet), count), -1)
    owner = np.where(has_device, fleet.organisation[device], random.integers(0, len(fleet.organisations), count))
    on_network = variant < catalogue.FIRST_RARE
    operator = np.where(on_network, fleet.home[device], -1)
    time = begin + random.integers(0, 86_400, count) * SECOND
    none = np.zeros(count, np.int64)
    severity = np.array([item.severity for item in catalogue.VARIANTS])[variant]
    return EventColumns(none, time, variant, device, owner, operator, np.full(count, -1), none.copy(), none.copy(),
            none.copy(),
                        none.copy(), severity, random.integers(0, 1 << 31, count))  # fmt: skip
