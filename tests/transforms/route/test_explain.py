"""Filters in words, and the clause that decided for a row."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from schemas.tables import EVENTS
from tests.transforms.route.support import streams_of
from transforms.route import Decision, describe, explain_row


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "everything"),
        ([], "everything"),
        ({"min_severity": "WARN"}, "severity is WARN or graver"),
        ({"min_severity": "CRITICAL"}, "severity is CRITICAL"),
        ({"any_of": [{"min_severity": "WARN"}, {"outcome": "rejected"}]},
         "(severity is WARN or graver) or (outcome is rejected)"),
        ({"event_type": [3, 99], "alert": True},
         "event type is one of 3 (Create PDP Context), 99 (not in the catalogue) and alert is true"),
        ({"country": ["de", 262, 901], "not": {"rat": "2G", "tag": "demo"}},
         "country is one of DE (Germany), MCC 262 (Germany), MCC 901 and not (tag is 'demo' and RAT is 2G)"),
        ({"endpoint": [7, "7", "Meter", "8988303000000123456"]},
         "endpoint is one of id 7, id or name 7, 'Meter', ICCID 8988303000000123456"),
        ({"source": "api", "any_of": [{"alert": True}, {"severity": ["INFO", "WARN"]}]},
         "source is api and ((alert is true) or (severity is one of INFO, WARN))"),
        ([{"field": "event_type_id", "value": ["1"]}, {"or": [{"field": "alert", "value": True}]}],
         "(event type is 1 (Update location)) and ((alert is true))"),
    ],
)  # fmt: skip
def test_a_filter_in_words(given: Any, words: str) -> None:
    assert describe(streams_of(given)[0].filter) == words


@pytest.mark.parametrize(
    ("given", "row", "decision"),
    [
        ({}, {}, Decision(True, "the stream takes everything")),
        ({"min_severity": "WARN"}, {"severity": "INFO"}, Decision(False, "severity INFO is not WARN or graver")),
        ({"min_severity": "WARN"}, {}, Decision(False, "severity is missing, so it is not WARN or graver")),
        ({"outcome": "rejected", "alert": True}, {"outcome": "rejected", "alert": True},
         Decision(True, "alert true is true and outcome rejected is rejected")),
        ({"outcome": "rejected", "source": "api"}, {"outcome": "rejected", "source": "network"},
         Decision(False, "source network is not api")),
        ({"any_of": [{"severity": "WARN"}, {"outcome": "rejected"}]}, {"severity": "INFO", "outcome": "rejected"},
         Decision(True, "outcome rejected is rejected")),
        ({"any_of": [{"severity": "WARN"}, {"outcome": "rejected"}]}, {"severity": "INFO", "outcome": "failed"},
         Decision(False, "severity INFO is not WARN, and outcome failed is not rejected")),
        ({"not": {"event_type": 3}}, {"event_type_id": 3},
         Decision(False, "excluded: event type 3 (Create PDP Context) is 3 (Create PDP Context)")),
        ({"not": {"country": "DE"}}, {"country_iso": None},
         Decision(True, "country is missing, so it is not DE (Germany)")),
        ({"operator": [4711, "t-mobile"]}, {"operator_id": 12, "operator_name": "T-Mobile"},
         Decision(True, "operator 12/T-Mobile is one of id 4711, 't-mobile'")),
    ],
)  # fmt: skip
def test_the_clause_that_decided(given: Any, row: dict[str, Any], decision: Decision) -> None:
    (stream,) = streams_of(given)
    assert explain_row(stream, row) == decision
    assert explain_row(stream, pa.RecordBatch.from_pylist([row], schema=EVENTS.schema)) == decision
