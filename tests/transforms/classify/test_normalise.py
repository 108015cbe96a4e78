"""Normalised columns: details in all their forms, identities, severities, quotas, usage."""

import datetime
import json
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import EVENT_RECORD
from tests.transforms.classify.make_records import event, event_batch, raw_batch, usage_batch
from transforms.classify import event_rows, usage_rows
from transforms.classify.decimals import volume, volumes
from transforms.classify.identity import iccid_19, imei_and_tac
from transforms.classify.text import fold

UTC = datetime.UTC


def rows(*records):
    return event_rows(event_batch(*records), "w", 0).to_pylist()


def detailed(kind, detail, text=None, **more):
    return rows({"event_type": {"id": kind}, "detail": detail, "description": text, **more})[0]


def raw_detail(kind, text):
    """A record whose detail column holds exactly this JSON text."""
    row = event({"id": 1, "timestamp": "2026-05-04T03:02:01Z", "event_type": {"id": kind}}) | {"detail": text}
    return event_rows(raw_batch(EVENT_RECORD, [row]), "w", 0).to_pylist()[0]


def pick(row, *names):
    return tuple(row[name] for name in names)


# Details of the network


def test_legacy_numbers_as_texts():
    context = {"gtp_version": "1", "rat_type": "2", "lac": "1023", "ci": "77", "mcc": 262, "mnc": 1, "imsi": 26201}
    row = detailed(3, {"id": "5", "pdp_context": context, "country": {"mcc": 262}})
    assert pick(row, "operator_id", "gtp_version", "rat", "lac", "ci") == (5, 1, "2G", 1023, 77)
    assert pick(row, "mcc", "mnc", "imsi") == ("262", "01", "26201")


def test_leading_zeros():
    assert pick(detailed(3, {"pdp_context": {"mcc": "001", "mnc": "010"}}), "mcc", "mnc") == ("001", "010")
    assert detailed(1, {"country": {"mcc": 1}})["mcc"] == "001"


@pytest.mark.parametrize(
    ("context", "column"),
    [
        ({"lac": {"odd": 1}}, "lac"),
        ({"apn": 7.5}, "apn"),
        ({"gtp_version": "two"}, "gtp_version"),
        ({"gtp_version": 2**40}, "gtp_version"),
        ({"ci": 2**70}, "ci"),
        ({"rat_type": 99}, "rat"),
        ({"rat_type": 0}, "rat"),
        ({"tunnel_created": "yesterday"}, "session_start"),
        ({"tunnel_created": "1999-01-01T00:00:00"}, "session_start"),
        ({"tunnel_created": 7}, "session_start"),
        ({"breakout_ip": "unavailable"}, "breakout_ip"),
    ],
)
def test_an_odd_field_is_null_and_the_others_stay(context, column):
    row = detailed(3, {"id": 5, "name": "O2", "pdp_context": {"region": "eu-west-1"} | context})
    assert row[column] is None
    assert pick(row, "operator_id", "operator_name", "region") == (5, "O2", "eu-west-1")


@pytest.mark.parametrize(
    "detail",
    ["null", "{}", "[]", '""', "7", '"text"', '{"pdp_context": [1]}', '{"country": 7, "volume": "x"}', "[" * 2000,
     '{"id": true}', '{"mnc": {"x": [1]}}', '"{\\"id\\": "'],
)  # fmt: skip
@pytest.mark.parametrize("kind", [1, 3, 5, 18, 27, 56, 13])
def test_odd_details_never_fail(kind, detail):
    row = raw_detail(kind, detail)
    assert pick(row, "operator_id", "mcc", "volume_total", "breakout_id") == (None, None, None, None)
    assert row["detail"] == detail


def test_detail_that_is_json_in_a_text():
    row = detailed(3, json.dumps({"id": 5, "pdp_context": {"mcc": "262"}}))
    assert pick(row, "operator_id", "mcc", "country_iso") == (5, "262", "DE")


@pytest.mark.parametrize(
    ("listed", "mnc", "all_mncs"),
    [
        ([{"id": 1, "mnc": "02"}], "02", None),
        ([{"id": 1, "mnc": "02"}, {"id": 2, "mnc": "04"}], None, "02,04"),
        ([{"id": 1, "mnc": "02"}, {"id": 2, "mnc": "02"}], "02", None),
        (["02", 4], None, "02,04"),
        ("02", "02", None),
        (7, "07", None),
        ([], None, None),
        ([{"id": 1}], None, None),
    ],
)
def test_network_codes_of_the_operator(listed, mnc, all_mncs):
    assert pick(detailed(1, {"mnc": listed}), "mnc", "operator_mncs") == (mnc, all_mncs)


