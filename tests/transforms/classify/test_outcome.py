"""Outcomes and reasons out of texts, one text at least for each row of the table."""

import pytest

from schemas.reasons import REASON_TABLE, Reason
from tests.transforms.classify.make_records import event_batch
from transforms.classify import event_rows

WARN = {"id": 1, "description": "Warn"}
INFO = {"id": 0, "description": "Info"}
NETWORK, POLICY, API = {"id": 0}, {"id": 1}, {"id": 2}
REJECTED = "PDP Context Request rejected, because "

# type, text → outcome, reason, domain; the first ones were published, the others are named in documents only
TEXTS = [
    (1, "Location update rejected from VLR 49 (T-Mobile) for IMSI 2620. This operator is currently not supported for "
        "this IMSI. A different IMSI or operator will be used for the network registration.",
     "rejected", "operator_not_supported", "connectivity"),
    (3, REJECTED + "SIM is not activated.", "rejected", "sim_not_active", "account"),
    (3, REJECTED + "data service disabled in service profile.", "rejected", "data_service_disabled", "account"),
    (3, REJECTED + "endpoint has no quota.", "rejected", "quota_missing", "account"),
    (3, REJECTED + "quota volume of endpoint is exhausted and defined action is to block data traffic.",
     "rejected", "quota_exhausted", "account"),
    (3, REJECTED + "IMEI lock active, but IMEIs do not match, EP IMEI=1, IMEI provided from network = 2",
     "rejected", "imei_lock_mismatch", "device"),
    (3, REJECTED + "endpoint is currently blocked due to exceeded traffic limit.",
     "rejected", "traffic_limit_exceeded", "account"),
    (0, "Disconnecting data access for endpoint to apply throttling action.", "not_applicable", "throttled", "account"),
    (0, "Disconnecting data access for endpoint, because quota has been updated.",
     "not_applicable", "quota_changed", "account"),
    (0, "Disconnecting data access for endpoint, because it has been disabled.",
     "not_applicable", "endpoint_disabled", "account"),
    (0, "SMS to 1 cannot be forwarded, because no API Callback URL defined in service profile.",
     "failed", "callback_missing", "application"),
    (0, "Unable to dispatch DLR to API Callback URL https://example.com (HTTP code=400)",
     "failed", "callback_failed", "application"),
    (6, "Failed authentication request from 'a@example.com', Reason: Invalid password from IP 10.1.1.1",
     "failed", "invalid_credentials", "account"),
    (7, "Failed authentication request from 'Application 1', Reason:  Organisation Status: Suspended from IP 10.1.1.1",
     "failed", "organisation_not_active", "account"),
    (11, "Blocking data access for endpoint, traffic limit exceeded.",
     "not_applicable", "traffic_limit_exceeded", "account"),
    (12, "Blocking services for organisation, because of insufficient prepaid balance.",
     "not_applicable", "prepaid_balance_insufficient", "account"),
    (12, "Blocking services for organisation, because monthly cost limit exceeded.",
     "not_applicable", "cost_limit_exceeded", "account"),
    (15, "VLR location information has been purged for IMSI='1'.", "not_applicable", "location_purged", "connectivity"),
    (16, "SGSN location information has been purged for IMSI='1'.",
     "not_applicable", "location_purged", "connectivity"),
    (18, "Endpoint quota threshold reached, volume is below 0%.", "not_applicable", "quota_threshold", "account"),
    (19, "Quota volume is completely used up and data access denied for endpoint.",
     "not_applicable", "quota_exhausted", "account"),
    (21, "SMS quota volume is completely used up and SMS access denied for endpoint.",
     "not_applicable", "quota_exhausted", "account"),
    (27, "CloudConnect connectivity state of breakout '1' changed to 'DOWN'",
     "not_applicable", "breakout_down", "application"),
    (27, "CloudConnect connectivity state of breakout '1' changed to 'UP'", "not_applicable", None, None),
    (25, "CloudConnect Transit Gateway breakout 169 has been terminated",
     "not_applicable", "breakout_terminated", "account"),
    (9, "Status of SIM changed from 'Activated' to 'Suspended'", "not_applicable", "sim_suspended", "account"),
    (10, "Activated SIM got deleted", "not_applicable", "sim_deleted", "account"),
    (60, "Quota expired", "not_applicable", "quota_expired", "account"),
    (43, "Endpoint disabled", "not_applicable", "endpoint_disabled", "account"),
    (30, "OpenVPN client (re-)authenticated successfully", "not_applicable", None, None),
    (1, "Location update rejected: roaming not allowed", "rejected", "roaming_not_allowed", "connectivity"),
    (2, "Location update rejected: PLMN not allowed", "rejected", "roaming_not_allowed", "connectivity"),
    (2, "Update rejected: operator on blacklist", "rejected", "coverage_policy", "account"),
    (3, REJECTED + "not within the coverage policy", "rejected", "coverage_policy", "account"),
    (2, "Update rejected: RAT type='E_UTRAN' not permitted", "rejected", "rat_not_allowed", "account"),
    (1, "Location update rejected: unknown subscriber", "rejected", "unknown_subscriber", "platform"),
    (1, "Authentication procedure failed", "rejected", "sim_authentication_failed", "device"),
    (2, "Update rejected: too many requests", "rejected", "signalling_rate_limited", "device"),
    (3, "Create session failed: system failure", "rejected", "network_failure", "connectivity"),
    (3, REJECTED + "APN is wrong", "rejected", "apn_rejected", "device"),
    (30, "OpenVPN client authentication failed", "failed", "vpn_authentication_failed", "application"),
    (35, "Charging an invoice failed", "failed", "payment_failed", "account"),
    (35, "Credit card expires in 60 days", "not_applicable", "card_expiring", "account"),
    (29, "OpenVPN client disconnected", "not_applicable", "vpn_disconnected", "application"),
    (49, "Device offline", "not_applicable", "no_reconnect", "device"),
    (63, "Threshold reached", "not_applicable", "order_limit_threshold", "account"),
    (64, "Limit reached", "not_applicable", "order_limit_reached", "account"),
    (65, "Data traffic limit warning", "not_applicable", "traffic_limit_warning", "account"),
]  # fmt: skip


