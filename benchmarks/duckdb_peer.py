"""The peer: the same job in DuckDB, as its friends would write it.

    python -m benchmarks.duckdb_peer --events=GLOB --usage=GLOB --output=DIR [--threads=2]

A raw table per feed with typed, nested columns; duplicates dropped by the smallest ``rowid`` of each id; classification
and normalisation in SQL; Parquet per hour; aggregates per device and hour; and the streams of
``examples/streams.yaml``, not compressed. It writes the columns of `benchmarks.columns`, no dead letters and nothing
of what it does not know.

What speeds DuckDB up is used: types are given, not sniffed; only the fields that are needed are read; decimals of 18
digits (64 bits) instead of the 38 that the job's tables promise; insertion order is not kept once the winners are
chosen.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from schemas.event_types import EVENT_TYPES
from schemas.lookups import COUNTRY_ISO, CURRENCIES, RATS
from schemas.reasons import REASON_TABLE, SOURCE_DOMAINS

_ENDPOINT = "STRUCT(id BIGINT, name VARCHAR, ip_address VARCHAR, tags VARCHAR, imei VARCHAR)"
_SIM = "STRUCT(id BIGINT, iccid VARCHAR, msisdn VARCHAR, production_date TIMESTAMP)"
_VOLUME = "STRUCT(rx DECIMAL(18,6), tx DECIMAL(18,6), total DECIMAL(18,6))"
_NAMED = "STRUCT(id BIGINT, name VARCHAR)"
_CONTEXT = (
    "STRUCT(tunnel_created TIMESTAMP, gtp_version INTEGER, region VARCHAR, breakout_ip VARCHAR, apn VARCHAR, "
    "imsi VARCHAR, mcc VARCHAR, mnc VARCHAR, lac BIGINT, ci BIGINT, rat_type INTEGER)"
)

EVENT_FIELDS = {
    "id": "BIGINT",
    "timestamp": "TIMESTAMP",
    "event_type": "STRUCT(id INTEGER, description VARCHAR)",
    "event_severity": "STRUCT(id INTEGER)",
    "event_source": "STRUCT(id INTEGER)",
    "alert": "BOOLEAN",
    "description": "VARCHAR",
    "organisation": _NAMED,
    "user": "STRUCT(id BIGINT, username VARCHAR, name VARCHAR)",
    "endpoint": _ENDPOINT,
    "sim": _SIM,
    "imsi": "STRUCT(id BIGINT, imsi VARCHAR, import_date TIMESTAMP)",
    "detail": "STRUCT(id BIGINT, name VARCHAR, session_id VARCHAR, country STRUCT(name VARCHAR, mcc VARCHAR), "
    f"mnc STRUCT(mnc VARCHAR)[], volume {_VOLUME}, pdp_context {_CONTEXT})",
}
"""Fields of events and their types, for ``read_json``."""

USAGE_FIELDS = {
    "id": "BIGINT",
    "start_timestamp": "TIMESTAMP",
    "end_timestamp": "TIMESTAMP",
    "traffic_type": "STRUCT(id INTEGER)",
    "volume": _VOLUME,
    "cost": "DECIMAL(18,10)",
    "currency": "STRUCT(id INTEGER, code VARCHAR, symbol VARCHAR)",
    "organisation": _NAMED,
    "endpoint": _ENDPOINT,
    "sim": _SIM,
    "imsi": "VARCHAR",
    "imsi_id": "BIGINT",
    "operator": "STRUCT(id BIGINT, name VARCHAR, mnc VARCHAR, country STRUCT(id BIGINT, mcc VARCHAR, name VARCHAR))",
    "tariff": f"STRUCT(id BIGINT, name VARCHAR, ratezone {_NAMED})",
    "rat_type": "INTEGER",
    "quota_id": "BIGINT",
    "session_id": "VARCHAR",
}
"""Fields of usage records and their types, for ``read_json``."""

_VALID = "BETWEEN TIMESTAMP '2000-01-01' AND TIMESTAMP '2099-12-31 23:59:59.999999'"


def _text(value: str | None) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def _case(key: str, words: Mapping[int, str] | Mapping[str, str]) -> str:
    cases = [
        f"WHEN {_text(name) if isinstance(name, str) else name} THEN {_text(word)}" for name, word in words.items()
    ]
    return f"CASE {key} {' '.join(cases)} END"


def _values(rows: Sequence[tuple[str, ...]]) -> str:
    return ", ".join(f"({', '.join(row)})" for row in rows)


def lookups() -> list[str]:
    """Statements that make the small tables: event types, countries, domains of reasons."""
    kinds = [
        (
            str(kind.id), _text(kind.name), _text(kind.category), _text(kind.device_state), _text(kind.outcome),
            str(kind.category in ("network_attachment", "data_connection")),
        )
        for kind in EVENT_TYPES.values()
    ]  # fmt: skip
    domains = {row.reason: row.domain for row in REASON_TABLE}
    return [
        "CREATE TABLE types AS SELECT * FROM (VALUES "
        f"{_values(kinds)}) AS t(id, name, category, device_state, outcome, in_network)",
        "CREATE TABLE countries AS SELECT * FROM (VALUES "
        f"{_values([(_text(mcc), _text(iso)) for mcc, iso in COUNTRY_ISO.items()])}) AS t(mcc, iso)",
        "CREATE TABLE domains AS SELECT * FROM (VALUES "
        f"{_values([(_text(reason), _text(domain)) for reason, domain in domains.items()])}) AS t(reason, domain)",
    ]


def reason_case() -> str:
    """The table of reasons as one CASE over ``event_type_id`` and ``text``, the description in lower case."""
    cases = []
    for row in REASON_TABLE:
        test = f"event_type_id IN ({', '.join(map(str, row.types))})"
        if row.text is not None:
            # DuckDB's expressions know no look-ahead; here it only says that the state is another one than UP.
            negated = "(?!up)" in row.text
            pattern = row.text.replace("(?!up)", "")
            test += f" AND regexp_matches(text, {_text(pattern)})"
            test += f" AND NOT regexp_matches(text, {_text(pattern + 'up')})" if negated else ""
        cases.append(f"WHEN {test} THEN {_text(row.reason)}")
    return f"CASE WHEN first_outcome = 'accepted' THEN NULL {' '.join(cases)} END"


def raw(name: str, files: str, fields: dict[str, str]) -> str:
    """The statement that reads a feed."""
    columns = ", ".join(f"{field!r}: {kind!r}" for field, kind in fields.items())
    return (
        f"CREATE TABLE {name} AS SELECT * FROM read_json({files!r}, format = 'newline_delimited', "
        f"ignore_errors = true, maximum_object_size = 16777216, columns = {{{columns}}})"
    )


def winners(name: str, time: str, kind: str) -> str:
    """The valid records of a raw table, one of each id."""
    valid = f"id IS NOT NULL AND {time} {_VALID} AND {kind}.id IS NOT NULL"
    return f"SELECT * FROM {name} WHERE rowid IN (SELECT min(rowid) FROM {name} WHERE {valid} GROUP BY id)"


def events() -> str:
    """The statement that makes the table ``events``."""
    failed = ", ".join(sorted({_text(row.reason) for row in REASON_TABLE if row.failed}))
    return rf"""
    CREATE TABLE events AS
    WITH received AS (
      SELECT *, event_type.id AS event_type_id, lower(description) AS text
      FROM ({winners("raw_events", "timestamp", "event_type")})
    ), typed AS (
      SELECT r.* REPLACE (CASE WHEN t.in_network THEN r.detail END AS detail), t.name AS event_type_name,
        coalesce(t.category, 'other') AS category, t.device_state AS state,
        coalesce(t.outcome, 'not_applicable') AS usual,
        {_case("event_severity.id", {0: "INFO", 1: "WARN", 2: "CRITICAL"})} AS severity,
        {_case("event_source.id", {0: "network", 1: "policy_control", 2: "api"})} AS source,
        CASE WHEN usual <> 'attempt' THEN CASE WHEN contains(text, 'rejected') THEN 'rejected' ELSE usual END
          WHEN regexp_matches(text, 'rejected|denied|refused|not allowed|fail') THEN 'rejected'
          WHEN regexp_matches(text, 'successful|new location|now attached') THEN 'accepted'
          WHEN event_severity.id >= 1 THEN 'rejected' ELSE 'accepted' END AS first_outcome
      FROM received r LEFT JOIN types t ON r.event_type_id = t.id
    ), reasoned AS (
      SELECT *, {reason_case()} AS known_reason,
        CASE WHEN first_outcome = 'not_applicable' AND known_reason IN ({failed}) THEN 'failed'
          ELSE first_outcome END AS outcome,
        CASE WHEN known_reason IS NULL AND outcome IN ('rejected', 'failed') THEN 'other'
          ELSE known_reason END AS reason,
        CASE WHEN event_type_id NOT IN (1, 2) THEN NULL
          WHEN outcome = 'accepted' THEN regexp_extract(description, '(?i)attached to (?:VLR|SGSN|MME)=''([^'']+)''', 1)
          WHEN outcome = 'rejected' THEN regexp_extract(description, 'from (?:VLR|SGSN|MME) ([^\s(]+)', 1)
          END AS node,
        CASE WHEN event_type_id IN (1, 2) AND outcome = 'rejected' THEN
          regexp_extract(description, 'from (?:VLR|SGSN|MME) [^\s(]+ \((.*)\) for IMSI', 1) END AS refusing,
        CASE WHEN event_type_id IN (1, 2) AND contains(text, 'rat type') THEN
          CASE regexp_extract(text, 'rat type\s*=?\s*''?([a-z0-9_\-]+)', 1)
            WHEN 'e_utran' THEN '4G' WHEN 'utran' THEN '3G' WHEN 'geran' THEN '2G' WHEN 'nb_iot' THEN 'NB-IoT'
            WHEN 'lte_m' THEN 'CAT-M' WHEN 'nr' THEN '5G' END END AS rat_of_text,
        detail.pdp_context AS context, coalesce(detail.pdp_context.mcc, detail.country.mcc) AS serving_mcc
      FROM typed
    )
    SELECT date_trunc('hour', timestamp) AS hour, id AS event_id, timestamp AS event_time, event_type_id,
      event_type_name AS event_type, r.event_type.description AS event_type_received, category, severity, source, alert,
      outcome, r.reason,
      CASE WHEN r.reason = 'other' THEN {_case("source", SOURCE_DOMAINS)} ELSE d.domain END AS reason_domain,
      description,
      CASE WHEN usual <> 'attempt' OR outcome = 'accepted' THEN state END AS device_state,
      organisation.id AS organisation_id, organisation.name AS organisation_name,
      r.user.id AS user_id,
      coalesce(r.user.username, CASE WHEN event_type_id IN (6, 7) THEN
        nullif(regexp_extract(description, 'request from ''(.*?)'', Reason', 1), '') END) AS user_username,
      r.user.name AS user_name,
      endpoint.id AS endpoint_id, endpoint.name AS endpoint_name, endpoint.ip_address AS device_ip,
      endpoint.tags AS tags, endpoint.imei AS imei_raw,
      CASE WHEN length(endpoint.imei) IN (15, 16) THEN left(endpoint.imei, 8) END AS tac,
      sim.id AS sim_id, sim.iccid AS iccid, CASE WHEN length(sim.iccid) >= 19 THEN left(sim.iccid, 19) END AS iccid_19,
      sim.msisdn AS msisdn, sim.production_date AS sim_production_date,
      coalesce(context.imsi, r.imsi.imsi) AS imsi, r.imsi.id AS sim_imsi_id, r.imsi.imsi AS sim_imsi,
      r.imsi.import_date AS imsi_import_date,
      detail.id AS operator_id, coalesce(detail.name, nullif(refusing, '')) AS operator_name, serving_mcc AS mcc,
      coalesce(context.mnc, CASE WHEN len(detail.mnc) = 1 THEN detail.mnc[1].mnc END) AS mnc,
      detail.country.name AS country, c.iso AS country_iso,
      coalesce({_case("context.rat_type", RATS)}, rat_of_text) AS rat,
      regexp_replace(context.apn, '\.mnc\d{{2,3}}\.mcc\d{{3}}(\.gprs)?\.?$', '', 'i') AS apn,
      context.region AS region, nullif(context.breakout_ip, 'unavailable') AS breakout_ip,
      context.gtp_version AS gtp_version, context.lac AS lac, context.ci AS ci, nullif(node, '') AS serving_node,
      detail.session_id AS session_id, context.tunnel_created AS session_start,
      CASE WHEN event_type_id = 5 AND timestamp >= session_start
        THEN (epoch_us(timestamp) - epoch_us(session_start)) // 1000000 END AS session_seconds,
      CASE WHEN event_type_id = 5 THEN detail.volume.rx END AS volume_rx,
      CASE WHEN event_type_id = 5 THEN detail.volume.tx END AS volume_tx,
      CASE WHEN event_type_id = 5 THEN detail.volume.total END AS volume_total
    FROM reasoned r LEFT JOIN domains d ON r.reason = d.reason LEFT JOIN countries c ON serving_mcc = c.mcc
    """


def usage() -> str:
    """The statement that makes the table ``usage``. Every simulated record has an end: none falls back to its start."""
    return f"""
    CREATE TABLE usage AS
    SELECT date_trunc('hour', end_timestamp) AS hour, id AS usage_id,
      start_timestamp AS start_time, end_timestamp AS end_time,
      {_case("traffic_type.id", {5: "data", 6: "sms"})} AS traffic_type,
      {_case("traffic_type.id", {5: "MB", 6: "SMS"})} AS unit,
      volume.rx AS volume_rx, volume.tx AS volume_tx, volume.total AS volume_total, cost,
      coalesce(currency.code, {_case("currency.id", CURRENCIES)}) AS currency,
      organisation.id AS organisation_id, organisation.name AS organisation_name,
      endpoint.id AS endpoint_id, endpoint.name AS endpoint_name, endpoint.ip_address AS device_ip,
      endpoint.tags AS tags, endpoint.imei AS imei_raw,
      CASE WHEN length(endpoint.imei) IN (15, 16) THEN left(endpoint.imei, 8) END AS tac,
      sim.id AS sim_id, sim.iccid AS iccid, CASE WHEN length(sim.iccid) >= 19 THEN left(sim.iccid, 19) END AS iccid_19,
      sim.msisdn AS msisdn, sim.production_date AS sim_production_date, imsi, imsi_id,
      operator.id AS operator_id, operator.name AS operator_name, operator.country.mcc AS mcc, operator.mnc AS mnc,
      operator.country.name AS country, c.iso AS country_iso,
      tariff.id AS tariff_id, tariff.name AS tariff_name, tariff.ratezone.id AS ratezone_id,
      tariff.ratezone.name AS ratezone_name, {_case("rat_type", RATS)} AS rat, quota_id, session_id,
      traffic_type.id AS traffic_type_id, operator.country.id AS country_id, r.currency.id AS currency_id,
      r.currency.symbol AS currency_symbol
    FROM ({winners("raw_usage", "end_timestamp", "traffic_type")}) r
    LEFT JOIN countries c ON r.operator.country.mcc = c.mcc
    """


# Names are those of any record of the group, not of the latest one: cheaper, and the same where names do not change.
DEVICE_USAGE = """
CREATE TABLE device_usage_hourly AS
SELECT hour, organisation_id, endpoint_id, sim_id, operator_id, mcc, country_iso, traffic_type, unit, tariff_id,
  ratezone_id, currency, any_value(organisation_name) AS organisation_name, any_value(endpoint_name) AS endpoint_name,
  any_value(tags) AS tags, any_value(iccid) AS iccid, any_value(operator_name) AS operator_name,
  any_value(country) AS country, any_value(tariff_name) AS tariff_name, any_value(ratezone_name) AS ratezone_name,
  sum(volume_rx) AS volume_rx, sum(volume_tx) AS volume_tx, sum(volume_total) AS volume_total, sum(cost) AS cost,
  count(*) AS records, count(*) - count(cost) AS unpriced_records
