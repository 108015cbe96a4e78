"""The questions that the warehouse must answer, each by one short query over its views.

`QUERIES` is the only place where they stand: docs/queries.md is written from it (`queries_page`) and a test runs them
all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A question, its query, and what to know about the answer."""

    name: str
    question: str
    sql: str
    note: str = ""


QUESTIONS = (
    Question(
        "cost_per_device",
        "What did each device cost in Italy in October, in EUR?",
        """
SELECT endpoint_id, any_value(endpoint_name) AS endpoint_name, sum(cost) AS cost
FROM costs
WHERE country_iso = 'IT' AND currency = 'EUR' AND hour >= '2026-10-01' AND hour < '2026-11-01'
GROUP BY endpoint_id
ORDER BY cost DESC
""",
        "*In EUR* means billed in EUR: there are no exchange rates, and two currencies are never added.",
    ),
    Question(
        "limits_passed",
        "Which devices passed a limit this week, which limit, and how much was used?",
        """
SELECT event_time, endpoint_id, endpoint_name, limit_passed, used_percent, quota_left, used_this_month, unit
FROM limits_reached
WHERE event_time >= '2026-10-26' AND event_time < '2026-11-02' AND endpoint_id IS NOT NULL
ORDER BY event_time
""",
        "`used_percent` and `quota_left` are what the event says; `used_this_month` is what usage records of the "
        "same traffic "
        "type add up to in the event's month until then. For the running week write `event_time >= "
        "date_trunc('week', now())`.",
    ),
    Question(
        "usage_by_network",
        "How much was used by country, network and rate zone?",
        """
SELECT country_iso, operator_name, ratezone_name, unit, sum(volume_total) AS volume, sum(records) AS records
FROM device_usage
GROUP BY ALL
ORDER BY country_iso, volume DESC
""",
        "The unit is part of the answer: MB and SMS are never added.",
    ),
    Question(
        "why_offline",
        "Why is this device offline?",
        """
SELECT event_time, event_type, outcome, reason, reason_domain, operator_name, device_state, description
FROM events
WHERE endpoint_id = 1001 AND (reason IS NOT NULL OR device_state IS NOT NULL)
ORDER BY event_time DESC
LIMIT 10
""",
        "The newest line says it. `data-streamer device DIR 1001` shows it beside the usage and draws the "
        "conclusion; an "
        "ICCID or IMEI will do as well.",
    ),
    Question(
        "rejections",
        "How many rejections were there per operator, hour and reason?",
        """
SELECT operator_name, hour, reason, sum(rejections) AS rejections
FROM rejections
GROUP BY operator_name, hour, reason
ORDER BY rejections DESC, operator_name, hour, reason
""",
    ),
    Question(
        "hours_final",
        "Which hours are final?",
        """
SELECT hour, bool_and(final) AS final, sum(pending) AS pending
FROM final_hours
GROUP BY hour
ORDER BY hour
""",
        "Final: every writer that touched the hour closed it, and nothing waits for a destination. A later run "
        "can reopen it.",
    ),
    Question(
        "hours_changed",
        "Which hours changed since a given time?",
        """
SELECT hour, feed, changed, records
FROM changed_hours
WHERE changed > '2026-10-28 12:00:00'
ORDER BY changed, hour, feed
""",
    ),
    Question(
        "sessions",
        "How long did sessions last, and how much did they use?",
        """
SELECT session_id, endpoint_id, started, seconds, closed, volume_total, signalled_volume, cost, currency
FROM sessions
ORDER BY started
""",
        "`volume_total` is the sum of the usage records, `signalled_volume` what the end of the session (type 5) "
        "reports.",
    ),
    Question(
        "failed_logins",
        "Which logins failed, by user and address?",
        """
SELECT user_username, source_ip, reason, count(*) AS attempts, max(event_time) AS last_attempt
FROM failed_logins
GROUP BY user_username, source_ip, reason
ORDER BY attempts DESC, last_attempt DESC
""",
        "Personal data: user names and addresses.",
    ),
)
"""In the order of the documentation. Times in a query are UTC."""

QUERIES: dict[str, str] = {question.name: question.sql.strip() for question in QUESTIONS}
"""The queries by name."""


def queries_page() -> str:
    """docs/queries.md, as Markdown."""
    parts = [
        "# Questions and queries\n\nEach question by one query over the views of [the warehouse](warehouse.md). "
        "Run one with "
        '`data-streamer sql DIR "…"`. Dates and ids are examples. This page is written from `warehouse/queries.py` '
        "(`python -m warehouse.queries > docs/queries.md`); a test runs every query.\n"
    ]
    for question in QUESTIONS:
        note = f"\n{question.note}\n" if question.note else ""
        parts.append(f"\n## {question.question}\n\n```sql\n{question.sql.strip()}\n```\n{note}")
    return "".join(parts)


if __name__ == "__main__":
    print(queries_page(), end="")
