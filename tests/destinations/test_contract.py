"""The contract that every destination passes, against its server: what arrives, once or with the same ids, in order,
and without a secret anywhere.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines import commands
from pipelines.job import prepare
from tests.destinations.bench import Bench, Benches, Received, bench_of, secrets_of
from tests.destinations.reliability import deliver
from tests.destinations.site import FILTERS, Site, rendered
from tests.end_to_end import jobs, runs
from tests.graphs import pipeline_of
from tests.servers.proxy import Fault
from transforms.deliver import document
from transforms.deliver.destination import Kind
from transforms.deliver.registry import DESTINATIONS
from transforms.route.definitions import load_streams

pytestmark = pytest.mark.slow


VARIANTS = ("bigquery:storage_write",)
"""Benches of types that deliver in a second way."""


@pytest.fixture(params=[*DESTINATIONS, *VARIANTS])
def bench(request: pytest.FixtureRequest, benches: Benches, site: Site) -> Iterator[Bench]:
    """Each registered type's, and their variants."""
    with benches.use(request.param) as opened:
        opened.output = str(site.output)
        yield opened


def test_every_type_has_a_bench() -> None:
    for kind in DESTINATIONS:
        assert (bench_of(kind).type, bench_of(kind).variant) == (kind, "")
    for kind in VARIANTS:
        assert f"{bench_of(kind).type}:{bench_of(kind).variant}" == kind


def definition(bench: Bench, name: str, content: str, packing: tuple[str, str], **more: Any) -> dict[str, Any]:
    """A stream to the bench's destination."""
    form, shape = packing
    options = bench.options(name, content)
    return {"name": name, "content": content, "format": form, "shape": shape, "destination": options, **more}


def ids(received: Sequence[Received]) -> list[int]:
    return [each.record_id for each in received]


def check_order(bench: Bench, received: Sequence[Received], expected: dict[int, dict[str, Any]]) -> None:
    """Within a key, records come in the order of the rows; of repeats, their first arrival counts."""
    places = {number: place for place, number in enumerate(expected)}
    by_key: dict[str | None, list[int]] = defaultdict(list)
    for each in received:
        if bench.ordered or (bench.ordered is None and each.key is not None):
            by_key[each.key].append(places[each.record_id])
    for key, order in by_key.items():
        first = list(dict.fromkeys(order))
        assert first == sorted(first), f"records of key {key} do not come in order"


def check_repeats(bench: Bench, received: Sequence[Received]) -> None:
    """Nothing comes twice, or each time with the same id and the same content."""
    if bench.drops_repeats:
        assert len(set(ids(received))) == len(received)
    first: dict[int, Received] = {}
    for each in received:
        before = first.setdefault(each.record_id, each)
        assert (each.delivery_id, each.record, each.key) == (before.delivery_id, before.record, before.key)


def test_exactly_what_the_filter_selects_arrives_in_every_packing(bench: Bench, site: Site, tmp_path: Path) -> None:
    streams = {
        f"{content}-{form}-{shape}": (content, (form, shape))
        for content in bench.contents
        for form, shape in bench.packings
    }
    listed = [
        definition(bench, name, content, packing, filter=FILTERS[content][0])
        for name, (content, packing) in streams.items()
    ]
    file = jobs.write_streams(tmp_path / "streams.yaml", *listed)
    site.run(file, *bench.command_options())
    ledger = site.ledger()
    for name, (content, packing) in streams.items():
        expected = site.expected(content, packing, FILTERS[content][1])
        assert ledger[name] == (len(expected), 0, 0) and expected
        if bench.keeps:
            received = bench.received(name, content)
            assert sorted(ids(received)) == sorted(expected), name
            assert {each.record_id: each.record for each in received} == expected, name
            check_order(bench, received, expected)
    check_audit(site, bench, streams)


