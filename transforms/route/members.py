"""Members of JSON records by name: which column's values they hold. Names are those of emnify's records and documents.

Names are compared by their words, so that ``sourceIp``, ``source_ip`` and ``SOURCE-IP`` are the same. Where a member
holds an object or a list, all below it counts as the same, unless its own name says otherwise.
"""

from __future__ import annotations

import re

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_USER = ("user_username", "user_name", "user_id")
_ADDRESS = ("device_ip", "source_ip", "breakout_ip", "serving_node")
_SERIAL = ("imei_raw", "imei")
_ICCID = ("iccid", "iccid_19")
_IMSI = ("imsi", "sim_imsi")

_BY_PARENT: dict[tuple[str, str], tuple[str, ...]] = {
    ("endpoint", "id"): ("endpoint_id",), ("endpoint", "name"): ("endpoint_name",),
    ("sim", "id"): ("sim_id",), ("imsi", "id"): ("sim_imsi_id", "imsi_id"), ("endpoint", "tags"): ("tags",),
    ("user", "id"): ("user_id",), ("user", "name"): ("user_name",),
    ("organisation", "id"): ("organisation_id",), ("organisation", "name"): ("organisation_name",),
    ("organization", "id"): ("organisation_id",), ("organization", "name"): ("organisation_name",),
}  # fmt: skip
"""(word or words of the object's name at its end, name of its member) → columns."""

_BY_NAME: dict[str, tuple[str, ...]] = {
    "endpoint id": ("endpoint_id",), "endpoint name": ("endpoint_name",), "endpoint tags": ("tags",),
    "tags": ("tags",), "sim id": ("sim_id",), "imsi id": ("sim_imsi_id", "imsi_id"), "user id": ("user_id",),
    "organisation id": ("organisation_id",), "organisation name": ("organisation_name",),
    "organization id": ("organisation_id",), "organization name": ("organisation_name",),
    "changed data": (*_USER, "organisation_name", "endpoint_name"),
    "user": _USER, "user agent": _USER, "trusted device": _USER,
    "lac": ("lac",), "sac": ("ci", "lac"), "rac": ("lac",), "ci": ("ci",), "eci": ("ci",), "tac": ("lac",),
    "cell id": ("ci",), "location": ("lac",), "latitude": ("ci", "lac"), "longitude": ("ci", "lac"),
    "session id": ("session_id",), "ipcan session id": ("session_id",),
    "source ip": ("source_ip", "device_ip"), "breakout ip": ("breakout_ip", "source_ip", "device_ip"),
}  # fmt: skip
"""The whole name in words → columns."""

_BY_WORD: dict[str, tuple[str, ...]] = {
    "imsi": _IMSI, "iccid": _ICCID, "msisdn": ("msisdn",), "imei": _SERIAL, "imeisv": _SERIAL,
    "ip": _ADDRESS, "ipv4": _ADDRESS, "ipv6": _ADDRESS, "vlr": ("serving_node",), "mme": ("serving_node",),
    "sgsn": _ADDRESS, "ggsn": _ADDRESS, "uli": ("ci", "lac"), "teid": ("session_id",),
    "username": _USER, "email": _USER, "mail": _USER, "firstname": _USER, "lastname": _USER, "surname": _USER,
    "phone": ("msisdn", "user_username"), "browser": _USER,
}  # fmt: skip
"""A word anywhere in the name → columns."""


def columns_of(parent: str, name: str) -> tuple[str, ...]:
    """Columns whose values a member may hold, the likeliest first; none if its name tells nothing.

    Args:
      parent: name of the member that holds the object, or an empty text.
      name: name of the member.
    """
    words, above = words_of(name), words_of(parent)
    spelled = " ".join(words)
    if above and (above[-1], spelled) in _BY_PARENT:
        return _BY_PARENT[above[-1], spelled]
    # support_user_org is an organisation, target_user a user.
    if above and above[-1] == "org" and spelled in ("id", "name"):
        return (f"organisation_{spelled}",)
    if spelled in _BY_NAME:
        return _BY_NAME[spelled]
    if words and words[-1] == "user":
        return _USER
    return next((_BY_WORD[word] for word in words if word in _BY_WORD), ())


def words_of(name: str) -> list[str]:
    """The words of a name in snake, kebab or camel case, in lower case."""
    return [word.lower() for word in _WORDS.findall(name)]
