"""What the report says, read from the views of an output directory. Holds no user names and no e-mail addresses."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from warehouse.equations import EQUATIONS
from warehouse.in_flight import define_in_flight
from warehouse.layout import RUN_FILE, WarehouseError

Row = dict[str, Any]

HOURLY_SPAN = datetime.timedelta(days=8)
"""Up to this span charts show hours, beyond it days: more bars than that cannot be told apart."""

_ACCOUNTED = ("empty", "dead_lettered", "duplicates", "conflicts", "kept")
"""What becomes of a received line: the sides of the ledger's equations from feed to warehouse."""

_TOP = 12
"""Rows of a ranking; the rest is summed up or counted."""


@dataclass(frozen=True)
class Facts:
    """Everything that the page shows. Rows are dicts in the order to show them; decimals are exact."""

    balance: list[Row]
    differences: list[str]
    streams: list[Row]
    finished: datetime.datetime | None
    inputs: Row
    fleet: Row
    costs: list[Row]
    step: str
    severities: list[Row]
    categories: list[Row]
    usage_over_time: list[Row]
    reasons: list[Row]
    operators: list[Row]
    limits: list[Row]
    limit_devices: list[Row]
    countries: list[Row]
    networks: list[Row]
    devices: dict[str, list[Row]]
    dead_letters: list[Row]
    unknown_types: list[Row]
    other_texts: list[Row]

    @property
    def lost(self) -> int:
        """Records that came in and are accounted for nowhere."""
        return sum(row["received"] - sum(row[name] for name in _ACCOUNTED) for row in self.balance)

    @property
    def received(self) -> int:
        """Records and lines that came in, both feeds."""
        return sum(row["received"] for row in self.balance)

    @property
    def balanced(self) -> bool:
        """Every equation of the ledger holds."""
        return not self.differences and self.lost == 0

    @property
    def troubled(self) -> list[Row]:
        """Streams that are in error."""
        return [row for row in self.streams if row["error"]]

    @property
    def pending(self) -> int:
        """Records that wait for a destination or a paused stream."""
        return sum(row["pending"] or 0 for row in self.streams)


def read_facts(connection: duckdb.DuckDBPyConnection, output: Path) -> Facts:
    """Read all facts.

    Args:
      connection: as `warehouse.views.connect` opens it.
      output: the output directory, for its run file.
    """

    def rows(sql: str) -> list[Row]:
        cursor = connection.execute(sql)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]

    define_in_flight(connection, output)
    inputs = rows(_INPUTS)[0]
    step = _step(inputs["first_time"], inputs["last_time"])
    run = read_run(output)
    currencies = rows(_COSTS)
    return Facts(
        balance=rows(_BALANCE),
        differences=_differences(connection),
        streams=_streams(run, rows(_STREAMS)),
        finished=_moment(run.get("finished")) or inputs["published"],
        inputs=inputs,
        fleet=rows(_FLEET)[0],
        costs=currencies,
        step=step,
        severities=rows(_OVER_TIME.format(step=step, column="severity")),
        categories=rows(_OVER_TIME.format(step=step, column="category")),
        usage_over_time=rows(_USAGE_OVER_TIME.format(step=step)),
        reasons=rows(_REASONS),
        operators=rows(_OPERATORS),
        limits=rows(_LIMITS),
        limit_devices=rows(_LIMIT_DEVICES),
        countries=rows(_COUNTRIES),
        networks=rows(_NETWORKS),
        devices=_by_currency(rows(_DEVICES)),
        dead_letters=rows(_DEAD_LETTERS),
        unknown_types=rows(_UNKNOWN_TYPES),
        other_texts=rows(_OTHER_TEXTS),
    )


def _step(first: datetime.datetime | None, last: datetime.datetime | None) -> str:
    return "hour" if first is None or last is None or last - first <= HOURLY_SPAN else "day"


