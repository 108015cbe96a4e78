"""The equations that prove that nothing was lost, as queries that find where they do not hold.

Each query returns one row per difference: where (text), and the two sides of the equation (text). No row: it holds.
They read the views of the warehouse, and the tables that `warehouse.in_flight.define_in_flight` makes.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.tables import DEVICE_EVENTS_HOURLY, DEVICE_USAGE_HOURLY


@dataclass(frozen=True)
class Equation:
    """One equation: its text, the query for its differences, and whether it reads more than the ledger."""

    text: str
    differences: str
    reads_rows: bool = False


_PLACE = {
    "writer": "'writer ' || writer",
    "feed": "', feed ' || feed",
    "stream": "coalesce(', stream ' || stream, '')",
    "unit": "', unit ' || unit",
    "hour": "coalesce(', hour ' || strftime(hour, '%Y-%m-%dT%H'), '')",
    "pane": "coalesce(', pane ' || pane, '')",
}


def _place(*columns: str) -> str:
    return " || ".join(_PLACE[column] for column in columns)


def _within(stage: str, right: str, *group: str) -> Equation:
    """received = the sum of the columns `right`, in every group of a stage."""
    total = " + ".join(f"sum({column.strip()})" for column in right.split("+"))
    query = (
        f"SELECT {_place(*group)}, sum(received)::VARCHAR, ({total})::VARCHAR FROM ledger WHERE stage = '{stage}' "
        f"GROUP BY {', '.join(group)} HAVING sum(received) <> {total} ORDER BY 1"
    )
    return Equation(f"{stage}: received = {right}", query)


def _between(text: str, left: str, right: str, *group: str, reads_rows: bool = False) -> Equation:
    """Two queries with the columns `group` and a number n agree in every group; a missing group counts 0."""
    on = " AND ".join(f"l.{column} IS NOT DISTINCT FROM r.{column}" for column in group)
    columns = ", ".join(f"coalesce(l.{column}, r.{column}) AS {column}" for column in group)
    query = (
        f"WITH l AS ({left}), r AS ({right}), both_sides AS ("
        f"SELECT {columns}, coalesce(l.n, 0) AS left_n, coalesce(r.n, 0) AS right_n FROM l FULL JOIN r ON {on}) "
        f"SELECT {_place(*group)}, left_n::VARCHAR, right_n::VARCHAR FROM both_sides WHERE left_n <> right_n ORDER BY 1"
    )
    return Equation(text, query, reads_rows)


_CELL_DELIVERED = "SELECT writer, feed, hour, sum(delivered) AS n FROM ledger WHERE stage = 'cell' GROUP BY ALL"
_CELL_WRITTEN = (
    "SELECT writer, feed, hour, sum(n)::BIGINT AS n FROM ("
    "SELECT writer, feed, hour, delivered AS n FROM ledger WHERE stage = 'cell' "
    "UNION ALL SELECT writer, feed, hour, -n FROM in_flight) GROUP BY ALL"
)
"""What is not in flight any more: lies in parts, and has gone to the streams that get their records with them."""

_STREAMS = "SELECT DISTINCT writer, feed, stream FROM ledger WHERE stage = 'stream' AND unit = '{unit}'"
_STREAM_RECEIVED = (
    "SELECT writer, feed, stream, hour, sum(received) AS n FROM ledger WHERE stage = 'stream' AND unit = '{unit}' "
    "GROUP BY ALL"
)
_TABLE_ROWS = (
    "SELECT writer, "
    "CASE WHEN table_or_stream IN ('usage', 'device_usage_hourly') THEN 'usage' ELSE 'events' END AS feed, "
    "hour, sum(row_count) AS n FROM ledger_files WHERE table_or_stream IN ({tables}) GROUP BY ALL"
)
_AT_ONCE = "((writer, stream) IN (SELECT (writer, stream) FROM with_flight))"
_RECORD_TABLES = "'events', 'usage'"
_AGGREGATE_TABLES = "'device_usage_hourly', 'device_events_hourly'"


def _to_each_stream(source: str, unit: str, which: str = "true") -> str:
    """What a stage hands on, once for every stream (that is `which`) that its writer served."""
    streams = f"{_STREAMS.format(unit=unit)} AND {which}"
    return (
        f"SELECT served.writer, served.feed, served.stream, source.hour, source.n FROM ({streams}) AS served "
        f"JOIN ({source}) AS source ON source.writer = served.writer AND source.feed = served.feed"
    )


def _aggregate(text: str, partial_sums: str, rows: str, where: str) -> Equation:
    """Two grouped queries with the same columns return the same rows, down to the last decimal."""
    query = (
        f"WITH partial_sums AS ({partial_sums}), table_rows AS ({rows}), "
        "differing AS ((FROM partial_sums EXCEPT FROM table_rows) UNION (FROM table_rows EXCEPT FROM partial_sums)) "
        f"SELECT DISTINCT {where}, 'sums in the aggregate', 'sums over the rows' FROM differing ORDER BY 1"
    )
    return Equation(text, query, reads_rows=True)


_DEVICE_PLACE = (
    "'writer ' || writer || ', hour ' || strftime(hour, '%Y-%m-%dT%H') || ', endpoint ' || "
    "coalesce(endpoint_id::VARCHAR, 'none')"
)
_USAGE_GROUP = ", ".join(("writer", "hour", *DEVICE_USAGE_HOURLY.key))
_USAGE_SUMS = "sum(volume_rx) AS rx, sum(volume_tx) AS tx, sum(volume_total) AS total, sum(cost) AS cost"
_EVENTS_GROUP = ", ".join(("writer", "hour", *DEVICE_EVENTS_HOURLY.key))

_LETTERS_COUNTED = """
    SELECT writer, feed, NULL::VARCHAR AS stream, sum(dead_lettered) AS n FROM ledger WHERE stage = 'feed' GROUP BY ALL
    UNION ALL BY NAME
    SELECT writer, feed, 'id conflicts' AS stream, sum(conflicts) AS n FROM ledger WHERE stage = 'cell' GROUP BY ALL
    UNION ALL BY NAME
    SELECT writer, feed, stream, sum(dead_lettered) AS n FROM ledger WHERE stage = 'stream' GROUP BY ALL
