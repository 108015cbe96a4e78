"""The steps of a live job over a feed that ends: the same rows as a batch run, whatever the order, and after kills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import live_proof, runs
from tests.end_to_end.bounded import messages, open_place
from tests.end_to_end.live_proof import check, sent, usage_ids
from tests.servers.http import Receiver
from warehouse.audit import audit

pytestmark = pytest.mark.slow

feed, batch, server, streams = live_proof.feed, live_proof.batch, live_proof.server, live_proof.streams


@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_gives_what_the_batch_run_gives(
    feed: Path, batch: Path, tmp_path: Path, server: Receiver, streams: Path, seed: int
) -> None:
    place = open_place(tmp_path / "output", streams, max_delay=0.05)
    for half in _halves(messages(feed, seed)):
        place.work(place.receive(half))
        place.flush()  # twice: parts, and partial sums, add up
    assert place.journal.unfinished[0] == 0
    place.finish()
    check(tmp_path / "output", batch, server)
    assert max(sent(server, "/sums").values()) == 1


def test_a_second_run_finds_only_duplicates(
    feed: Path, batch: Path, tmp_path: Path, server: Receiver, streams: Path
) -> None:
    output = tmp_path / "output"
    for seed in (1, 2):
        place = open_place(output, streams, max_delay=0.05)
        place.work(place.receive(messages(feed, seed)))
        place.finish()
    assert runs.rows(output, "events", runs.LINEAGE) == runs.rows(batch, "events", runs.LINEAGE)
    assert runs.rows(output, "usage", runs.LINEAGE) == runs.rows(batch, "usage", runs.LINEAGE)
    hook = sent(server, "/")
    assert set(hook) == usage_ids(batch) and max(hook.values()) == 1
    query = "SELECT sum(received), sum(duplicates), sum(delivered) FROM ledger WHERE stage = 'cell'"
    (((one, doubles, kept),), ((twice, more, same),)) = runs.ask(batch, query), runs.ask(output, query)
    assert (twice, more, same) == (2 * one, 2 * doubles + kept, kept)
    assert audit(output).ok


@pytest.mark.parametrize("groups", [1, 60])
def test_killed_and_taken_up_nothing_is_lost_or_doubled(
    feed: Path, batch: Path, tmp_path: Path, server: Receiver, streams: Path, groups: int
) -> None:
    output = tmp_path / "output"
    place = open_place(output, streams, max_delay=0.05)
    first, second = _halves(messages(feed, groups, 60))
    blocks = place.receive(first)
    place.books.left = groups
    with pytest.raises(Exception, match="KilledError"):
        place.work(blocks)
    place.die()
    place = open_place(output, streams, max_delay=0.05)
    place.books.left = 2 * groups
    with pytest.raises(Exception, match="KilledError"):
        place.work([*place.journal.replay(), *place.receive(second)])
    place.die()
    place = open_place(output, streams, max_delay=0.05)
    place.flush()
    place.work(list(place.journal.replay()))
    assert place.journal.unfinished[0] == 0
    place.finish()
    # What was sent and not committed comes again, under the same ids.
    check(output, batch, server, once=False)


def test_the_log_is_cut_anywhere(feed: Path, batch: Path, tmp_path: Path, server: Receiver, streams: Path) -> None:
    output = tmp_path / "output"
    place = open_place(output, streams, max_delay=0.05)
    place.work(place.receive(messages(feed, 4)))
    place.die()
    (log,) = (output / ".live" / "live" / "books").glob("log-*")
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) * 3 // 5])
    place = open_place(output, streams, max_delay=0.05)
    place.work(list(place.journal.replay()))
    place.finish()
    check(output, batch, server, once=False)


def _halves(segments: list[Any]) -> tuple[list[Any], list[Any]]:
    return segments[: len(segments) // 2], segments[len(segments) // 2 :]
