"""Devices: which kind they are of, who owns them, and the parts of a record that stay the same for a device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.network import OPERATORS, Organisation, organisations

FIRST_ENDPOINT = 10_000_000
_FIRST_SIM = 2_400_000
_FIRST_IMSI = 6_400_000


@dataclass(frozen=True)
class Cadence:
    """How a kind of device behaves in a day.

    Attributes:
      name: of the kind, part of the device's name.
      share: of 20 devices, how many are of the kind.
      sessions: data sessions a day.
      seconds: mean length of a session.
      deltas: mean usage records of a session.
      volume: mean MB of a usage record.
      roams: share of the sessions in another than the home network.
      attaches: share of the sessions that begin with an attach in the packet domain.
      messages: share of the sessions in which an SMS is sent.
      rat: usual radio technology (3GPP TS 29.274): 1 3G, 2 2G, 6 4G, 8 NB-IoT.
    """

    name: str
    share: int
    sessions: int
    seconds: float
    deltas: float
    volume: float
    roams: float
    attaches: float
    messages: float
    rat: int


CADENCES = (
    Cadence("meter", 9, 4, 150, 1.3, 0.004, 0.01, 0.3, 0.02, 8),
    Cadence("tracker", 5, 24, 2400, 4.0, 0.02, 0.4, 0.35, 0.02, 6),
    Cadence("camera", 2, 4, 18000, 40.0, 4.5, 0.0, 0.5, 0.0, 6),
    Cadence("vending", 4, 8, 700, 2.5, 0.11, 0.02, 0.2, 0.04, 1),
)
# Kinds in the order in which devices take them, mixed so that any run of 20 devices has all.
_PATTERN = np.array([0, 1, 0, 3, 0, 1, 0, 2, 0, 3, 0, 1, 0, 3, 0, 1, 0, 3, 2, 1])


@dataclass
class Fleet:
    """A run of devices; arrays have one element per device, texts are JSON parts of their records.

    ``event_parts`` is ``"endpoint":…,"sim":…,"imsi":…`` of an event, ``usage_parts`` the same of a usage record.
    """

    organisations: tuple[Organisation, ...]
    first: int
    kind: np.ndarray
    organisation: np.ndarray
    home: np.ndarray
    endpoint_id: np.ndarray
    imsi: list[str]
    imei: list[str]
    address: list[str]
    event_parts: list[str]
    usage_parts: list[str]

    def __len__(self) -> int:
        return len(self.kind)


def check_digit(digits: str) -> str:
    """The Luhn check digit of an IMEI's or ICCID's digits."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def build_fleet(seed: int, devices: int, first: int, count: int) -> Fleet:
    """Devices ``first`` to ``first + count`` of a fleet of ``devices``; the same in whatever run."""
    owners = organisations(devices)
    number = np.arange(first, first + count)
    random = np.random.default_rng([seed, 1, first])
    kind = _PATTERN[number % len(_PATTERN)]
    weights = np.array([operator.weight for operator in OPERATORS])
    home = random.choice(len(OPERATORS), size=count, p=weights / weights.sum())
    # Squared: the first organisations own more devices than the last.
    organisation = (len(owners) * random.random(count) ** 2).astype(np.int64)
    salts = random.integers(0, 10**6, size=(count, 3)).tolist()
    fleet = Fleet(owners, first, kind, organisation, home, FIRST_ENDPOINT + number, [], [], [], [], [])
    for place, device in enumerate(number.tolist()):
        _add_texts(fleet, place, device, salts[place])
    return fleet


def _add_texts(fleet: Fleet, place: int, device: int, salt: list[int]) -> None:
    kind = CADENCES[fleet.kind[place]].name
    imsi = f"90143{device:010d}"
    serial = f"86{salt[0]:06d}{device % 1_000_000:06d}"
    # Every third device sends the 16 digits of an IMEISV, the others the 15 of an IMEI.
    imei = f"{serial}{salt[1] % 100:02d}" if device % 3 == 0 else serial + check_digit(serial)
    digits = f"898830300{device:010d}"
    iccid = digits if device % 4 == 0 else digits + check_digit(digits)
    address = f"10.{192 + (device >> 16) % 64}.{(device >> 8) & 255}.{device & 255}"
    tags = "null" if device % 5 == 0 else f'"{kind}, {("north", "south", "depot")[salt[2] % 3]}"'
    year, month, day = 2018 + salt[0] % 7, 1 + salt[1] % 12, 1 + salt[2] % 28
    made = f"{year}-{month:02d}-{day:02d}T{salt[0] % 24:02d}:{salt[1] % 60:02d}:{salt[2] % 60:02d}Z"
    endpoint = (
        f'{{"id":{FIRST_ENDPOINT + device},"name":"{kind} {device:06d}","ip_address":"{address}","tags":{tags},'
        f'"imei":"{imei}"'
    )
    sim = f'{{"id":{_FIRST_SIM + device},"iccid":"{iccid}","msisdn":"42366{device:010d}","production_date":"{made}"}}'
    imsi_id = _FIRST_IMSI + device
    fleet.imsi.append(imsi)
    fleet.imei.append(imei)
    fleet.address.append(address)
    fleet.event_parts.append(
        f'"endpoint":{endpoint}}},"sim":{sim},"imsi":{{"id":{imsi_id},"imsi":"{imsi}","import_date":"{made}"}}'
    )
    fleet.usage_parts.append(f'"endpoint":{endpoint},"balance":null}},"sim":{sim},"imsi":"{imsi}","imsi_id":{imsi_id}')
