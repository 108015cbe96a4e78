"""Every published sample record is classified as its text and type say."""

import json
from pathlib import Path

import pytest

from schemas.tables import EVENTS, USAGE
from tests.transforms.classify.make_records import event_batch, usage_batch
from transforms.classify import event_rows, usage_rows

SAMPLES = Path(__file__).parents[2] / "data" / "samples"

# (category, severity, outcome, reason, domain, device state)
EXPECTED = {
    "00-generic": ("other", "WARN", "not_applicable", "endpoint_disabled", "account", None),
    "01-update-location": ("network_attachment", "INFO", "accepted", None, None, "attached"),
    "02-update-gprs-location": ("network_attachment", "INFO", "accepted", None, None, "attached"),
    "03-create-pdp-context": ("data_connection", "INFO", "accepted", None, None, "online"),
    "05-delete-pdp-context": ("data_connection", "INFO", "not_applicable", None, None, "attached"),
    "06-user-authentication-failed": (
        "platform_authentication", "WARN", "failed", "invalid_credentials", "account", None,
    ),
    "07-application-authentication-failed": (
        "platform_authentication", "WARN", "failed", "organisation_not_active", "account", None,
    ),
    "08-sim-activation-2": ("sim_lifecycle", "INFO", "not_applicable", None, None, None),
    "08-sim-activation": ("sim_lifecycle", "INFO", "not_applicable", None, None, None),
    "09-sim-suspension": ("sim_lifecycle", "INFO", "not_applicable", "sim_suspended", "account", None),
    "10-sim-deletion": ("sim_lifecycle", "INFO", "not_applicable", "sim_deleted", "account", None),
    "11-endpoint-blocked": (
        "limit_enforcement", "WARN", "not_applicable", "traffic_limit_exceeded", "account", "blocked",
    ),
    "12-organisation-blocked": (
        "limit_enforcement", "WARN", "not_applicable", "cost_limit_exceeded", "account", None,
    ),
    "13-support-access": ("platform_authentication", "WARN", "not_applicable", None, None, None),
    "14-multi-factor-authentication": ("platform_authentication", "INFO", "not_applicable", None, None, None),
    "15-purge-location": (
        "network_attachment", "INFO", "not_applicable", "location_purged", "connectivity", "offline",
    ),
    "16-purge-gprs-location": (
        "network_attachment", "INFO", "not_applicable", "location_purged", "connectivity", "offline",
    ),
    "17-self-signup": ("organization_and_billing", "INFO", "not_applicable", None, None, None),
    "18-quota-threshold-reached": (
        "limit_enforcement", "WARN", "not_applicable", "quota_threshold", "account", None,
    ),
    "19-quota-used-up": ("limit_enforcement", "WARN", "not_applicable", "quota_exhausted", "account", None),
    "20-sms-quota-threshold-reached": (
        "limit_enforcement", "WARN", "not_applicable", "quota_threshold", "account", None,
    ),
    "21-sms-quota-used-up": ("limit_enforcement", "WARN", "not_applicable", "quota_exhausted", "account", None),
    "22-cloudconnect-tgw-resource-share-created": ("cloudconnect", "INFO", "not_applicable", None, None, None),
    "23-cloudconnect-tgw-available": ("cloudconnect", "INFO", "not_applicable", None, None, None),
    "24-cloudconnect-vpn-breakout-available": ("cloudconnect", "INFO", "not_applicable", None, None, None),
    "25-cloudconnect-tgw-breakout-terminated": (
        "cloudconnect", "INFO", "not_applicable", "breakout_terminated", "account", None,
    ),
    "26-cloudconnect-vpn-breakout-terminated": (
        "cloudconnect", "INFO", "not_applicable", "breakout_terminated", "account", None,
    ),
    "27-cloudconnect-vpn-breakout-status-changed": ("cloudconnect", "INFO", "not_applicable", None, None, None),
    "30-openvpn-authentication": ("openvpn", "INFO", "not_applicable", None, None, None),
}  # fmt: skip

CLASSES = ("category", "severity", "outcome", "reason", "reason_domain", "device_state")


def sample(path):
    record = json.loads(path.read_text())
    return record[0] if isinstance(record, list) else record