def _differences(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Equations of the ledger that do not hold; those that read rows are for the audit."""
    return [
        f"{equation.text}: {place}: {left} against {right}"
        for equation in EQUATIONS
        if not equation.reads_rows
        for place, left, right in connection.execute(equation.differences).fetchall()
    ]


def read_run(output: Path) -> Row:
    """The run file: what the last run was and how its streams stand; empty where there is none.

    Raises:
      WarehouseError: the file is there and no JSON object.
    """
    path = output / RUN_FILE
    if not path.is_file():
        return {}
    try:
        run = json.loads(path.read_bytes())
    except ValueError as error:
        raise WarehouseError(f"{path}: expected JSON as a run writes it: {error}; run the command again") from error
    if not isinstance(run, dict):
        raise WarehouseError(f"{path}: expected a JSON object; run the same command again")
    return run


def _streams(run: Row, counted: list[Row]) -> list[Row]:
    """The streams of the last run with the ledger's counts over all runs; streams of earlier runs after them."""
    counts = {row["name"]: row for row in counted}
    streams = []
    for stream in run.get("streams", ()):
        empty = {"delivered": 0, "pending": 0, "filtered_out": 0, "dead_lettered": 0}
        streams.append({**_NO_STATUS, **stream, **counts.pop(stream["name"], {**empty, "name": stream["name"]})})
    streams += [{**_NO_STATUS, **row} for row in counts.values()]
    return streams


_NO_STATUS: Row = {"title": None, "content": None, "destination": None, "state": None, "error": None, "remedy": None}


def _moment(value: Any) -> datetime.datetime | None:
    """A time of the run file: microseconds since 1970, or ISO 8601."""
    if isinstance(value, int):
        return datetime.datetime.fromtimestamp(value / 1_000_000, datetime.UTC)
    return datetime.datetime.fromisoformat(value) if isinstance(value, str) else None


def _by_currency(rows: list[Row]) -> dict[str, list[Row]]:
    result: dict[str, list[Row]] = {}
    for row in rows:
        result.setdefault(row["currency"], []).append(row)
    return result


def share(part: Decimal | int | None, whole: Decimal | int | None) -> float:
    """Part of a whole in per cent, for drawing; 0 where there is nothing."""
    return float(100 * (part or 0) / whole) if whole else 0.0


_BALANCE = """
SELECT feed, coalesce(sum(received) FILTER (stage = 'feed'), 0)::BIGINT AS received,
       coalesce(sum(empty) FILTER (stage = 'feed'), 0)::BIGINT AS empty,
       coalesce(sum(dead_lettered) FILTER (stage = 'feed'), 0)::BIGINT AS dead_lettered,
       coalesce(sum(duplicates) FILTER (stage = 'cell'), 0)::BIGINT AS duplicates,
       coalesce(sum(conflicts) FILTER (stage = 'cell'), 0)::BIGINT AS conflicts,
       coalesce(sum(delivered) FILTER (stage = 'cell'), 0)::BIGINT AS kept
FROM ledger GROUP BY feed ORDER BY feed
"""

_STREAMS = """
SELECT stream AS name, sum(delivered)::BIGINT AS delivered, sum(pending)::BIGINT AS pending,
       sum(filtered_out)::BIGINT AS filtered_out, sum(dead_lettered)::BIGINT AS dead_lettered
FROM ledger WHERE stage = 'stream' GROUP BY stream ORDER BY stream
"""

_INPUTS = """
SELECT count(*) AS files, coalesce(sum(bytes), 0)::BIGINT AS bytes, count(DISTINCT writer) AS writers,
       min(first_time) AS first_time, max(last_time) AS last_time,
       (SELECT max(published_time) FROM ledger) AS published FROM inputs
"""

_FLEET = """
WITH e AS (
  SELECT coalesce(sum(events), 0)::BIGINT AS events, coalesce(sum(alerts), 0)::BIGINT AS alerts,
         coalesce(sum(events) FILTER (outcome = 'rejected'), 0)::BIGINT AS rejected,
         coalesce(sum(events) FILTER (outcome IN ('accepted', 'rejected')), 0)::BIGINT AS attempts,
         coalesce(sum(events) FILTER (severity = 'CRITICAL'), 0)::BIGINT AS critical
  FROM device_events_hourly
), u AS (
  SELECT coalesce(sum(records), 0)::BIGINT AS records, coalesce(sum(unpriced_records), 0)::BIGINT AS unpriced,
         coalesce(sum(volume_total) FILTER (unit = 'MB'), 0) AS volume,
         coalesce(sum(volume_total) FILTER (unit = 'SMS'), 0) AS messages,
         count(DISTINCT country_iso) AS countries, count(DISTINCT (mcc, operator_name)) AS operators
  FROM device_usage_hourly
), d AS (
  SELECT count(DISTINCT endpoint_id) AS devices, count(DISTINCT organisation_id) AS organisations
  FROM (SELECT endpoint_id, organisation_id FROM device_events_hourly UNION ALL
        SELECT endpoint_id, organisation_id FROM device_usage_hourly)
)
SELECT * FROM e, u, d
"""

_COSTS = """
SELECT currency, sum(cost) AS cost, sum(records)::BIGINT AS records
FROM device_usage_hourly WHERE currency IS NOT NULL GROUP BY currency HAVING sum(cost) IS NOT NULL
ORDER BY cost DESC, currency
"""

_OVER_TIME = """
SELECT date_trunc('{step}', hour) AS time, {column} AS name, sum(events)::BIGINT AS events
FROM device_events_hourly GROUP BY ALL ORDER BY time, name
"""

_USAGE_OVER_TIME = """
SELECT date_trunc('{step}', hour) AS time, sum(volume_rx) AS received, sum(volume_tx) AS sent
FROM device_usage_hourly WHERE unit = 'MB' GROUP BY ALL ORDER BY time
"""

_REASONS = """
SELECT reason, reason_domain AS domain, sum(events)::BIGINT AS events, count(DISTINCT endpoint_id) AS devices
FROM device_events_hourly WHERE outcome = 'rejected' GROUP BY ALL ORDER BY events DESC, reason, domain
"""

_OPERATORS = f"""
SELECT operator_name AS name, sum(events)::BIGINT AS attempts,
       coalesce(sum(events) FILTER (outcome = 'rejected'), 0)::BIGINT AS rejected,
       mode(reason) FILTER (outcome = 'rejected') AS reason
FROM device_events_hourly WHERE outcome IN ('accepted', 'rejected') AND operator_name IS NOT NULL GROUP BY ALL
HAVING rejected > 0 ORDER BY rejected DESC, name LIMIT {_TOP}
"""

_LIMITS = """
SELECT limit_passed AS name, count(*) AS events, count(DISTINCT endpoint_id) AS devices,
       count(DISTINCT organisation_id) AS organisations
FROM limits_reached GROUP BY ALL ORDER BY events DESC, name
"""

_LIMIT_DEVICES = f"""
SELECT event_time AS time, endpoint_id, coalesce(endpoint_name, organisation_name) AS name,
       endpoint_name IS NULL AS of_organisation, limit_passed, used_percent,
       quota_left, used_this_month, coalesce(unit, CASE traffic_type WHEN 'sms' THEN 'SMS' ELSE 'MB' END) AS unit
FROM limits_reached
QUALIFY row_number() OVER (PARTITION BY endpoint_id, organisation_id, limit_passed ORDER BY event_time DESC,
  event_id) = 1
ORDER BY time DESC, event_id LIMIT {_TOP}
"""

_COUNTRIES = """
SELECT coalesce(any_value(country), country_iso, 'unknown') AS name, country_iso, sum(volume_total) AS volume
FROM device_usage_hourly WHERE unit = 'MB' GROUP BY country_iso ORDER BY volume DESC, name LIMIT 10
"""

_NETWORKS = f"""
WITH money AS (
  SELECT country_iso, operator_name, list({{currency: currency, cost: cost}} ORDER BY currency) AS costs
  FROM (SELECT country_iso, operator_name, currency, sum(cost) AS cost FROM device_usage_hourly
        WHERE currency IS NOT NULL GROUP BY ALL HAVING sum(cost) IS NOT NULL) GROUP BY ALL
), volumes AS (
  SELECT any_value(country) AS country, country_iso, operator_name, count(DISTINCT endpoint_id) AS devices,
         coalesce(sum(volume_total) FILTER (unit = 'MB'), 0) AS volume,
         coalesce(sum(volume_total) FILTER (unit = 'SMS'), 0) AS messages
  FROM device_usage_hourly GROUP BY country_iso, operator_name
)
SELECT volumes.*, money.costs FROM volumes
LEFT JOIN money ON money.country_iso IS NOT DISTINCT FROM volumes.country_iso
 AND money.operator_name IS NOT DISTINCT FROM volumes.operator_name
ORDER BY volume DESC, operator_name LIMIT {_TOP}
"""

_DEVICES = """
SELECT currency, endpoint_id, arg_max(endpoint_name, hour) AS name, arg_max(organisation_name, hour) AS organisation,
       sum(cost) AS cost, coalesce(sum(volume_total) FILTER (unit = 'MB'), 0) AS volume
FROM device_usage_hourly WHERE currency IS NOT NULL GROUP BY currency, endpoint_id
HAVING sum(cost) IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY currency ORDER BY sum(cost) DESC, endpoint_id) <= 10
ORDER BY currency, cost DESC, endpoint_id
"""

_DEAD_LETTERS = """
SELECT reason, kind, feed, count(*) AS letters, min(message) AS example
FROM dead_letters GROUP BY reason, kind, feed ORDER BY letters DESC, reason, kind, feed
"""

_UNKNOWN_TYPES = f"""
SELECT event_type_id AS id, event_type_received AS name, count(*) AS events, max(event_time) AS last_time
FROM events WHERE event_type IS NULL GROUP BY ALL ORDER BY events DESC, id LIMIT {_TOP}
"""

# Numbers, quoted values and addresses are blanked: they make every text different, and may identify a person. Texts of
# logins name users and are left out.
_OTHER_TEXTS = rf"""
SELECT event_type AS type, reason_domain AS domain, count(*) AS events,
       CASE WHEN category = 'platform_authentication' THEN '(text of a login: not shown)'
            ELSE regexp_replace(regexp_replace(regexp_replace(coalesce(description, '(no text)'),
                 '''[^'']*''', '''…''', 'g'), '\S+@\S+', '…', 'g'), '[0-9]+', '#', 'g') END AS text
FROM events WHERE reason = 'other' GROUP BY ALL ORDER BY events DESC, text LIMIT {_TOP}
"""
