"""The catalogue of event types: `event_types.json`, one line per type.

To add or change a type, edit its line there; classification, filters, the commands and ``docs/event-types.md`` follow.
Events are classified by the id of their type, never by its name: names have changed over the years (``other_names``).
A type id that the catalogue does not know is classified `UNKNOWN_CATEGORY` and handled like any other.
"""

from __future__ import annotations

from importlib import resources

import msgspec

UNKNOWN_CATEGORY = "other"
"""Category of generic events and of type ids that the catalogue does not know."""


class EventType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event type.

    Attributes:
      id: id of the type, as in ``event_type.id``.
      name: its name, as in ``event_type.description`` of current records.
      category: one of `CATEGORIES`.
      severity: the usual severity, taken where a record carries none.
      other_names: names that the same id has or had elsewhere.
      sources: the usual sources, most frequent first; empty where no record was published.
      alert: whether such events usually are alerts; None where no record was published.
      outcome: ``attempt`` (accepted or rejected, the text decides), ``failed``, or ``not_applicable``.
      device_state: state that the event (an accepted one, of an attempt) puts the device in.
      quota: ``data`` or ``sms`` for types about a quota or limit of that traffic.
      note: what else a reader should know.
    """

    id: int
    name: str
    category: str
    severity: str = "INFO"
    other_names: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    alert: bool | None = None
    outcome: str = "not_applicable"
    device_state: str | None = None
    quota: str | None = None
    note: str = ""


class _Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    categories: dict[str, str]
    event_types: tuple[EventType, ...]


_CATALOGUE = msgspec.json.decode(
    resources.files("schemas").joinpath("event_types.json").read_bytes(), type=_Catalogue, strict=True
)

CATEGORIES: dict[str, str] = _CATALOGUE.categories
"""Categories in their order, with a title each; the last one is `UNKNOWN_CATEGORY`."""

EVENT_TYPES: dict[int, EventType] = {kind.id: kind for kind in _CATALOGUE.event_types}
"""All known types by id."""

EVENT_TYPE_IDS: dict[str, int] = {
    name.casefold(): kind.id for kind in _CATALOGUE.event_types for name in (*kind.other_names, kind.name)
}
"""Ids by name in lower case; former names included. For filters and commands that people write, not for records."""


def event_types_document() -> str:
    """The text of ``docs/event-types.md``, derived from the catalogue."""
    lines = [
        "# Event types",
        "",
        "Derived from `schemas/event_types.json`; edit that file, then run `python -m schemas.catalogues`.",
        "",
        "Severity is the usual one, taken where a record carries none. *Outcome* `attempt` means that the text of",
        "each event tells whether the attempt was accepted or rejected: both have the same type id. *State* is the",
        "state that the event (of attempts: an accepted one) puts the device in. Unknown type ids get the category",
        "`other`.",
    ]
    for category, title in CATEGORIES.items():
        kinds = [kind for kind in EVENT_TYPES.values() if kind.category == category]
        lines += ["", f"## {title} (`{category}`)", ""]
        lines += ["| id | name | severity | sources | alert | outcome | state | note |", "|---" * 8 + "|"]
        for kind in kinds:
            former = f"Also named {', '.join(kind.other_names)}. " if kind.other_names else ""
            quota = f"About {kind.quota} quotas or limits. " if kind.quota else ""
            alert = {None: "", True: "yes", False: "no"}[kind.alert]
            cells = (
                str(kind.id), kind.name, kind.severity, ", ".join(kind.sources), alert, kind.outcome,
                kind.device_state or "", f"{former}{quota}{kind.note}".strip(),
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