def event(name):
    return event_rows(event_batch(sample(SAMPLES / "events" / f"emnify-openapi-{name}.json")), "w", 3).to_pylist()[0]


def test_every_sample_is_expected():
    names = {path.stem.removeprefix("emnify-openapi-") for path in (SAMPLES / "events").glob("*.json")}
    assert names == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_classes(name):
    row = event(name)
    assert tuple(row[column] for column in CLASSES) == EXPECTED[name]
    assert row["severity_inferred"] is False


def test_all_samples_in_one_batch_equal_each_alone():
    records = [sample(path) for path in sorted((SAMPLES / "events").glob("*.json"))]
    rows = event_rows(event_batch(*records), "w", 3)
    assert rows.schema.equals(EVENTS.schema, check_metadata=True)
    assert rows.to_pylist() == [event_rows(event_batch(record), "w", 3).to_pylist()[0] for record in records]


def test_session_created():
    row = event("03-create-pdp-context")
    expected = {
        "operator_id": 2, "operator_name": "Telekom", "mcc": "262", "mnc": "01", "country": "Germany",
        "country_iso": "DE", "rat": "4G", "apn": "em", "region": "eu-west-1", "breakout_ip": "10.10.10.10",
        "gtp_version": 2, "lac": None, "ci": None, "imsi": "123456789123456", "volume_total": None,
        "session_seconds": None, "serving_node": None,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row["session_start"].isoformat() == "2020-07-20T11:43:59+00:00"


def test_session_deleted():
    row = event("05-delete-pdp-context")
    assert row["session_seconds"] == 17 * 60 + 49
    assert (row["volume_rx"], row["volume_tx"], row["volume_total"]) == (0, 0, 0)
    assert row["breakout_ip"] is None


def test_attach_names_its_node_and_operator():
    row = event("02-update-gprs-location")
    assert row["serving_node"] == "49172.mmec11.mmegi0001.mme.epc.mnc002.mcc262.3gppnetwork.org"
    assert (row["operator_name"], row["mcc"], row["mnc"], row["operator_mncs"]) == ("Vodafone", "262", "02", None)


def test_login_comes_from_the_text():
    application = event("07-application-authentication-failed")
    assert (application["user_username"], application["source_ip"]) == ("Application 123: Test", "10.10.10.10")
    user = event("06-user-authentication-failed")
    assert (user["user_username"], user["source_ip"]) == ("user@example.com", "10.100.10.10")


def test_quotas_in_snake_case():
    data, sms = event("19-quota-used-up"), event("20-sms-quota-threshold-reached")
    assert (data["quota_traffic_type"], str(data["quota_volume"])) == ("data", "0.001848")
    assert str(event("18-quota-threshold-reached")["quota_volume"]) == "-0.002861"
    assert (sms["quota_traffic_type"], sms["quota_threshold_percent"], sms["quota_threshold_volume"]) == ("sms", 50, 1)


def test_breakouts():
    row = event("27-cloudconnect-vpn-breakout-status-changed")
    assert (row["breakout_id"], row["breakout_status"]) == (123, "UP")
    assert event("23-cloudconnect-tgw-available")["breakout_id"] == 307


def test_usage():
    records = [sample(SAMPLES / "usage" / f"emnify-docs-{name}.json") for name in ("05-data", "06-sms")]
    rows = usage_rows(usage_batch(*records), "w", 3)
    assert rows.schema.equals(USAGE.schema, check_metadata=True)
    data, sms = rows.to_pylist()
    assert (data["traffic_type"], data["unit"], sms["traffic_type"], sms["unit"]) == ("data", "MB", "sms", "SMS")
    assert data["hour"].isoformat() == "2024-02-15T14:00:00+00:00"
    assert (data["imei"], data["tac"], data["iccid_19"]) == ("867730051111114", "86773005", "8988303000008013931")
    assert (data["mcc"], data["mnc"], data["country_iso"], data["currency"]) == ("262", "07", "DE", "EUR")
    assert (str(data["cost"]), str(sms["volume_rx"])) == ("0.0018851200", "1.000000")
    assert (data["writer"], data["pane"], data["source_file"], data["schema_version"]) == ("w", 3, "feed.json", 1)