def classify(*records, **options):
    return event_rows(event_batch(*records), "w", 0, **options).to_pylist()


def record(kind, text, severity=WARN, source=NETWORK, **more):
    return {
        "event_type": {"id": kind}, "event_severity": severity, "event_source": source, "description": text, **more,
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "outcome", "reason", "domain"), TEXTS)
def test_known_texts(kind, text, outcome, reason, domain):
    row = classify(record(kind, text))[0]
    assert (row["outcome"], row["reason"], row["reason_domain"]) == (outcome, reason, domain)


@pytest.mark.parametrize("fold", [str.upper, lambda text: f"  {text}\n".replace(" ", " \n ")])
def test_case_and_white_space_do_not_matter(fold):
    expected = [text[2:] for text in TEXTS]
    rows = classify(*(record(kind, fold(text)) for kind, text, *_ in TEXTS))
    assert [(row["outcome"], row["reason"], row["reason_domain"]) for row in rows] == expected


def test_large_batches_agree_with_small_ones():
    expected = [text[2:] for text in TEXTS]
    rows = classify(*(record(kind, text) for kind, text, *_ in TEXTS * 60))
    assert [(row["outcome"], row["reason"], row["reason_domain"]) for row in rows] == expected * 60


def test_every_row_of_the_table_is_reached():
    reached = {(kind, reason) for kind, _, _, reason, _ in TEXTS}
    for row in REASON_TABLE:
        assert any((kind, row.reason) in reached for kind in row.types), row


@pytest.mark.parametrize(
    ("text", "severity", "outcome"),
    [
        ("New PDP Context successfully activated", WARN, "accepted"),
        ("New location received from VLR", WARN, "accepted"),
        ("Context updated", INFO, "accepted"),
        ("Context updated", WARN, "rejected"),
        ("Context updated", {"id": 2}, "rejected"),
        ("Not successful: access denied", INFO, "rejected"),
        ("Request refused", INFO, "rejected"),
        (None, INFO, "accepted"),
        (None, WARN, "rejected"),
    ],
)
def test_text_decides_over_severity(text, severity, outcome):
    row = classify(record(4, text, severity))[0]
    assert row["outcome"] == outcome
    assert row["device_state"] is None


def test_any_type_can_be_rejected():
    row = classify(record(8, "Activation rejected by policy", source=API))[0]
    assert (row["outcome"], row["reason"], row["reason_domain"]) == ("rejected", "other", "platform")


@pytest.mark.parametrize(
    ("source", "domain"), [(NETWORK, "connectivity"), (POLICY, "account"), (API, "platform"), (None, None)]
)
def test_unknown_reasons_have_the_domain_of_their_source(source, domain):
    row = classify(record(3, REJECTED + "of the weather.", source=source))[0]
    assert (row["reason"], row["reason_domain"]) == ("other", domain)


def test_login_without_known_reason_failed():
    row = classify(record(6, "Failed authentication request", source=API))[0]
    assert (row["outcome"], row["reason"], row["reason_domain"]) == ("failed", "other", "platform")


def test_breakout_status_in_detail():
    rows = classify(*(record(27, "Changed", detail={"status": status}) for status in ("UP", "down", {"id": 1}, None)))
    assert [row["reason"] for row in rows] == [None, "breakout_down", None, None]


def test_rejected_attempts_do_not_change_the_state():
    rows = classify(*(record(kind, "rejected") for kind in (1, 2, 3)), record(11, "x"), record(49, "x"))
    assert [row["device_state"] for row in rows] == [None, None, None, "blocked", "offline"]


def test_unknown_types_are_other():
    row = classify(record(4711, "Something new"))[0]
    assert (row["category"], row["event_type"], row["event_type_id"]) == ("other", None, 4711)
    assert (row["outcome"], row["reason"], row["device_state"]) == ("not_applicable", None, None)


def test_rows_of_the_operator_win():
    own = (Reason(types=(3, 4711), text="weather|no quota", reason="weather", domain="device", failed=True),)
    table = own + REASON_TABLE
    rows = classify(
        record(3, REJECTED + "of the weather."), record(3, REJECTED + "endpoint has no quota."),
        record(4711, "Bad weather"), table=table,
    )  # fmt: skip
    assert [(row["outcome"], row["reason"]) for row in rows] == [
        ("rejected", "weather"), ("rejected", "weather"), ("failed", "weather"),
    ]  # fmt: skip