def test_the_context_goes_before_the_operator():
    row = detailed(3, {"mnc": [{"mnc": "02"}, {"mnc": "03"}], "country": {"mcc": "262"},
                       "pdp_context": {"mcc": "232", "mnc": "05", "imsi": "1"}}, imsi={"imsi": "2"})  # fmt: skip
    assert pick(row, "mcc", "mnc", "operator_mncs", "country_iso", "imsi", "sim_imsi") == (
        "232", "05", None, "AT", "1", "2",
    )  # fmt: skip


def test_international_networks_have_no_country():
    assert pick(detailed(3, {"pdp_context": {"mcc": "901", "mnc": "43"}}), "mcc", "country_iso") == ("901", None)


@pytest.mark.parametrize(
    ("apn", "part"),
    [("em.mnc009.mcc295.gprs", "em"), ("a.b.MNC09.MCC295.GPRS", "a.b"), ("internet", "internet"), (None, None)],
)
def test_network_part_of_the_access_point(apn, part):
    assert detailed(3, {"pdp_context": {"apn": apn}})["apn"] == part


@pytest.mark.parametrize(
    "created",
    ["2026-05-04T03:00:00", "2026-05-04T03:00:00Z", "2026-05-04T03:00:00.000Z", "2026-05-04 03:00:00",
     "2026-05-04T03:00:00.000+0000", "2026-05-04T05:00:00+02:00"],
)  # fmt: skip
def test_session_length(created):
    row = detailed(5, {"pdp_context": {"tunnel_created": created}})
    assert row["session_start"] == datetime.datetime(2026, 5, 4, 3, tzinfo=UTC)
    assert row["session_seconds"] == 121


def test_session_that_begins_after_its_end_has_no_length():
    row = detailed(5, {"pdp_context": {"tunnel_created": "2026-05-04T04:00:00"}})
    assert row["session_seconds"] is None
    assert row["session_start"] is not None


@pytest.mark.parametrize("amount", [0.1, "0.1", 123456789.123456, "99999999999999999999.123456", "0.0000005", -0.0012])
def test_volumes_are_exact(amount):
    row = detailed(5, {"volume": {"rx": amount, "tx": 0, "total": "odd"}})
    assert pick(row, "volume_rx", "volume_tx", "volume_total") == (volume(amount), 0, None)
    assert detailed(3, {"volume": {"rx": amount}})["volume_rx"] is None


def test_volumes_of_a_text_detail_are_exact():
    row = detailed(5, json.dumps({"volume": {"rx": "99999999999999999999.123456", "tx": 0.0000005}}))
    assert pick(row, "volume_rx", "volume_tx") == (Decimal("99999999999999999999.123456"), 0)


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20), max_size=20))
def test_fast_volumes_equal_decimals(numbers):
    doubles = pa.array([float(number) for number in numbers], pa.float64())
    texts = [str(number) for number in numbers]
    assert volumes(doubles, lambda place: texts[place]).to_pylist() == [volume(text) for text in texts]


@given(st.integers(-(10**14) + 1, 10**14 - 1), st.integers(0, 9))
def test_volumes_of_14_digits_need_no_second_look(digits, places):
    number = Decimal(digits).scaleb(-places)
    if abs(number) >= 10**8:
        return
    exact = number.quantize(Decimal("0.000001"))
    if (number * 10**6) % 1 != Decimal("0.5"):
        assert volumes(pa.array([float(number)]), lambda _: str(number)).to_pylist() == [exact]


# Texts


@given(st.lists(st.none() | st.text(alphabet="aB \t\n\u00a0\u00c4\u212a.", max_size=12), max_size=8))
def test_fold(texts):
    expected = [None if text is None else " ".join(text.lower().split()) for text in texts]
    assert fold(pa.array(texts, pa.string())).to_pylist() == expected
    assert fold(pa.array(["X  Y", *texts], pa.string()).slice(1)).to_pylist() == expected


def test_rejected_attach_names_operator_and_node():
    text = "Location update rejected from VLR 491710 (Orange (FR)) for IMSI 2620."
    row = rows({"event_type": {"id": 1}, "description": text})[0]
    assert pick(row, "operator_name", "serving_node", "outcome") == ("Orange (FR)", "491710", "rejected")
    text = "Location update rejected from SGSN 491710 for IMSI 2620."
    row = rows({"event_type": {"id": 2}, "description": text})[0]
    assert pick(row, "operator_name", "serving_node") == (None, "491710")