FROM usage GROUP BY hour, organisation_id, endpoint_id, sim_id, operator_id, mcc, country_iso, traffic_type, unit,
  tariff_id, ratezone_id, currency
"""

DEVICE_EVENTS = """
CREATE TABLE device_events_hourly AS
SELECT hour, organisation_id, endpoint_id, sim_id, operator_name, country_iso, rat, category, severity, event_type_id,
  outcome, reason, reason_domain, any_value(organisation_name) AS organisation_name,
  any_value(endpoint_name) AS endpoint_name, any_value(tags) AS tags, any_value(event_type) AS event_type,
  count(*) AS events, count(*) FILTER (WHERE alert) AS alerts, min(event_time) AS first_time,
  max(event_time) AS last_time
FROM events GROUP BY hour, organisation_id, endpoint_id, sim_id, operator_name, country_iso, rat, category, severity,
  event_type_id, outcome, reason, reason_domain
"""

_STREAMS = (
    ("warnings", "events", "severity IN ('WARN', 'CRITICAL') OR outcome = 'rejected'", "json", "FORMAT json"),
    ("usage-archive", "usage", "true", "csv", "FORMAT csv, HEADER"),
    ("device-usage", "device_usage_hourly", "traffic_type = 'data'", "parquet", "FORMAT parquet, COMPRESSION zstd"),
)
"""The streams of ``examples/streams.yaml``: name, table, filter, extension, how to write it."""


def run(event_files: str, usage_files: str, output: Path, threads: int) -> None:
    """Does the whole job into the directory `output`, which is replaced."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {threads}; SET TimeZone = 'UTC'")
        connection.execute(f"SET temp_directory = '{output}/spill'")
        for statement in lookups():
            connection.execute(statement)
        connection.execute(raw("raw_events", event_files, EVENT_FIELDS))
        connection.execute(raw("raw_usage", usage_files, USAGE_FIELDS))
        connection.execute("SET preserve_insertion_order = false")
        for feed, statement in (("events", events()), ("usage", usage())):
            connection.execute(statement)
            connection.execute(f"DROP TABLE raw_{feed}")
        connection.execute(DEVICE_USAGE)
        connection.execute(DEVICE_EVENTS)
        _write(connection, output)


def _write(connection: duckdb.DuckDBPyConnection, output: Path) -> None:
    hours = [
        row[0] for row in connection.sql("SELECT DISTINCT hour FROM events UNION SELECT hour FROM usage").fetchall()
    ]
    parts = [
        (f"warehouse/{table}", table, "true", "parquet", "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1")
        for table in ("events", "usage", "device_usage_hourly", "device_events_hourly")
    ] + [(f"streams/{stream[0]}", *stream[1:]) for stream in _STREAMS]
    for directory, table, condition, extension, options in parts:
        for hour in hours:
            place = output / directory / f"dt={hour:%Y-%m-%d}" / f"hh={hour:%H}"
            place.mkdir(parents=True)
            connection.execute(
                f"COPY (SELECT * FROM {table} WHERE hour = TIMESTAMP '{hour}' AND ({condition})) "
                f"TO '{place}/part.{extension}' ({options})"
            )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.duckdb_peer", description=__doc__.splitlines()[0])
    parser.add_argument("--events", required=True, metavar="GLOB")
    parser.add_argument("--usage", required=True, metavar="GLOB")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    given = parser.parse_args()
    run(given.events, given.usage, given.output, given.threads)


if __name__ == "__main__":
    main()
