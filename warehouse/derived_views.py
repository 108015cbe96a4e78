"""Views that answer the common questions, over the views of the tables; docs/warehouse.md lists them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from schemas.tables import DEVICE_EVENTS_HOURLY, DEVICE_USAGE_HOURLY, Table


@dataclass(frozen=True)
class View:
    """One derived view.

    Attributes:
      name: its name in SQL.
      description: what one row is.
      sql: the SELECT that it stands for.
    """

    name: str
    description: str
    sql: str


def _combined(table: Table) -> str:
    """Partial sums of all writers and panes combined: one row per hour and key, labels of the latest pane."""
    keys = ["hour", *table.key]
    labels = [f"arg_max({name}, (writer, pane)) AS {name}" for name in table.labels]
    sums = [
        f"sum({name}) AS {name}"
        if pa.types.is_decimal(table.schema.field(name).type)
        else f"sum({name})::BIGINT AS {name}"
        for name in table.sums
    ]
    times = [
        f"{function}({name}) AS {name}"
        for name, function in (("first_time", "min"), ("last_time", "max"))
        if name in table.schema.names
    ]
    return f"SELECT {', '.join(keys + labels + sums + times)} FROM {table.name} GROUP BY {', '.join(keys)}"


DEVICE_USAGE = View(
    "device_usage",
    "usage and cost per device, hour, network, tariff, rate zone, unit and currency: device_usage_hourly with "
    "its partial sums added up",
    _combined(DEVICE_USAGE_HOURLY),
)

DEVICE_EVENTS = View(
    "device_events",
    "events per device, hour, type, outcome and reason: device_events_hourly with its partial sums added up",
    _combined(DEVICE_EVENTS_HOURLY),
)

COSTS = View(
    "costs",
    "what was billed per device, hour, network, tariff, rate zone and currency; never add two currencies",
    """
    SELECT hour, organisation_id, organisation_name, endpoint_id, endpoint_name, iccid, operator_name, mcc, country,
           country_iso, traffic_type, tariff_name, ratezone_name, currency, cost, volume_total, unit, records,
           unpriced_records
    FROM device_usage WHERE currency IS NOT NULL
    """,
)

REJECTIONS = View(
    "rejections",
    "rejected attempts per device, hour, operator, country, RAT, type and reason",
    """
    SELECT hour, organisation_id, organisation_name, endpoint_id, endpoint_name, operator_name, country_iso, rat,
           event_type, reason, reason_domain, events AS rejections, first_time, last_time
    FROM device_events WHERE outcome = 'rejected'
    """,
)

# Types: 11 and 12 blocked, 18-21 quota, 60 and 61 quota expired, 63 and 64 order limits, 65 traffic limit warning; and
# the forced disconnect (type 0) by which a quota throttles. Thresholds count what is left on 18 and
# 20, what is used on 65.
LIMITS_REACHED = View(
    "limits_reached",
    "an event by which a device or organisation passed a limit; used_this_month sums the usage records of the "
    "same device and traffic type (data where the event names none) from the start of the event's month until then",
    """
    WITH passed AS (
      SELECT hour, event_id, event_time, event_type, organisation_id, organisation_name, endpoint_id, endpoint_name,
             iccid, reason AS limit_passed,
             coalesce(quota_traffic_type, CASE WHEN event_type_id IN (20, 21, 61) THEN 'sms'
                                               WHEN endpoint_id IS NOT NULL THEN 'data' END) AS traffic_type,
             CASE WHEN event_type_id IN (18, 20) THEN 100 - quota_threshold_percent
                  WHEN event_type_id IN (19, 21) THEN 100 ELSE quota_threshold_percent END AS used_percent,
             quota_volume AS quota_left, quota_threshold_volume, description
      FROM events
      WHERE event_type_id IN (11, 12, 18, 19, 20, 21, 60, 61, 63, 64, 65)
         OR (event_type_id = 0 AND reason = 'throttled')
    ), used AS (
      SELECT passed.event_id, any_value(usage.unit) AS unit, sum(usage.volume_total) AS used_this_month
      FROM passed JOIN usage ON usage.endpoint_id = passed.endpoint_id AND usage.traffic_type = passed.traffic_type
       AND coalesce(usage.end_time, usage.start_time)
           BETWEEN date_trunc('month', passed.event_time) AND passed.event_time
      GROUP BY passed.event_id
    )
    SELECT passed.*, used.used_this_month, used.unit FROM passed LEFT JOIN used USING (event_id)
    """,
)

SESSIONS = View(
    "sessions",
    "a data session: what signalling says (types 3 and 5) beside what usage records add up to; closed = its end "
    "was seen",
    """
    WITH signalled AS (
      SELECT session_id, any_value(organisation_id) AS organisation_id, any_value(endpoint_id) AS endpoint_id,
             any_value(endpoint_name) AS endpoint_name, any_value(operator_name) AS operator_name,
             any_value(country_iso) AS country_iso, any_value(rat) AS rat, any_value(apn) AS apn,
             min(coalesce(session_start, event_time)) AS signalled_start,
             max(event_time) FILTER (event_type_id = 5) AS signalled_end,
             max(session_seconds) AS session_seconds, max(volume_total) AS signalled_volume
      FROM events WHERE session_id IS NOT NULL GROUP BY session_id
    ), metered AS (
      SELECT session_id, any_value(organisation_id) AS organisation_id, any_value(endpoint_id) AS endpoint_id,
             any_value(endpoint_name) AS endpoint_name, any_value(operator_name) AS operator_name,
             any_value(country_iso) AS country_iso, any_value(rat) AS rat, unit, currency,
             min(coalesce(start_time, end_time)) AS first_use, max(coalesce(end_time, start_time)) AS last_use,
             sum(volume_rx) AS volume_rx, sum(volume_tx) AS volume_tx, sum(volume_total) AS volume_total,
             sum(cost) AS cost, count(*) AS records
      FROM usage WHERE session_id IS NOT NULL AND traffic_type = 'data' GROUP BY session_id, unit, currency
    )
    SELECT session_id, coalesce(s.organisation_id, m.organisation_id) AS organisation_id,
           coalesce(s.endpoint_id, m.endpoint_id) AS endpoint_id,
           coalesce(s.endpoint_name, m.endpoint_name) AS endpoint_name,
           coalesce(s.operator_name, m.operator_name) AS operator_name,
           coalesce(s.country_iso, m.country_iso) AS country_iso,
           coalesce(s.rat, m.rat) AS rat, s.apn, coalesce(s.signalled_start, m.first_use) AS started,
           coalesce(s.signalled_end, m.last_use) AS ended, s.signalled_end IS NOT NULL AS closed,
           coalesce(s.session_seconds, date_diff('second', coalesce(s.signalled_start, m.first_use),
                                                 coalesce(s.signalled_end, m.last_use))) AS seconds,
           m.volume_rx, m.volume_tx, m.volume_total, m.unit, s.signalled_volume, m.cost, m.currency, m.records
    FROM signalled AS s FULL JOIN metered AS m USING (session_id)
    """,
)

FAILED_LOGINS = View(
    "failed_logins",
    "a failed login of a user (type 6) or of an application (type 7); holds personal data",
    """
    SELECT hour, event_time, event_id, event_type, organisation_id, organisation_name, user_username, source_ip,
           reason, description
    FROM events WHERE event_type_id IN (6, 7)
    """,
)

# Hours are closed by their cells (stage cell); what still waits for a destination stands in stage stream.
FINAL_HOURS = View(
    "final_hours",
    "an hour of a feed: final when the last word of every writer closed it and nothing is pending",
    """
    WITH closed AS (
      SELECT feed, hour, writer, arg_max(final, (published_time, pane)) AS closed
      FROM ledger WHERE stage = 'cell' AND hour IS NOT NULL GROUP BY feed, hour, writer
    ), waiting AS (
      SELECT feed, hour, sum(pending)::BIGINT AS pending FROM ledger WHERE stage = 'stream' GROUP BY feed, hour
    )
    SELECT closed.feed, closed.hour, count(*) AS writers, coalesce(any_value(waiting.pending), 0) AS pending,
           coalesce(bool_and(closed.closed), false) AND coalesce(any_value(waiting.pending), 0) = 0 AS final
    FROM closed LEFT JOIN waiting ON waiting.feed = closed.feed AND waiting.hour = closed.hour
    GROUP BY closed.feed, closed.hour
    """,
)

CHANGED_HOURS = View(
    "changed_hours",
    "an hour of a feed, when it was last written to, and what it holds",
    """
    SELECT feed, hour, max(published_time) AS changed, count(DISTINCT writer) AS writers,
           (sum(delivered) FILTER (stage = 'cell'))::BIGINT AS records,
           coalesce(sum(pending) FILTER (stage = 'stream'), 0)::BIGINT AS pending
    FROM ledger WHERE hour IS NOT NULL GROUP BY feed, hour
    """,
)

DERIVED_VIEWS = (
    DEVICE_USAGE, DEVICE_EVENTS, COSTS, REJECTIONS, LIMITS_REACHED, SESSIONS, FAILED_LOGINS, FINAL_HOURS, CHANGED_HOURS,
)  # fmt: skip
"""All derived views, each after those it reads."""
