"""The operators that devices roam in, and the organisations that own them.

MCC and MNC are those of ITU-T E.212; ids are ours, but for those of Germany and its operators, which are
as in emnify's published samples.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Country:
    """A country as events and usage records name it; ``iso`` is None for international networks (MCC 901)."""

    id: int
    name: str
    code: str
    mcc: str
    iso: str | None


@dataclass(frozen=True)
class Operator:
    """A visited network. ``mncs`` are all its network codes, the first is the serving one."""

    id: int
    name: str
    country: Country
    mncs: tuple[str, ...]
    tapcode: str
    weight: float

    def detail(self) -> str:
        """``detail`` of an accepted attach, as JSON text."""
        codes = ",".join(f'{{"id":{self.id * 10 + place},"mnc":"{mnc}"}}' for place, mnc in enumerate(self.mncs))
        return f'{{{self.session_detail()},"tapcode":[{{"id":{self.id},"tapcode":"{self.tapcode}"}}],"mnc":[{codes}]}}'

    def session_detail(self) -> str:
        """The operator's part of ``detail`` of a data session, as members of a JSON object."""
        return f'"id":{self.id},"name":{json.dumps(self.name)},"country":{self._country()}'

    def usage(self) -> str:
        """``operator`` of a usage record, as JSON text."""
        country = self.country
        return (
            f'{{"id":{self.id},"name":{json.dumps(self.name)},"mnc":"{self.mncs[0]}","country":'
            f'{{"id":{country.id},"mcc":"{country.mcc}","name":{json.dumps(country.name)}}}}}'
        )

    def _country(self) -> str:
        country = self.country
        iso = "null" if country.iso is None else f'"{country.iso.lower()}"'
        return (
            f'{{"id":{country.id},"name":{json.dumps(country.name)},"country_code":"{country.code}",'
            f'"mcc":"{country.mcc}","iso_code":{iso}}}'
        )


_GERMANY = Country(74, "Germany", "49", "262", "DE")
_ITALY = Country(98, "Italy", "39", "222", "IT")
_FRANCE = Country(67, "France", "33", "208", "FR")
_BRITAIN = Country(196, "United Kingdom", "44", "234", "GB")
_SPAIN = Country(173, "Spain", "34", "214", "ES")
_SWITZERLAND = Country(179, "Switzerland", "41", "228", "CH")
_AUSTRIA = Country(13, "Austria", "43", "232", "AT")
_STATES = Country(197, "United States", "1", "310", "US")
_NETHERLANDS = Country(132, "Netherlands", "31", "204", "NL")
_SWEDEN = Country(178, "Sweden", "46", "240", "SE")
_BRAZIL = Country(27, "Brazil", "55", "724", "BR")
_INTERNATIONAL = Country(230, "International", "882", "901", None)

OPERATORS: tuple[Operator, ...] = (
    Operator(2, "Telekom", _GERMANY, ("01", "06"), "DEUD1", 20),
    Operator(3, "Vodafone", _GERMANY, ("02",), "DEUD2", 16),
    Operator(5, "Telefonica O2", _GERMANY, ("07", "03"), "DEUE2", 10),
    Operator(41, "TIM", _ITALY, ("01",), "ITASI", 8),
    Operator(42, "Vodafone Italia", _ITALY, ("10",), "ITAOM", 6),
    Operator(51, "Orange", _FRANCE, ("01", "02"), "FRAF1", 7),
    Operator(52, "SFR", _FRANCE, ("10",), "FRAF2", 4),
    Operator(61, "EE", _BRITAIN, ("30", "33"), "GBRME", 6),
    Operator(71, "Movistar", _SPAIN, ("07",), "ESPTE", 5),
    Operator(81, "Swisscom", _SWITZERLAND, ("01",), "CHEC1", 4),
    Operator(91, "A1", _AUSTRIA, ("01",), "AUTPT", 4),
    Operator(101, "T-Mobile", _STATES, ("260",), "USAW6", 5),
    Operator(102, "AT&T", _STATES, ("410",), "USACG", 3),
    Operator(111, "KPN", _NETHERLANDS, ("08",), "NLDPT", 3),
    Operator(121, "Telia", _SWEDEN, ("01",), "SWETR", 2),
    Operator(131, "Vivo", _BRAZIL, ("06", "10", "11"), "BRAV1", 2),
    Operator(141, "AeroMobile", _INTERNATIONAL, ("14",), "AAZAM", 0.5),
)

COUNTRIES: tuple[Country, ...] = tuple(dict.fromkeys(operator.country for operator in OPERATORS))

OPERATOR_COUNTRY = np.array([COUNTRIES.index(operator.country) for operator in OPERATORS])
"""Index into `COUNTRIES` of each operator."""

ZONE = np.array([1 + min(2, place // 4) for place in range(len(OPERATORS))])
"""Rate zone number (1 to 3) of each operator."""


@dataclass(frozen=True)
class Organisation:
    """An owner of devices, with its tariff.

    ``prices`` are per MB by rate zone, in 10^-4 of the currency; ``sms_price`` is in 10^-10 of it.
    """

    id: int
    name: str
    currency: str
    tariff_id: int
    prices: tuple[int, int, int]
    sms_price: int

    def reference(self) -> str:
        """``organisation`` of a record, as JSON text."""
        return f'{{"id":{self.id},"name":{json.dumps(self.name, ensure_ascii=False)}}}'

    def tariff(self, zone: int) -> str:
        """``tariff`` of a usage record, as JSON text."""
        name = json.dumps(f"Data Plan {self.currency}")
        ratezone = f'{{"id":{self.tariff_id * 10 + zone},"name":"Area {zone}"}}'
        return f'{{"id":{self.tariff_id},"name":{name},"ratezone":{ratezone}}}'

    def currency_reference(self) -> str:
        """``currency`` of a usage record, as JSON text."""
        number, symbol = (1, "€") if self.currency == "EUR" else (2, "$")
        return f'{{"id":{number},"code":"{self.currency}","symbol":"{symbol}"}}'


# Names that a careless reader breaks on: umlauts, quotes, commas, mark-up.
_NAMES = (
    "Stadtwerke Nord", "Acme IoT, Inc.", "Müller & Söhne", 'Vending "24/7" GmbH', "Trackers <b>United</b>",
    "Agua Limpia S.A.",
    "Kamera Österreich", "Nordic Fleet AB",
)  # fmt: skip


def organisations(devices: int) -> tuple[Organisation, ...]:
    """The organisations of a fleet of ``devices``: at least four, two of three bill in EUR."""
    count = max(4, min(60, devices // 400))
    return tuple(
        Organisation(
            id=1200 + 7 * place,
            name=_NAMES[place % len(_NAMES)] + ("" if place < len(_NAMES) else f" {place // len(_NAMES) + 1}"),
            currency="USD" if place % 3 == 1 else "EUR",
            tariff_id=560 + place,
            prices=(61 + place, 86 + 2 * place, 1295 + 3 * place),
            sms_price=700_000_000 + 10_000_000 * (place % 5),
        )
        for place in range(count)
    )
