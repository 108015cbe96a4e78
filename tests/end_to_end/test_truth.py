"""A dirty feed: what the job finds equals the simulator's truth, to the last decimal."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from schemas.tables import TABLES
from simulator import SECRET_MARK
from tests.end_to_end import runs
from warehouse.audit import audit


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Truth and output of a run over a feed with all kinds of dirt."""
    directory = tmp_path_factory.mktemp("dirty")
    truth = runs.feed(
        directory / "feed", devices=120, days=2, seed=11, duplicates=0.02, conflicts=0.005, malformed=0.01, late=0.05,
        shuffled=0.3, odd=0.02, empty=0.002, misplaced=0.002, over_long=1,
    )  # fmt: skip
    runs.run(f"{directory}/feed/{{feed}}/*/*", directory / "output")
    return truth, directory / "output"


def test_every_line_is_accounted_for(dirty: tuple[dict[str, Any], Path]) -> None:
    truth, output = dirty
    for feed, wanted in truth["feeds"].items():
        (read,) = runs.ask(
            output,
            "SELECT sum(received), sum(empty), sum(dead_lettered), sum(decoded) FROM ledger "
            f"WHERE stage = 'feed' AND feed = '{feed}'",
        )
        assert read == tuple(wanted[name] for name in ("received", "empty", "dead_lettered", "decoded"))
        (cells,) = runs.ask(
            output,
            "SELECT sum(received), sum(duplicates), sum(conflicts), sum(delivered) FROM ledger "
            f"WHERE stage = 'cell' AND feed = '{feed}'",
        )
        assert cells == tuple(wanted[name] for name in ("decoded", "duplicates", "conflicts", "unique"))
        assert runs.ask(output, f"SELECT count(*) FROM {feed}") == [(wanted["unique"],)]
        hours = dict(runs.ask(output, f"SELECT strftime(hour, '%Y-%m-%dT%H:00:00Z'), count(*) FROM {feed} GROUP BY 1"))
        assert hours == wanted["hours"]


def test_dead_letters_by_reason(dirty: tuple[dict[str, Any], Path]) -> None:
    truth, output = dirty
    for feed, wanted in truth["feeds"].items():
        found = dict(
            runs.ask(
                output,
                f"SELECT reason, count(*) FROM dead_letters WHERE kind = 'malformed' AND feed = '{feed}' GROUP BY 1",
            )
        )
        assert found == wanted["dead_letters"]
        conflicts = runs.ask(output, f"SELECT count(*) FROM dead_letters WHERE kind = 'conflict' AND feed = '{feed}'")
        assert conflicts == [(wanted["conflicts"],)]


@pytest.mark.parametrize("source", ["usage", "device_usage_hourly"])
def test_sums_are_exact(dirty: tuple[dict[str, Any], Path], source: str) -> None:
    truth, output = dirty
    count = "count(*)" if source == "usage" else "sum(records)"
    for section, key in (
        ("totals", "currency"),
        ("by_country", "country_iso, currency"),
        ("by_organisation", "organisation_id, currency"),
    ):
        found = runs.ask(
            output,
            f"SELECT {key}, unit, sum(volume_rx), sum(volume_tx), sum(volume_total), sum(cost), {count} "
            f"FROM {source} GROUP BY ALL",
        )
        names = [*key.split(", "), "unit"]
        wanted = [
            (*(row[name] for name in names),
             *(Decimal(row[name]) for name in ("volume_rx", "volume_tx", "volume_total", "cost")), row["records"])
            for row in truth["usage"][section]
        ]  # fmt: skip
        assert sorted(found, key=repr) == sorted(wanted, key=repr)


