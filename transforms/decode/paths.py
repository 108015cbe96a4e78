"""Which column holds which field, in the nested form and in the flat ones (CSV, 1NCE 2.0)."""

from __future__ import annotations

Path = tuple[str, ...]


def _paths(**columns: str) -> dict[Path, str]:
    return {tuple(path.split(".")): column for column, path in columns.items()}


_DEVICE = {
    "organisation_id": "organisation.id",
    "organisation_name": "organisation.name",
    "endpoint_id": "endpoint.id",
    "endpoint_name": "endpoint.name",
    "device_ip": "endpoint.ip_address",
    "tags": "endpoint.tags",
    "imei_raw": "endpoint.imei",
    "sim_id": "sim.id",
    "iccid": "sim.iccid",
    "msisdn": "sim.msisdn",
    "sim_production_date": "sim.production_date",
}

EVENT_COLUMNS = _paths(
    event_id="id",
    event_time="timestamp",
    event_type_id="event_type.id",
    event_type_received="event_type.description",
    severity_id="event_severity.id",
    severity_received="event_severity.description",
    source_id="event_source.id",
    source_received="event_source.description",
    alert="alert",
    description="description",
    user_id="user.id",
    user_username="user.username",
    user_name="user.name",
    sim_imsi_id="imsi.id",
    sim_imsi="imsi.imsi",
    imsi_import_date="imsi.import_date",
    detail="detail",
    **_DEVICE,
)

USAGE_COLUMNS = _paths(
    usage_id="id",
    start_time="start_timestamp",
    end_time="end_timestamp",
    traffic_type_id="traffic_type.id",
    traffic_type_received="traffic_type.description",
    volume_rx="volume.rx",
    volume_tx="volume.tx",
    volume_total="volume.total",
    cost="cost",
    currency_id="currency.id",
    currency="currency.code",
    currency_symbol="currency.symbol",
    imsi="imsi",
    imsi_id="imsi_id",
    operator_id="operator.id",
    operator_name="operator.name",
    mnc="operator.mnc",
    mcc="operator.country.mcc",
    country_id="operator.country.id",
    country="operator.country.name",
    tariff_id="tariff.id",
    tariff_name="tariff.name",
    ratezone_id="tariff.ratezone.id",
    ratezone_name="tariff.ratezone.name",
    rat_type="rat_type",
    quota_id="quota_id",
    session_id="session_id",
    **_DEVICE,
)

COLUMNS = (EVENT_COLUMNS, USAGE_COLUMNS)
"""Column by path, per kind."""


def _flat(**paths: str) -> dict[str, Path]:
    return {name: tuple(path.split(".")) for name, path in paths.items()}


_FLAT_DEVICE = {
    "id": "id",
    "organisation_id": "organisation.id",
    "organisation_name": "organisation.name",
    "endpoint_id": "endpoint.id",
    "endpoint_name": "endpoint.name",
    "endpoint_ip_address": "endpoint.ip_address",
    "endpoint_tags": "endpoint.tags",
    "endpoint_imei": "endpoint.imei",
    "sim_id": "sim.id",
    "sim_iccid": "sim.iccid",
    "iccid": "sim.iccid",
    "sim_msisdn": "sim.msisdn",
    "msisdn": "sim.msisdn",
    "msisdn_msisdn": "sim.msisdn",
    "sim_production_date": "sim.production_date",
}

FLAT_EVENT = _flat(
    timestamp="timestamp",
    alert="alert",
    description="description",
    event_type_id="event_type.id",
    event_type_description="event_type.description",
    event_severity_id="event_severity.id",
    event_severity_description="event_severity.description",
    event_source_id="event_source.id",
    event_source_name="event_source.description",
    event_source_description="event_source.description",
    user_id="user.id",
    user_username="user.username",
    user_name="user.name",
    imsi_id="imsi.id",
    imsi_imsi="imsi.imsi",
    imsi="imsi.imsi",
    imsi_import_date="imsi.import_date",
    detail="detail",
    **_FLAT_DEVICE,
)

FLAT_USAGE = _flat(
    start_timestamp="start_timestamp",
    end_timestamp="end_timestamp",
    event_start_timestamp="start_timestamp",
    event_stop_timestamp="end_timestamp",
    traffic_type_id="traffic_type.id",
    traffic_type_description="traffic_type.description",
    volume="volume.total",
    volume_total="volume.total",
    volume_rx="volume.rx",
    volume_tx="volume.tx",
    cost="cost",
    currency_id="currency.id",
    currency_code="currency.code",
    currency_symbol="currency.symbol",
    imsi="imsi",
    imsi_imsi="imsi",
    imsi_id="imsi_id",
    operator_id="operator.id",
    operator_name="operator.name",
    operator_mnc="operator.mnc",
    operator_mncs="operator.mnc",
    country_id="operator.country.id",
    operator_country_id="operator.country.id",
    operator_country_name="operator.country.name",
    country_mcc="operator.country.mcc",
    operator_country_mcc="operator.country.mcc",
    tariff_id="tariff.id",
    tariff_name="tariff.name",
    ratezone_tariff_id="tariff.id",
    ratezone_tariff_name="tariff.name",
    ratezone_id="tariff.ratezone.id",
    ratezone_name="tariff.ratezone.name",
    tariff_ratezone_id="tariff.ratezone.id",
    tariff_ratezone_name="tariff.ratezone.name",
    rat_type="rat_type",
    quota_id="quota_id",
    session_id="session_id",
    ipcan_session_id="session_id",
    **_FLAT_DEVICE,
)

FLAT = (FLAT_EVENT, FLAT_USAGE)
"""Path by flat field name, per kind: names of the S3 CSV files and of the 1NCE 2.0 form."""

FLAT_MARKERS = ("event_type_id", "traffic_type_id")
"""The flat field that only this kind has."""

FLAT_DETAIL_GROUPS = ("country", "pdp_context", "volume", "client", "quota")
"""Objects within ``detail`` that the flat form spells ``detail_<object>_<field>``."""
