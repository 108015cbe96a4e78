"""The small vocabularies of the platform: numbers and words that records carry, and the words that our tables use.

Numbers of radio access technologies are those of 3GPP TS 29.274; mobile country codes (`mcc.csv`) those of ITU-T E.212.
"""

from __future__ import annotations

import csv
from importlib import resources

SEVERITIES: dict[int, str] = {0: "INFO", 1: "WARN", 2: "CRITICAL"}
"""Severities by id, in rising order."""
SEVERITY_WORDS: dict[str, str] = {
    "info": "INFO",
    "warn": "WARN",
    "warning": "WARN",
    "critical": "CRITICAL",
}
"""Severities by text in lower case."""

SOURCES: dict[int, str] = {0: "network", 1: "policy_control", 2: "api"}
"""Event sources by id."""
SOURCE_WORDS: dict[str, str] = {
    "network": "network",
    "policy control": "policy_control",
    "policy_control": "policy_control",
    "api": "api",
}
"""Event sources by text in lower case."""

OUTCOMES: tuple[str, ...] = ("accepted", "rejected", "failed", "not_applicable")
DEVICE_STATES: tuple[str, ...] = ("attached", "online", "offline", "blocked")

RATS: dict[int, str] = {
    1: "3G",
    2: "2G",
    3: "WLAN",
    4: "GAN",
    5: "HSPA+",
    6: "4G",
    8: "NB-IoT",
    9: "CAT-M",
    10: "5G",
}
"""Radio access technologies by ``rat_type``; 0 is reserved. CAT-M mostly shows up as 6."""
RAT_WORDS: dict[str, str] = {
    "utran": "3G",
    "geran": "2G",
    "wlan": "WLAN",
    "gan": "GAN",
    "hspa_evolution": "HSPA+",
    "e_utran": "4G",
    "eutran": "4G",
    "nb_iot": "NB-IoT",
    "lte_m": "CAT-M",
    "nr": "5G",
}
"""Radio access technologies by the word that texts use, in lower case with ``_`` for any separator."""

TRAFFIC_TYPES: dict[int, str] = {5: "data", 6: "sms"}
"""Traffic types by id."""
UNITS: dict[str, str] = {"data": "MB", "sms": "SMS"}
"""Unit of the volumes of a traffic type. MB = 10^6 bytes is inferred; SMS = messages."""

CURRENCIES: dict[int, str] = {1: "EUR", 2: "USD"}
"""ISO 4217 codes by the platform's id."""

QUOTA_STATUSES: dict[int, str] = {1: "ACTIVE", 2: "EXHAUSTED", 3: "EXPIRED"}
QUOTA_ACTIONS: dict[int, str] = {1: "Block", 2: "Throttle"}
"""What happens to a device whose quota is exhausted."""

SIM_STATUSES: dict[int, str] = {0: "Issued", 1: "Activated", 2: "Suspended", 3: "Deleted", 4: "Factory Test"}
ENDPOINT_STATUSES: dict[int, str] = {0: "Enabled", 1: "Disabled", 2: "Deleted"}
ORGANISATION_STATUSES: dict[int, str] = {0: "Enabled", 1: "Suspended", 2: "Deleted"}
BREAKOUT_TYPES: dict[int, str] = {
    1: "Transit Gateway",
    2: "IPSec VPN",
    3: "VPN BGP",
    4: "VPN BGP HA",
    5: "Direct Connect",
    6: "Shared",
}


def _mobile_countries() -> dict[str, tuple[str | None, str]]:
    text = resources.files("schemas").joinpath("mcc.csv").read_text(encoding="utf-8")
    return {row["mcc"]: (row["country_iso"] or None, row["country"]) for row in csv.DictReader(text.splitlines())}


MOBILE_COUNTRIES: dict[str, tuple[str | None, str]] = _mobile_countries()
"""Mobile country code → (ISO 3166 alpha-2 or None for international and test networks, name).

Codes shared by several territories carry the largest one: 340 Guadeloupe, 362 Curacao, 505 Australia, 647 Reunion.
"""

COUNTRY_ISO: dict[str, str | None] = {mcc: iso for mcc, (iso, _) in MOBILE_COUNTRIES.items()}
"""Mobile country code → ISO 3166 alpha-2, upper case; None for 901 and other codes without a country."""

COUNTRY_NAMES: dict[str, str] = {iso: name for iso, name in reversed(MOBILE_COUNTRIES.values()) if iso}
"""ISO 3166 alpha-2 → name of the country."""