@pytest.mark.parametrize("count", [1, 1000])
@pytest.mark.parametrize(
    ("text", "node", "rat"),
    [
        ("New location received from SGSN for IMSI='1', now attached to SGSN='49172', IP='1.2.3.4', "
         "RAT type='E_UTRAN'.",
         "49172", "4G"),
        ("New location received from VLR for IMSI='1', now attached to VLR='49172'.", "49172", None),
        ("NEW LOCATION RECEIVED, NOW ATTACHED TO  MME = 'mme.epc', RAT TYPE 'geran'", "mme.epc", "2G"),
        ("New location received, now attached to nothing", None, None),
        ("New location, RAT type='warp'", None, None),
        (None, None, None),
    ],
)  # fmt: skip
def test_accepted_attach_names_its_node(text, node, rat, count):
    for row in rows(*({"event_type": {"id": 2}, "description": text} for _ in range(count))):
        assert pick(row, "serving_node", "rat", "outcome") == (node, rat, "accepted")


def test_technology_of_the_context_goes_before_the_text():
    record = {"event_type": {"id": 2}, "description": "New location, RAT type='UTRAN'"}
    assert rows(record | {"detail": {"pdp_context": {"rat_type": 6}}})[0]["rat"] == "4G"


def test_login_fields_go_before_the_text():
    text = "Failed authentication request from 'x@example.com', Reason: Invalid token from IP 2001:db8::1"
    record = {"event_type": {"id": 6}, "description": text}
    assert pick(rows(record)[0], "user_username", "source_ip") == ("x@example.com", "2001:db8::1")
    record |= {"user": {"username": "y@example.com"}, "detail": {"sourceIp": "192.0.2.1"}}
    assert pick(rows(record)[0], "user_username", "source_ip") == ("y@example.com", "192.0.2.1")


def test_source_address_of_other_types():
    assert detailed(14, {"sourceIp": "192.0.2.1", "userAgent": "x"})["source_ip"] == "192.0.2.1"


# Severities and sources


@pytest.mark.parametrize(
    ("kind", "severity", "expected", "inferred"),
    [
        (1, {"id": 2, "description": "Info"}, "CRITICAL", False),
        (1, {"description": "Warning"}, "WARN", False),
        (1, {"description": "wArN"}, "WARN", False),
        (1, {"id": 9, "description": " critical "}, "CRITICAL", False),
        (1, {"id": 9, "description": "dire"}, "INFO", True),
        (35, None, "WARN", True),
        (11, None, "WARN", True),
        (28, None, "INFO", True),
        (4711, None, "INFO", True),
        (None, None, "INFO", True),
    ],
)
def test_severity(kind, severity, expected, inferred):
    row = rows({"event_type": {"id": kind}, "event_severity": severity, "description": "new location"})[0]
    assert pick(row, "severity", "severity_inferred") == (expected, inferred)


@pytest.mark.parametrize(
    ("source", "expected"),
    [({"id": 1}, "policy_control"), ({"description": "Policy  Control"}, "policy_control"), ({"name": "api"}, "api"),
     ({"id": 7}, None), (None, None)],
)  # fmt: skip
def test_source(source, expected):
    assert rows({"event_source": source})[0]["source"] == expected


# Identities


def test_imei():
    raw = ["3520990017614823", "490154203237518", "49015420323751", "8677300511111142", "123456789000114f", "", None,
           " 490154203237518 ", "٤٩٠١٥٤٢٠٣٢٣٧٥١٨"]  # fmt: skip
    imei, tac = imei_and_tac(pa.array(raw, pa.string()))
    assert imei.to_pylist() == [
        "352099001761481", "490154203237518", None, "867730051111114", None, None, None, "490154203237518", None,
    ]  # fmt: skip
    assert tac.to_pylist() == ["35209900", "49015420", None, "86773005", None, None, None, "49015420", None]
    assert [len(column) for column in imei_and_tac(pa.array([None], pa.string()))] == [1, 1]


def test_iccid():
    raw = ["89883030000080139311", "8988303000008013931", "898830300000801393", "8988303000008013931F", None]
    assert iccid_19(pa.array(raw, pa.string())).to_pylist() == ["8988303000008013931"] * 2 + [None] * 3


# Quotas


