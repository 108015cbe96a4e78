from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from pipelines.commands.simulate import HELP
from schemas.event_types import CATEGORIES, EVENT_TYPES
from schemas.reasons import REASON_TABLE
from schemas.tables import TABLES
from simulator import SimulationOptions
from tests.pipelines.commands.conftest import Call

OWN_REASONS = "- {types: [1], reason: antenna_stolen, domain: device, text: antenna}\n"


def test_types_lists_the_whole_catalogue(call: Call) -> None:
    outcome = call("types")
    assert outcome.code == 0
    assert all(kind.name in outcome.out for kind in EVENT_TYPES.values())
    assert max(map(len, outcome.out.splitlines())) <= 80


@pytest.mark.parametrize(("word", "name"), [("3", "Create PDP Context"), ("purge", "Purge location")])
def test_types_by_word(word: str, name: str, call: Call) -> None:
    outcome = call("types", word)
    assert name in outcome.out
    assert "SIM activation" not in outcome.out


def test_types_of_a_category(call: Call) -> None:
    outcome = call("types", "cloudconnect")
    assert CATEGORIES["cloudconnect"] in outcome.out
    assert CATEGORIES["openvpn"] not in outcome.out


def test_types_without_a_match(call: Call) -> None:
    outcome = call("types", "nonsense")
    assert (outcome.code, outcome.out) == (2, "")
    assert "'nonsense' is no id" in outcome.err


def test_reasons_lists_the_table_one_row_a_line(call: Call) -> None:
    lines = call("reasons").out.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(REASON_TABLE)]] == [row.reason for row in REASON_TABLE]


def test_own_reasons_come_first_and_are_marked(call: Call, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN_REASONS)
    assert call("reasons", f"--reasons={own}").out.splitlines()[1].startswith("antenna_stolen *")


def test_every_mistake_in_own_reasons(call: Call, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("- {types: [], reason: Bad, domain: nowhere}\n")
    outcome = call("reasons", f"--reasons={own}")
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 3


def test_schema_of_the_streams_file(call: Call) -> None:
    assert json.loads(call("schema", "streams").out)["properties"]["streams"]


@pytest.mark.parametrize("table", TABLES)
def test_schema_of_a_table(table: str, call: Call) -> None:
    names = TABLES[table].schema.names
    human = call("schema", table).out
    assert all(f"\n{name} " in human for name in names)
    bigquery = json.loads(call("schema", table, "--format=bigquery").out)
    assert [field["name"] for field in bigquery["schema"]["fields"]] == names
    avro = json.loads(call("schema", table, "--format=avro").out)
    assert [field["name"] for field in avro["fields"]] == names
    assert all(f"{name}: " in call("schema", table, "--format=arrow").out for name in names)


def test_schema_of_something_else(call: Call) -> None:
    outcome = call("schema", "evnts")
    assert outcome.code == 2
    assert "did you mean events?" in outcome.err
    assert call("schema", "streams", "--format=avro").code == 2


def test_every_option_of_the_simulator_is_one_of_the_command(call: Call) -> None:
    assert set(HELP) == {field.name for field in fields(SimulationOptions)}
    help_text = call("simulate", "--help").out
    assert all(f"--{name.replace('_', '-')}" in help_text for name in HELP)


def test_simulate(call: Call, tmp_path: Path) -> None:
    outcome = call(
        "simulate",
        "--devices=3",
        "--renderings=current=1",
        "--gzipped=0",
        "--rerendered=0",
        f"--output={tmp_path}/feed",
    )
    assert outcome.code == 0
    truth = json.loads((tmp_path / "feed" / "truth.json").read_text())["feeds"]
    events = next(line.split() for line in outcome.out.splitlines() if line.startswith("events"))
    assert events[1] == f"{truth['events']['received']:,}"
    assert {path.name.split("-")[0] for path in (tmp_path / "feed" / "events").rglob("*.*")} == {"current"}


def test_every_mistake_in_the_options_of_a_simulation(call: Call, tmp_path: Path) -> None:
    outcome = call("simulate", "--devices=0", "--late=3", f"--output={tmp_path}/feed")
    assert outcome.code == 2
    assert [line.split()[1] for line in outcome.err.splitlines()] == ["late", "devices"]
    assert "not of the form" in call("simulate", "--renderings=csv", f"--output={tmp_path}/feed").err
    assert not (tmp_path / "feed").exists()


def test_a_directory_of_something_else_is_not_overwritten(call: Call, tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    outcome = call("simulate", f"--output={tmp_path}")
    assert outcome.code == 2
    assert "choose another directory" in outcome.err
