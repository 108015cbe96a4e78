"""The tables of the warehouse: each Arrow schema here is the only definition of its table.

The BigQuery schema, the Avro schema, ``docs/tables.md`` and every Parquet part are derived from these schemas
(`schemas.derive`). Schema changes are additive and nullable; readers go by column name.

Units: MB = 10^6 bytes (inferred: emnify states "MB" and six decimals, nowhere MB or MiB), SMS = messages. Times are
microseconds, UTC. Cost is `decimal128(38, 10)` in the currency beside it, volume `decimal128(38, 6)` in the unit
beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 1
"""Version of the table schemas, on every row; raised by each additive change."""

TIME = pa.timestamp("us", tz="UTC")
VOLUME = pa.decimal128(38, 6)
COST = pa.decimal128(38, 10)
ID = pa.int64()
TEXT = pa.string()


@dataclass(frozen=True)
class Table:
    """One table: its name, what a row is, its Arrow schema, and how it is laid out.

    Attributes:
      name: the table's name, also the name of its directory under ``warehouse/``.
      description: what one row is; goes to the data dictionary and to BigQuery.
      schema: the Arrow schema; each field carries its ``description`` in the field metadata.
      partition: the time column that BigQuery partitions by day, or None. Tables with ``hour`` lie in hour directories.
      cluster: BigQuery clustering columns.
      key: columns that together identify a row (aggregates: the grouping key).
      labels: columns of an aggregate that describe its key and are taken from the latest record.
      sums: columns of an aggregate that add up over rows.
      unit: what the ledger counts for it: ``records`` or ``rows``.
    """

    name: str
    description: str
    schema: pa.Schema
    partition: str | None = None
    cluster: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    unit: str = "rows"

    @property
    def by_hour(self) -> bool:
        """Whether parts lie in ``dt=YYYY-MM-DD/hh=HH`` directories."""
        return "hour" in self.schema.names and self.name not in ("ledger", "ledger_files")


def _schema(*columns: tuple[str, pa.DataType, str]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, metadata={"description": text}) for name, kind, text in columns])


_LINEAGE = (
    ("writer", TEXT, "who wrote the row: digest of a batch run's inputs, or the name of a live job"),
    ("pane", pa.int32(), "number of the writer's output for this cell, from 0"),
    ("source_file", TEXT, "file (or message id) that the record came from"),
    ("byte_offset", ID, "where the record begins in the file, after decompression"),
    ("ingest_time", TIME, "time of the input (file's modification or message's publication), not of the run"),
    ("schema_version", pa.int32(), "version of this schema when the row was written"),
)
_PARTIAL = (_LINEAGE[0], _LINEAGE[1], _LINEAGE[5])

_ORGANISATION = (
    ("organisation_id", ID, "organisation that owns the device or made the change"),
    ("organisation_name", TEXT, "its name as received"),
)
_ENDPOINT = (
    ("endpoint_id", ID, "device (emnify: endpoint); null for events of an organisation"),
    ("endpoint_name", TEXT, "its name as received"),
    ("device_ip", TEXT, "IP address assigned to the device (endpoint.ip_address)"),
    ("tags", TEXT, "tags of the device as received, a text"),
    ("imei", TEXT, "IMEI, 15 digits; from a 16-digit IMEISV: its first 14 and the Luhn check digit; else null"),
    ("imei_raw", TEXT, "IMEI or IMEISV as received"),
    ("tac", TEXT, "type allocation code: the first 8 digits of imei"),
)
_SIM = (
    ("sim_id", ID, "SIM"),
    ("iccid", TEXT, "ICCID as received, 19 or 20 digits"),
    ("iccid_19", TEXT, "ICCID without its check digit: joins both forms"),
    ("msisdn", TEXT, "MSISDN (only in streamed records)"),
    ("sim_production_date", TIME, "when the SIM was made"),
)

EVENTS = Table(
    name="events",
    description="One signalling or platform event, duplicates removed.",
    schema=_schema(
        ("hour", TIME, "UTC hour of event_time"),
        ("event_id", ID, "id of the event; unique per kind"),
        ("event_time", TIME, "when the event happened"),
        ("event_type_id", pa.int32(), "type of the event: classify by it, never by its name"),
        ("event_type", TEXT, "name of the type in our catalogue; null for unknown types"),
        ("event_type_received", TEXT, "name of the type as received"),
        ("category", TEXT, "one of the ten classes, or other"),
        ("severity", TEXT, "INFO, WARN or CRITICAL"),
        ("severity_inferred", pa.bool_(), "severity was not received but taken from the catalogue"),
        ("source", TEXT, "network, policy_control or api"),
        ("alert", pa.bool_(), "candidate to be alerted to a user, as received"),
        ("outcome", TEXT, "accepted, rejected, failed or not_applicable"),
        ("reason", TEXT, "normalised reason (docs/reasons.md); null where there is none"),
        ("reason_domain", TEXT, "device, connectivity, account, application or platform"),
        ("description", TEXT, "free text of the event"),
        ("device_state", TEXT, "state that it puts the device in: attached, online, offline, blocked; else null"),
        *_ORGANISATION,
        ("user_id", ID, "user whose credentials caused the event"),
        ("user_username", TEXT, "login of that user (personal data); on types 6 and 7 also out of the text"),
        ("user_name", TEXT, "name of that user (personal data)"),
        *_ENDPOINT,
        *_SIM,
        ("imsi", TEXT, "IMSI in use: of the PDP context, else of the SIM"),
        ("sim_imsi_id", ID, "id of the SIM's most recently active IMSI"),
        ("sim_imsi", TEXT, "the SIM's most recently active IMSI (imsi.imsi)"),
        ("imsi_import_date", TIME, "when that IMSI was imported"),
        ("operator_id", ID, "visited operator"),
        ("operator_name", TEXT, "its name; of a rejected attach, out of the text"),
        ("mcc", TEXT, "mobile country code of the serving network, 3 digits"),
        ("mnc", TEXT, "mobile network code of the serving network; null where the operator lists several"),
        ("operator_mncs", TEXT, "all MNCs that the operator lists, comma separated, where there are several"),
        ("country", TEXT, "name of the visited country"),
        ("country_iso", TEXT, "ISO 3166 alpha-2, upper case, from the MCC; null for 901 (international)"),
        ("rat", TEXT, "radio access technology: 2G, 3G, 4G, NB-IoT, CAT-M, 5G, ..."),
        ("apn", TEXT, "access point name, its network part"),
        ("region", TEXT, "cloud region of the breakout"),
        ("breakout_ip", TEXT, "public IP address of the breakout"),
        ("gtp_version", pa.int32(), "1 = 2G/3G, 2 = 4G"),
        ("lac", ID, "location area code; null on 4G"),
        ("ci", ID, "cell identity; null on 4G"),
        ("serving_node", TEXT, "VLR, SGSN or MME that the text names"),
        ("session_id", TEXT, "session (UUID): joins usage.session_id"),
        ("session_start", TIME, "when the tunnel was created"),
        ("session_seconds", ID, "length of the session in seconds (type 5)"),
        ("volume_rx", VOLUME, "MB received by the device in the session (type 5)"),
        ("volume_tx", VOLUME, "MB sent by the device in the session (type 5)"),
        ("volume_total", VOLUME, "MB of the session, both directions (type 5)"),
        ("quota_traffic_type", TEXT, "data or sms"),
        ("quota_volume", VOLUME, "volume that the quota has left, MB or SMS; may be negative"),
        ("quota_threshold_percent", pa.int32(), "threshold: per cent remaining on 18 and 20, per cent used on 65"),
        ("quota_threshold_volume", VOLUME, "threshold as a volume"),
        ("quota_status", TEXT, "ACTIVE, EXHAUSTED or EXPIRED"),
        ("quota_action", TEXT, "what happens on exhaustion: Block or Throttle"),
        ("quota_expires", TIME, "when the quota expires"),
        ("breakout_id", ID, "CloudConnect breakout (22-27)"),
        ("breakout_status", TEXT, "its status: UP, DOWN, ... (27)"),
        ("source_ip", TEXT, "address that the API call or login came from"),
        ("detail", TEXT, "detail as received, valid JSON; secrets replaced"),
        ("extra", TEXT, "JSON object: received fields that no column holds; merged over the columns: the record"),
        *_LINEAGE,
    ),
    partition="hour",
    cluster=("organisation_id", "endpoint_id"),
    key=("event_id",),
    unit="records",
)

USAGE = Table(
    name="usage",
    description="One usage record (CDR): the delta since the session's last record. Duplicates removed.",
    schema=_schema(
        ("hour", TIME, "UTC hour of end_time, when the record was cut; of start_time if there is no end"),
        ("usage_id", ID, "id of the record; unique per kind"),
        ("start_time", TIME, "begin of the interval; may lie months back"),
        ("end_time", TIME, "end of the interval: when the record was cut"),
        ("traffic_type", TEXT, "data or sms"),
        ("unit", TEXT, "unit of the volumes: MB (10^6 bytes, inferred) or SMS"),
        ("volume_rx", VOLUME, "received by the device (SMS: direction as received; the documents disagree)"),
        ("volume_tx", VOLUME, "sent by the device (SMS: direction as received)"),
        ("volume_total", VOLUME, "both directions"),
        ("cost", COST, "price of the record in currency, rated by the tariff; null where not priced"),
        ("currency", TEXT, "ISO 4217 code"),
        *_ORGANISATION,
        *_ENDPOINT,
        *_SIM,
        ("imsi", TEXT, "IMSI used"),
        ("imsi_id", ID, "its id"),
        ("operator_id", ID, "visited operator"),
        ("operator_name", TEXT, "its name"),
        ("mcc", TEXT, "mobile country code of the visited network"),
        ("mnc", TEXT, "mobile network code"),
        ("country", TEXT, "name of the visited country"),
        ("country_iso", TEXT, "ISO 3166 alpha-2 from the MCC; null for 901 (international)"),
        ("tariff_id", ID, "tariff (data plan)"),
        ("tariff_name", TEXT, "its name"),
        ("ratezone_id", ID, "rate zone (coverage area)"),
        ("ratezone_name", TEXT, "its name"),
        ("rat", TEXT, "radio access technology, where sent"),
        ("quota_id", ID, "quota that the usage was booked on, where sent"),
        ("session_id", TEXT, "session (UUID): joins events.session_id for data"),
        ("extra", TEXT, "JSON object: received fields that no column holds"),
        *_LINEAGE,
        ("traffic_type_id", pa.int32(), "traffic type as received: 5 data, 6 SMS"),
        ("country_id", ID, "emnify's id of the country"),
        ("currency_id", pa.int32(), "emnify's id of the currency: 1 EUR, 2 USD"),
        ("currency_symbol", TEXT, "symbol of the currency as received"),
    ),
    partition="hour",
    cluster=("organisation_id", "endpoint_id"),
    key=("usage_id",),
    unit="records",
)

DEVICE_USAGE_HOURLY = Table(
    name="device_usage_hourly",
    description="Usage and cost of a device in an hour: a partial sum of one writer and pane. Add rows up, never count "
    "them.",
    schema=_schema(
        ("hour", TIME, "UTC hour"),
        ("organisation_id", ID, "key"),
        ("endpoint_id", ID, "key; null: usage of an organisation without a device"),
        ("sim_id", ID, "key"),
        ("operator_id", ID, "key: visited operator"),
        ("mcc", TEXT, "key"),
        ("country_iso", TEXT, "key"),
        ("traffic_type", TEXT, "key: data or sms"),
        ("unit", TEXT, "key: MB or SMS; never add one to the other"),
        ("tariff_id", ID, "key"),
        ("ratezone_id", ID, "key"),
        ("currency", TEXT, "key; never add two currencies"),
        ("organisation_name", TEXT, "label, of the latest record"),
        ("endpoint_name", TEXT, "label"),
        ("tags", TEXT, "label"),
        ("iccid", TEXT, "label"),
        ("operator_name", TEXT, "label"),
        ("country", TEXT, "label"),
        ("tariff_name", TEXT, "label"),
        ("ratezone_name", TEXT, "label"),
        ("volume_rx", VOLUME, "sum"),
        ("volume_tx", VOLUME, "sum"),
        ("volume_total", VOLUME, "sum"),
        ("cost", COST, "sum of the priced records; null if none was priced"),
        ("records", ID, "number of usage records"),
        ("unpriced_records", ID, "records without a cost"),
        *_PARTIAL,
    ),
    partition="hour",
    cluster=("organisation_id", "endpoint_id"),
    key=(
        "organisation_id", "endpoint_id", "sim_id", "operator_id", "mcc", "country_iso", "traffic_type", "unit",
        "tariff_id", "ratezone_id", "currency",
    ),
    labels=(
        "organisation_name", "endpoint_name", "tags", "iccid", "operator_name", "country", "tariff_name",
        "ratezone_name",
    ),
    sums=("volume_rx", "volume_tx", "volume_total", "cost", "records", "unpriced_records"),
)  # fmt: skip

DEVICE_EVENTS_HOURLY = Table(
    name="device_events_hourly",
    description="Events of a device in an hour by type and outcome: a partial sum of one writer and pane.",
    schema=_schema(
        ("hour", TIME, "UTC hour"),
        ("organisation_id", ID, "key"),
        ("endpoint_id", ID, "key; null: events of an organisation"),
        ("sim_id", ID, "key"),
        ("operator_name", TEXT, "key: a rejected attach carries nothing else of its operator"),
        ("country_iso", TEXT, "key"),
        ("rat", TEXT, "key"),
        ("category", TEXT, "key"),
        ("severity", TEXT, "key"),
        ("event_type_id", pa.int32(), "key"),
        ("outcome", TEXT, "key"),
        ("reason", TEXT, "key"),
        ("reason_domain", TEXT, "key"),
        ("organisation_name", TEXT, "label, of the latest record"),
        ("endpoint_name", TEXT, "label"),
        ("tags", TEXT, "label"),
        ("event_type", TEXT, "label"),
        ("events", ID, "number of events"),
        ("alerts", ID, "number of events with alert"),
        ("first_time", TIME, "earliest event; combine by min"),
        ("last_time", TIME, "latest event; combine by max"),
        *_PARTIAL,
    ),
    partition="hour",
    cluster=("organisation_id", "endpoint_id"),
    key=(
        "organisation_id", "endpoint_id", "sim_id", "operator_name", "country_iso", "rat", "category", "severity",
        "event_type_id", "outcome", "reason", "reason_domain",
    ),
    labels=("organisation_name", "endpoint_name", "tags", "event_type"),
    sums=("events", "alerts"),
)  # fmt: skip

DEAD_LETTERS = Table(
    name="dead_letters",
    description="A record that is at fault, with its original bytes: malformed input, losers of id conflicts, refused "
    "deliveries.",
    schema=_schema(
        ("id", TEXT, "digest of feed, file or message, byte_offset, stream and payload: the same in a second run"),
        ("kind", TEXT, "malformed, conflict or delivery"),
        ("feed", TEXT, "events or usage"),
        ("stream", TEXT, "stream that refused it; null for malformed and conflict"),
        ("record_id", ID, "id of the record where it could be read"),
        ("reason", TEXT, "not_json, truncated, wrong_type, missing_field, time_range, number_range, invalid_utf8, "
         "nul_bytes, too_deep, too_large, wrong_kind, gzip_cut, id_conflict or delivery_rejected"),
        ("json_path", TEXT, "field at fault, as a JSON path"),
        ("message", TEXT, "what was expected and what was found; holds no secret and no personal data"),
        ("error_type", TEXT, "name of the error class"),
        ("payload", pa.binary(), "original bytes, secrets replaced by ***; up to 1 MiB, longer ones in dead/<sha256>"),
        ("payload_size", ID, "bytes as received"),
        ("payload_sha256", TEXT, "SHA-256 of the bytes as received"),
        ("source_file", TEXT, "file or message id"),
        ("byte_offset", ID, "where it begins in the file, after decompression"),
        ("ingest_time", TIME, "time of the input, so that a second run writes the same row"),
        ("writer", TEXT, "who wrote the row"),
        ("schema_version", pa.int32(), "version of this schema when the row was written"),
    ),
    key=("id",),
)  # fmt: skip

LEDGER = Table(
    name="ledger",
    description="Counts that prove that nothing was lost. Rows are additive deltas: sum over any grouping.",
    schema=_schema(
        ("writer", TEXT, "who counted"),
        ("stage", TEXT, "feed: received = empty + dead_lettered + decoded; cell: received = duplicates + conflicts + "
         "delivered; stream: received = filtered_out + delivered + dead_lettered + pending"),
        ("feed", TEXT, "events or usage: kind of the records (of a line that could not be decoded: kind of its file)"),
        ("stream", TEXT, "stage stream: its name; else null"),
        ("hour", TIME, "hour of the records; null where it cannot be known"),
        ("pane", pa.int32(), "pane of the cell"),
        ("unit", TEXT, "records, or rows of an aggregate table"),
        ("received", ID, "came in"),
        ("empty", ID, "empty lines"),
        ("decoded", ID, "decoded"),
        ("duplicates", ID, "removed as duplicate"),
        ("conflicts", ID, "same id with other content: the loser is a dead letter"),
        ("dead_lettered", ID, "became dead letters"),
        ("filtered_out", ID, "not selected by the stream's filter"),
        ("delivered", ID, "handed on: to the warehouse, to the stream's destination"),
        ("pending", ID, "wait in the spool for their destination"),
        ("final", pa.bool_(), "this writer closed the cell"),
        ("published_time", TIME, "when the row was written: the only clock time in the warehouse"),
    ),
)  # fmt: skip

LEDGER_FILES = Table(
    name="ledger_files",
    description="Every file that a writer committed. Files that are not listed here do not count.",
    schema=_schema(
        ("writer", TEXT, "who wrote the file"),
        ("table_or_stream", TEXT, "table, or stream as streams/<name>"),
        ("hour", TIME, "hour of its rows; null where it has none"),
        ("path", TEXT, "relative to the output directory where it lies below it, else absolute"),
        ("row_count", ID, "rows in the file"),
        ("bytes", ID, "size of the file"),
        ("checksum", TEXT, "algorithm:hex of the file's bytes"),
    ),
    key=("path",),
)

INPUTS = Table(
    name="inputs",
    description="One input file of a writer.",
    schema=_schema(
        ("writer", TEXT, "who read it"),
        ("feed", TEXT, "events or usage, as it was given"),
        ("file", TEXT, "path of the file"),
        ("bytes", ID, "size as stored"),
        ("records", ID, "records decoded"),
        ("dead_letters", ID, "dead letters of the file"),
        ("first_time", TIME, "earliest record"),
        ("last_time", TIME, "latest record"),
    ),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (EVENTS, USAGE, DEVICE_USAGE_HOURLY, DEVICE_EVENTS_HOURLY, DEAD_LETTERS, LEDGER, LEDGER_FILES, INPUTS)
}
"""All tables by name."""

STREAM_CONTENTS = ("events", "usage", "device_usage_hourly", "device_events_hourly")
"""Tables that a stream can carry."""