def test_quota_in_camel_case():
    quota = {"autoRefill": True, "expiryDate": "2022-03-31T00:00:00Z", "thresholdPercentage": 20,
             "thresholdVolume": "5", "volume": 500, "status": {"id": 1, "description": "Active"},
             "action_on_exhaustion": {"id": 2, "description": "Throttle", "peak_throughput": 64000}}  # fmt: skip
    row = detailed(56, {"quota": quota})
    assert pick(row, "quota_traffic_type", "quota_volume", "quota_threshold_percent", "quota_threshold_volume") == (
        "data", 500, 20, 5,
    )  # fmt: skip
    assert pick(row, "quota_status", "quota_action") == ("ACTIVE", "Throttle")
    assert row["quota_expires"] == datetime.datetime(2022, 3, 31, tzinfo=UTC)


@pytest.mark.parametrize("date", ["2022-03-31T00:00:00Z", "2022-03-31 00:00:00", "2022-03-31"])
@pytest.mark.parametrize("end", ["}", ', "odd": {}', ', "cut": "of'])
def test_quota_in_a_text_that_is_not_json(date, end):
    text = ('{"endpoint_quota_id": 12, "quota_status_id": 1, "action_on_quota_exhaustion_id": 1, "volume": 500.000000, '
            f'"expiry_date": {date}, "traffic_type_id": 6{end}')  # fmt: skip
    row = detailed(58, text)
    assert pick(row, "quota_traffic_type", "quota_volume", "quota_status", "quota_action") == (
        "sms", 500, "ACTIVE", "Block",
    )  # fmt: skip
    assert row["quota_expires"] == datetime.datetime(2022, 3, 31, tzinfo=UTC)


def test_percentage_in_the_text():
    assert detailed(65, None, "80% of the traffic limit used")["quota_threshold_percent"] == 80
    assert detailed(18, {"quota": {"threshold_percentage": 20}}, "below 50%")["quota_threshold_percent"] == 20
    assert detailed(19, None, "100% used")["quota_threshold_percent"] is None


# Usage


def test_usage_without_an_end_lies_in_the_hour_of_its_start():
    batch = usage_batch({"start_timestamp": "2026-05-04T03:59:59Z"}, {"end_timestamp": "2026-05-04T04:00:00Z"})
    assert [hour.hour for hour in usage_rows(batch, "w", 0).column("hour").to_pylist()] == [3, 4]


@pytest.mark.parametrize(
    ("traffic", "word", "unit"),
    [({"id": 5}, "data", "MB"), ({"id": 6, "description": "Data"}, "sms", "SMS"),
     ({"description": " SMS"}, "sms", "SMS"),
     ({"id": 7, "description": "Data"}, None, None), (None, None, None)],
)  # fmt: skip
def test_traffic_types(traffic, word, unit):
    row = usage_rows(usage_batch({"start_timestamp": "2026-05-04T03:00:00Z", "traffic_type": traffic}), "w", 0)
    assert pick(row.to_pylist()[0], "traffic_type", "unit") == (word, unit)


def test_currencies_and_networks():
    start = {"start_timestamp": "2026-05-04T03:00:00Z"}
    batch = usage_batch(
        start | {"currency": {"id": 2}, "rat_type": 9, "operator": {"country": {"mcc": "310"}}},
        start | {"currency": {"id": 9}, "operator": {"country": {"mcc": "901"}}},
        start | {"currency": {"id": 1, "code": "CHF"}},
        start,
    )
    found = [pick(row, "currency", "rat", "country_iso") for row in usage_rows(batch, "w", 0).to_pylist()]
    assert found == [("USD", "CAT-M", "US"), (None, None, None), ("CHF", None, None), (None, None, None)]


@pytest.mark.parametrize("make", [lambda: event_rows(event_batch(), "w", 0), lambda: usage_rows(usage_batch(), "w", 0)])
def test_empty_batches(make):
    assert make().num_rows == 0


def test_sliced_batches_equal_their_part():
    records = [
        {"event_type": {"id": 3}, "description": f"Context  {number} successful",
         "detail": {"id": number, "pdp_context": {"mcc": "262", "lac": number}}, "endpoint": {"imei": f"{number:016d}"},
         "sim": {"iccid": f"{number:020d}"}}
        for number in range(10)
    ]  # fmt: skip
    whole = event_rows(event_batch(*records), "w", 0)
    part = event_rows(event_batch(*records).slice(3, 4), "w", 0)
    assert part.to_pylist() == whole.slice(3, 4).to_pylist()