def check_audit(site: Site, bench: Bench, streams: Any) -> None:
    """`audit` finds nothing wrong, and says what it could count again."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        assert commands.main(["audit", str(site.output)]) == 0, printed.getvalue()
    text = " ".join(printed.getvalue().split())
    recounts = DESTINATIONS[bench.type].recountable if bench.recountable is None else bench.recountable
    told = "recounted" if recounts else "receipts only"
    for name in streams:
        assert re.findall(rf"stream {name}: [0-9,]+ delivered, (recounted|receipts only)", text) == [told]


def test_bundles_that_are_repeated_and_a_second_run(bench: Bench, site: Site, tmp_path: Path) -> None:
    stream = definition(bench, "again", "events", bench.packings[0], filter=FILTERS["events"][0])
    file = jobs.write_streams(tmp_path / "streams.yaml", stream)
    for option in ("--direct_runner_bundle_repeat=3", "--direct_runner_bundle_repeat=0"):
        site.run(file, option, *bench.command_options(), usage=False)
        expected = site.expected("events", bench.packings[0], FILTERS["events"][1])
        assert site.ledger()["again"] == (len(expected), 0, 0)
        if bench.keeps:
            received = bench.received("again")
            assert set(ids(received)) == set(expected)
            check_repeats(bench, received)
            assert {each.record_id: each.record for each in received} == expected
            check_order(bench, received, expected)


def test_a_killed_run_is_repeated(bench: Bench, site: Site, tmp_path: Path) -> None:
    """Killed when something has arrived, or, where that does not show, as soon as there is a part of the warehouse."""
    stream = definition(bench, "killed", "events", bench.packings[0])
    file = jobs.write_streams(tmp_path / "streams.yaml", stream)
    arguments = site.arguments(file, *bench.command_options(), usage=False)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.data_streamer", *arguments],
        cwd=runs.REPOSITORY, env={**os.environ, "PYTHONPATH": str(runs.REPOSITORY)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until and not _has_begun(bench, site):
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    site.run(file, *bench.command_options(), usage=False)
    expected = site.expected("events", bench.packings[0])
    assert site.ledger()["killed"] == (len(expected), 0, 0)
    if bench.keeps:
        received = bench.received("killed")
        assert set(ids(received)) == set(expected)
        check_repeats(bench, received)
        assert {each.record_id: each.record for each in received} == expected
    assert runs.temporary_files(site.output) == []


def _has_begun(bench: Bench, site: Site) -> bool:
    if not any((site.output / "warehouse" / "events").rglob("*.parquet")):
        return False
    return not bench.keeps or bool(bench.received("killed"))


def test_a_server_that_is_away_holds_back_its_own_stream_only(bench: Bench, site: Site, tmp_path: Path) -> None:
    """A whole run, while each connection is closed: the stream's records wait, and come in order when it is back."""
    fault = next((fault for fault in (Fault.CUT_BEFORE, Fault.FORBIDDEN) if fault in bench.faults), None)
    if fault is None or not bench.keeps:
        assert DESTINATIONS[bench.type].kind is Kind.STORED or not bench.keeps, "its bench has to take the server away"
        return
    stream = definition(bench, "away", "events", bench.packings[0])
    if "retry" in DESTINATIONS[bench.type].options_model.model_fields:
        stream["destination"]["retry"] = {"attempts": 2, "seconds": 3}
    beside = {"name": "beside", "content": "events", "destination": {"type": "files"}}
    file = jobs.write_streams(tmp_path / "streams.yaml", stream, beside)
    began = time.monotonic()
    with bench.fault(fault):
        text = site.run(file, *bench.command_options(), code=3, usage=False)
    assert time.monotonic() - began < 90
    expected = site.expected("events", bench.packings[0])
    count = len(expected)
    assert site.ledger() == {"away": (0, count, 0), "beside": (count, 0, 0)} and count
    assert "stream away: " in " ".join(text.split()) and bench.received("away") == []
    site.deliver(file)
    received = bench.received("away")
    assert site.ledger() == {"away": (count, 0, 0), "beside": (count, 0, 0)}
    assert sorted(ids(received)) == sorted(expected)
    assert {each.record_id: each.record for each in received} == expected
    check_order(bench, received, expected)


def test_the_documented_example_delivers(
    bench: Bench, day: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream of the reference page, with the bench's own address, target and secrets in the place of its."""
    example = document.example(bench.type)
    content, name = str(example["content"]), str(example["name"])
    example["destination"] |= bench.options(name, content)
    for unset in re.findall(r"'env': '(\w+)'", str(example)):
        if unset not in bench.environment:
            monkeypatch.setenv(unset, "a value that nobody asks for")
    (stream,) = load_streams(str(jobs.write_streams(tmp_path / "streams.yaml", example)))
    rows = day.rows(content).slice(0, 1)
    receipts = deliver(stream, rows, bench.output)
    assert [(each.delivered, each.pending, each.dead_letters) for each in receipts] == [(1, 0, [])]
    if bench.keeps:
        (record,) = rendered(rows, content, stream.format, stream.shape)
        assert [each.record for each in bench.received(name, content)] == [record]


SECRETIVE = [
    kind
    for kind, destination in DESTINATIONS.items()
    if any("SecretReference" in str(field.annotation) for field in destination.options_model.model_fields.values())
]


@pytest.mark.parametrize("bench", SECRETIVE, indirect=True)
def test_no_secret_is_anywhere(bench: Bench, site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stream = definition(bench, "secret", "events", bench.packings[0], filter={"min_severity": "CRITICAL"})
    secrets = secrets_of(stream["destination"], bench.environment)
    assert secrets, f"{bench.type} has secrets: its bench has to give one"
    file = jobs.write_streams(tmp_path / "streams.yaml", stream)
    fault = min(bench.faults, key=lambda fault: fault.name != "UNAUTHORISED")
    with bench.fault(fault):
        text = site.run(file, "--no_preflight", *bench.command_options(), code=3, usage=False)
    site.deliver(file)
    text += site.run(file, *bench.command_options(), usage=False)
    for command in (["validate", str(file)], ["test", "secret", f"--streams={file}"], ["audit", str(site.output)],
                    ["report", str(site.output)], ["--help"]):  # fmt: skip
        commands.main(command)
    text += "".join(capfd.readouterr())
    job = prepare(site.arguments(file, *bench.command_options()))
    written = {str(path): path.read_bytes() for path in site.output.rglob("*") if path.is_file()}
    searched = {
        "what was printed": text.encode(), "graph": pipeline_of(job).to_runner_api().SerializeToString(),
        "streams": pickle.dumps(job.streams), "repr": repr(job.streams).encode(), **written,
    }  # fmt: skip
    found = [where for where, data in searched.items() if any(secret.encode() in data for secret in secrets)]
    assert found == []
    assert json.loads((site.output / "run.json").read_text())["streams"]
