"""Masks in streams files: complete classes, and every mistake with its place."""

from __future__ import annotations

import pickle
from typing import Literal

import pytest

from schemas.destinations import DestinationOptions, SecretReference
from schemas.masks import CLASS_OF, CLASSES, DELIVERY_IDS, HARMLESS, NUMBERS, MaskEntry, entry_of_columns
from schemas.streams import Stream
from schemas.streams_file import StreamsFileError, parse_streams
from schemas.tables import STREAM_CONTENTS, TABLES


class Nowhere(DestinationOptions):
    type: Literal["nowhere"] = "nowhere"


def parse(mask: str, content: str = "events") -> Stream:
    text = f"streams:\n  - name: a\n    content: {content}\n    destination: {{type: nowhere}}\n    mask:\n{mask}"
    return parse_streams(text, "streams.yaml", {"nowhere": Nowhere}, environment={})[0]


def mistakes(mask: str, content: str = "events") -> list[str]:
    with pytest.raises(StreamsFileError) as caught:
        parse(mask, content)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("content", STREAM_CONTENTS)
def test_every_column_of_a_content_is_decided(content: str) -> None:
    """A new column belongs into a class of `schemas.masks.CLASSES`, or to those that are harmless."""
    names = set(TABLES[content].schema.names)
    assert names - set(CLASS_OF) - HARMLESS - set(DELIVERY_IDS) == set()


def test_no_column_is_decided_twice_and_none_is_unknown() -> None:
    columns = [column for members in CLASSES.values() for column in members]
    assert len(columns) == len(set(columns))
    assert set(columns) & HARMLESS == set()
    known = {name for content in STREAM_CONTENTS for name in TABLES[content].schema.names}
    assert set(columns) | HARMLESS | set(DELIVERY_IDS) == known
    assert set(CLASSES) & known == set()
    assert {"endpoint_id", "sim_id", "user_id", "organisation_id", "lac", "ci"} < NUMBERS


def test_dead_letters_are_no_content() -> None:
    """Bytes that could not be decoded cannot be masked by field."""
    assert "dead_letters" not in STREAM_CONTENTS


def test_the_example_of_the_documents() -> None:
    stream = parse("""\
      - {fields: [subscriber_identifiers], action: pseudonymise, key: {env: MASK_KEY}}
      - {fields: network_addresses, action: truncate}
      - {fields: [people, endpoint_name], action: drop}
      - {fields: [imei], action: truncate, keep: 8}
""")
    assert [entry.action for entry in stream.mask] == ["pseudonymise", "truncate", "drop", "truncate"]
    assert stream.mask[0].key == SecretReference(env="MASK_KEY")
    by_column = entry_of_columns(stream.mask)
    assert by_column["imsi"].action == "pseudonymise"
    assert by_column["imei"].action == "truncate", "a field's own entry goes before that of its class"
    assert by_column["device_ip"].action == "truncate"
    assert "tags" not in by_column
    assert pickle.loads(pickle.dumps(stream)) == stream


def test_every_mistake_has_its_place() -> None:
    told = mistakes("""\
      - {fields: [imssi, event_id, country, []], action: drop}
      - {fields: [imsi], action: hash}
      - {fields: [iccid], action: pseudonymise}
      - {fields: [imei], action: drop, keep: 3, key: {env: A}}
      - {fields: [endpoint_id, description], action: truncate}
      - {fields: [], action: drop}
      - {fields: [free_texts], action: pseudonymise, key: secret}
      - {action: drop, feilds: [imsi]}
""")
    assert [each.replace("streams[0].mask", "", 1).removeprefix("streams.yaml:") for each in told] == [
        "6:19 [0].fields[0]: 'imssi' is none of the 38 known words (did you mean imsi?)",
        "6:26 [0].fields[1]: event_id cannot be masked: receivers tell a repeated record by it",
        "6:36 [0].fields[2]: country tells no person and no device, and is not masked",
        "6:45 [0].fields[3]: [] is none of the 38 known words",
        "7:34 [1].action: 'hash' is none of drop, truncate, pseudonymise",
        "8:9 [2].key: pseudonymise needs a key: {env: NAME}, {file: PATH} or {secret_manager: …}",
        "9:40 [3].keep: keep is for truncate, not drop",
        "9:49 [3].key: key is for pseudonymise, not drop",
        "10:19 [4].fields[0]: endpoint_id is a number and cannot be cut: drop or pseudonymise it",
        "10:32 [4].fields[1]: description holds whole sentences or records: drop it, or mask what stands in it",
        "11:18 [5].fields: names no field: give at least one field or class",
        "12:19 [6].fields[0]: free_texts holds whole sentences or records: drop it, or mask what stands in it",
        "12:59 [6].key: a secret is given by reference, not by value: {env: NAME}, {file: PATH} or "
        "{secret_manager: projects/P/secrets/S}",
        "13:9 [7].fields: 'fields' is missing",
        "13:24 [7].feilds: 'feilds' is not a key here (did you mean fields?)",
    ]


def test_fields_that_the_content_has_not_and_repeated_ones() -> None:
    assert mistakes(
        "      - {fields: [imsi, people], action: drop}\n      - {fields: [iccid, iccid, people], action: drop}\n",
        "device_usage_hourly",
    ) == [
        "streams.yaml:6:19 streams[0].mask[0].fields[0]: device_usage_hourly has no imsi: remove it",
        "streams.yaml:7:26 streams[0].mask[1].fields[1]: iccid is masked by mask[1] too: name it once",
        "streams.yaml:7:33 streams[0].mask[1].fields[2]: people is masked by mask[0] too: name it once",
    ]


@pytest.mark.parametrize("mask", ["      {fields: [imsi]}\n", "      imsi\n", "      - imsi\n", "      - [imsi]\n"])
def test_a_mask_of_another_form_is_one_mistake(mask: str) -> None:
    assert len(mistakes(mask)) == 1


def test_a_secret_is_never_repeated() -> None:
    told = mistakes("      - {fields: [imsi], action: pseudonymise, key: hunter2-hunter2}\n")
    assert "hunter2" not in "".join(told)
    assert "by reference" in told[0]


def test_a_mask_can_be_built_in_code() -> None:
    entry = MaskEntry(fields=("imsi",), action="drop")
    assert entry_of_columns([entry]) == {"imsi": entry}


@pytest.mark.parametrize("action", ["drop", "truncate"])
def test_keys_of_aggregates_stay_different(action: str) -> None:
    """Their digest is the row's delivery id."""
    told = mistakes(
        f"      - {{fields: [subscriber_identifiers, organisations], action: {action}}}\n", "device_events_hourly"
    )
    assert [each.split(": ", 1)[1] for each in told] == [
        "endpoint_id, sim_id: rows of device_events_hourly are told apart by it: pseudonymise it",
        "organisation_id: rows of device_events_hourly are told apart by it: pseudonymise it",
    ]
    pseudonyms = "      - {fields: [endpoint_id, sim_id], action: pseudonymise, key: {env: K}}\n"
    assert parse(pseudonyms + "      - {fields: [subscriber_identifiers], action: drop}\n", "device_events_hourly").mask