"""
_LETTERS_WRITTEN = """
    SELECT writer, feed, CASE kind WHEN 'conflict' THEN 'id conflicts' WHEN 'delivery' THEN stream END AS stream,
           count(*) AS n
    FROM dead_letters GROUP BY ALL
"""
_LETTERS_KNOWN = (
    f"SELECT writer, feed, stream, sum(n)::BIGINT AS n FROM ({_LETTERS_WRITTEN} UNION ALL FROM letters_in_flight) "
    "GROUP BY ALL"
)

EQUATIONS = (
    _within("feed", "empty + dead_lettered + decoded", "writer", "feed"),
    _within("cell", "duplicates + conflicts + delivered", "writer", "feed", "hour", "pane"),
    _within(
        "stream", "filtered_out + delivered + dead_lettered + pending",
        "writer", "feed", "stream", "unit", "hour", "pane",
    ),
    _between(
        "feed.decoded = cell.received",
        "SELECT writer, feed, sum(decoded) AS n FROM ledger WHERE stage = 'feed' GROUP BY ALL",
        "SELECT writer, feed, sum(n)::BIGINT AS n FROM (SELECT writer, feed, received AS n FROM ledger "
        "WHERE stage = 'cell' UNION ALL FROM decoded_in_flight) GROUP BY ALL",
        "writer", "feed",
    ),
    _between(
        "cell.delivered = stream.received, for every stream of records",
        f"{_to_each_stream(_CELL_DELIVERED, 'records', _AT_ONCE)} UNION ALL "
        f"{_to_each_stream(_CELL_WRITTEN, 'records', f'NOT {_AT_ONCE}')}",
        _STREAM_RECEIVED.format(unit="records"),
        "writer", "feed", "stream", "hour",
    ),
    _between(
        "rows of the aggregate = stream.received, for every stream of an aggregate",
        _to_each_stream(_TABLE_ROWS.format(tables=_AGGREGATE_TABLES), "rows"), _STREAM_RECEIVED.format(unit="rows"),
        "writer", "feed", "stream", "hour",
    ),
    _between(
        "cell.delivered = rows of events and usage",
        f"FROM ({_CELL_WRITTEN}) WHERE n <> 0", _TABLE_ROWS.format(tables=_RECORD_TABLES),
        "writer", "feed", "hour",
    ),
    _between(
        "feed.dead_lettered, cell.conflicts and stream.dead_lettered = rows of dead_letters",
        _LETTERS_COUNTED, _LETTERS_KNOWN, "writer", "feed", "stream", reads_rows=True,
    ),
    _aggregate(
        "sums of device_usage_hourly = sums over usage",
        f"SELECT {_USAGE_GROUP}, {_USAGE_SUMS}, sum(records)::BIGINT AS records, "
        f"sum(unpriced_records)::BIGINT AS unpriced "
        f"FROM {DEVICE_USAGE_HOURLY.name} GROUP BY {_USAGE_GROUP}",
        f"SELECT {_USAGE_GROUP}, {_USAGE_SUMS}, count(*) AS records, count(*) - count(cost) AS unpriced "
        f"FROM usage GROUP BY {_USAGE_GROUP}",
        _DEVICE_PLACE,
    ),
    _aggregate(
        "sums of device_events_hourly = counts over events",
        f"SELECT {_EVENTS_GROUP}, sum(events)::BIGINT AS events, sum(alerts)::BIGINT AS alerts, "
        f"min(first_time) AS first_time, "
        f"max(last_time) AS last_time FROM {DEVICE_EVENTS_HOURLY.name} GROUP BY {_EVENTS_GROUP}",
        f"SELECT {_EVENTS_GROUP}, count(*) AS events, count(*) FILTER (alert) AS alerts, "
        f"min(event_time) AS first_time, "
        f"max(event_time) AS last_time FROM events GROUP BY {_EVENTS_GROUP}",
        _DEVICE_PLACE,
    ),
)  # fmt: skip
"""In the order of the data's way, so that the first difference is the one nearest to the cause."""