@pytest.mark.parametrize("source", ["usage", "device_usage_hourly"])
def test_each_device_has_its_own_usage(dirty: tuple[dict[str, Any], Path], source: str) -> None:
    truth, output = dirty
    count = "count(*)" if source == "usage" else "sum(records)::BIGINT"
    sums = ("volume_rx", "volume_tx", "volume_total", "cost")
    found = runs.ask(
        output,
        f"SELECT endpoint_id, organisation_id, unit, {', '.join(f'coalesce(sum({name}), 0)' for name in sums)}, "
        f"{count} FROM {source} WHERE endpoint_id IS NOT NULL GROUP BY ALL",
    )
    wanted = [
        (int(device), known["organisation_id"], unit, *(Decimal(used[name]) for name in sums), used["records"])
        for device, known in truth["devices"]["by_endpoint"].items()
        for unit, used in known["usage"].items()
        if used["records"]
    ]
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize("source", ["events", "device_events_hourly"])
def test_each_device_has_its_own_events(dirty: tuple[dict[str, Any], Path], source: str) -> None:
    truth, output = dirty
    counts = "count(*), count(*) FILTER (alert)" if source == "events" else "sum(events)::BIGINT, sum(alerts)::BIGINT"
    found = runs.ask(
        output, f"SELECT endpoint_id, {counts} FROM {source} WHERE endpoint_id IS NOT NULL GROUP BY ALL ORDER BY 1"
    )
    known = truth["devices"]["by_endpoint"].items()
    assert found == sorted((int(device), had["events"], had["alerts"]) for device, had in known if had["events"])


def test_each_file_is_an_input_with_what_was_in_it(dirty: tuple[dict[str, Any], Path]) -> None:
    truth, output = dirty
    root = output.parent / "feed"
    found = {
        str(Path(file).relative_to(root)): (records, letters)
        for file, records, letters in runs.ask(output, "SELECT file, records, dead_letters FROM inputs")
    }
    assert found.keys() == truth["files"].keys()
    ignored = {name: lines - sum(found[name]) for name, lines in truth["files"].items()}
    feeds = truth["feeds"].values()
    assert min(ignored.values()) >= 0
    assert sum(ignored.values()) == sum(feed["empty"] for feed in feeds)
    assert sum(records for records, _ in found.values()) == sum(feed["decoded"] for feed in feeds)
    (span,) = runs.ask(output, "SELECT min(first_time), max(last_time) FROM inputs")
    (rows,) = runs.ask(
        output,
        "SELECT min(t), max(t) FROM (SELECT event_time AS t FROM events UNION ALL SELECT end_time FROM usage)",
    )
    assert span[0] <= rows[0] and rows[1] <= span[1]


@pytest.mark.parametrize(
    "column",
    ["category", "severity", "source", "outcome", "reason", "reason_domain", "event_type_id", "organisation_id"],
)
def test_events_are_classified_as_the_simulator_meant(dirty: tuple[dict[str, Any], Path], column: str) -> None:
    truth, output = dirty
    wanted = truth["events"][f"by_{column.removesuffix('_id') if column == 'organisation_id' else column}"]
    found = runs.ask(output, f"SELECT {column}, count(*) FROM events WHERE {column} IS NOT NULL GROUP BY 1")
    assert {str(name): count for name, count in found} == wanted


def test_the_audit_passes(dirty: tuple[dict[str, Any], Path]) -> None:
    result = audit(dirty[1])
    assert result.ok, result


def test_secrets_are_nowhere(dirty: tuple[dict[str, Any], Path]) -> None:
    output = dirty[1]
    mark = SECRET_MARK.encode() if isinstance(SECRET_MARK, str) else SECRET_MARK
    for table in ("events", "dead_letters"):
        for row in runs.rows(output, table):
            assert mark not in repr(row).encode(), f"a secret in {table}"
    for path in output.rglob("*"):
        if path.is_file() and path.suffix not in (".parquet", ".gz"):
            assert mark not in path.read_bytes(), f"a secret in {path}"


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_table_opens_with_default_settings(dirty: tuple[dict[str, Any], Path], table: str) -> None:
    output = dirty[1]
    expected = TABLES[table].schema
    found = ds.dataset(f"{output}/warehouse/{table}").to_table()
    assert found.schema.names[: len(expected.names)] == expected.names
    (counted,) = runs.ask(output, f"SELECT count(*) FROM {table}")[0]
    assert counted == found.num_rows


def test_a_line_of_17_mb_is_kept_beside_the_table(dirty: tuple[dict[str, Any], Path]) -> None:
    output = dirty[1]
    ((sha256, size, payload),) = runs.ask(
        output, "SELECT payload_sha256, payload_size, payload FROM dead_letters WHERE reason = 'too_large'"
    )
    assert payload is None
    assert (output / "warehouse" / "dead" / sha256).stat().st_size == size
