"""Two days through Pub/Sub in random order give what a batch run over the same records gives, to the last decimal."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.end_to_end import proof, runs
from tests.pipelines.live.site import FEEDS, Site, needs_prism
from tests.servers.http import Receiver, receiver
from tests.servers.pubsub import PROJECT, PubSub, pubsub_emulator
from warehouse.audit import audit

pytestmark = pytest.mark.slow

_SEED = 12
_LINES = 5
"""Records of a message that has several."""


class Both(Site):
    """A site whose batch run has the same streams, to a receiver of its own."""

    def __init__(self, directory: Path, server: PubSub, hooks: dict[str, Receiver]):
        super().__init__(directory, server, proof.definitions(hooks["live"].address))
        self.batch_streams = directory / "batch.yaml"
        self.batch_streams.write_text(json.dumps({"streams": proof.definitions(hooks["batch"].address)}))

    def batch(self, lines: dict[str, list[bytes]]) -> Path:
        output = self.directory / "batch"
        for feed in FEEDS:
            (self.directory / f"{feed}.ndjson").write_bytes(b"\n".join(lines[feed]) + b"\n")
        runs.run(f"{self.directory}/{{feed}}.ndjson", output, streams=self.batch_streams)
        return output


@pytest.fixture(scope="module")
def hooks() -> Iterator[dict[str, Receiver]]:
    with receiver() as live, receiver() as batch:
        yield {"live": live, "batch": batch}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, hooks: dict[str, Receiver]) -> Iterator[tuple[Path, Path]]:
    """Output directories of the live job, drained, and of the batch run."""
    needs_prism()
    with pubsub_emulator() as server:
        site = Both(tmp_path_factory.mktemp("equality"), server, hooks)
        lines = site.simulate(
            devices=40, days=2, seed=_SEED, duplicates=0.02, late=0.05, malformed=0.01, rerendered=0.0, odd=0.02
        )
        batch = site.batch(lines)
        # Not each second, of two days: a flush is a pane in each of a hundred cells.
        job = site.job("--aggregate_every=10s", "--publish_every=5s")
        try:
            job.started()
            chance = random.Random(_SEED)
            for feed, records in lines.items():
                chance.shuffle(records)
                publish(site, feed, messages(records))
            site.wait_for(site.rows(batch))
            assert job.stop() == 0, job.text
        finally:
            job.process.kill()
        assert "Traceback" not in job.text
        yield site.output, batch


def messages(records: Sequence[bytes]) -> list[bytes]:
    """Most records in a message of their own; of the last fifth several in one, every other of these packed."""
    alone = len(records) * 4 // 5
    found = list(records[:alone])
    for start in range(alone, len(records), _LINES):
        several = b"\n".join(records[start : start + _LINES])
        found.append(gzip.compress(several) if start % 2 else several)
    return found


def publish(site: Site, feed: str, found: Sequence[bytes]) -> None:
    with site.server.publisher() as publisher:
        for start in range(0, len(found), 500):
            sent = [{"data": data} for data in found[start : start + 500]]
            publisher.publish(request={"topic": f"projects/{PROJECT}/topics/{feed}", "messages": sent})


@pytest.mark.parametrize("table", runs.RECORD_TABLES)
def test_the_warehouse_has_the_same_rows(outputs: tuple[Path, Path], table: str) -> None:
    ours, theirs = (runs.rows(output, table, proof.LINEAGE) for output in outputs)
    assert len(theirs) > 1_500
    assert ours == theirs, f"{len(ours)} rows against {len(theirs)}"


@pytest.mark.parametrize("table", ["device_usage_hourly", "device_events_hourly"])
def test_aggregates_have_the_same_sums(outputs: tuple[Path, Path], table: str) -> None:
    ours, theirs = (proof.aggregates(output, table) for output in outputs)
    assert len(theirs) > 500
    assert ours == theirs


def test_dead_letters_and_counts_are_the_same(outputs: tuple[Path, Path]) -> None:
    for query in (
        "SELECT feed, kind, reason, payload_sha256, count(*) FROM dead_letters GROUP BY ALL ORDER BY ALL",
        "SELECT stage, feed, hour, sum(received), sum(decoded), sum(duplicates), sum(conflicts), sum(dead_lettered), "
        "sum(delivered) FROM ledger WHERE stage IN ('feed', 'cell') GROUP BY ALL ORDER BY ALL",
        # Of sums live jobs have more rows, which are partial.
        "SELECT stream, feed, hour, unit, sum(received), sum(filtered_out), sum(delivered), sum(pending) FROM ledger "
        "WHERE stage = 'stream' AND unit = 'records' GROUP BY ALL ORDER BY ALL",
    ):
        ours, theirs = (runs.ask(output, query) for output in outputs)
        assert theirs, query
        assert ours == theirs, query


@pytest.mark.parametrize("name", [name for name, wanted in proof.STREAMS.items() if wanted.content in proof.KEYS])
def test_a_stream_of_records_has_delivered_what_its_filter_selects(
    outputs: tuple[Path, Path], hooks: dict[str, Receiver], name: str
) -> None:
    live, batch = outputs
    key = proof.KEYS[proof.STREAMS[name].content]
    ours, theirs = proof.delivered(live, hooks["live"], name), proof.delivered(batch, hooks["batch"], name)
    wanted = proof.selected(batch, name)
    assert wanted
    assert sorted(row[key] for row in ours) == wanted  # nothing failed: each once
    assert sorted(ours, key=repr) == sorted(theirs, key=repr)


@pytest.mark.parametrize("name", [name for name, wanted in proof.STREAMS.items() if wanted.content not in proof.KEYS])
def test_a_stream_of_sums_has_delivered_what_its_filter_selects(
    outputs: tuple[Path, Path], hooks: dict[str, Receiver], name: str
) -> None:
    live, batch = outputs
    wanted = proof.STREAMS[name]
    ours = proof.summed(proof.delivered(live, hooks["live"], name), wanted.content)
    theirs = proof.summed(proof.delivered(batch, hooks["batch"], name), wanted.content)
    assert ours == theirs
    assert len(ours) == len(proof.aggregates(batch, wanted.content, wanted.where)) > 0


def test_the_audit_balances(outputs: tuple[Path, Path]) -> None:
    for output in outputs:
        result = audit(output)
        assert result.ok, "\n".join(result.lines)
