"""Webhook delivery over a bare loop of its HTTP client: same payloads, same receiver, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.dataset
import urllib3

from benchmarks import sides
from benchmarks.goals import Finding
from benchmarks.receiver import receiver
from benchmarks.rounds import TEXTBOOK_RECORDS, Bench
from schemas.streams import Batch as BatchOptions
from schemas.streams import Stream
from schemas.tables import TABLES
from transforms.deliver.answer import Answer
from transforms.deliver.destination import StreamDefinition
from transforms.deliver.parts import Part
from transforms.deliver.push.batch import Batch
from transforms.deliver.selection import Selection
from transforms.deliver.webhook import WebhookDestination, WebhookOptions

LARGE, MANY, FEW = 3_000, 120_000, 6_000
"""Records of a batch; records that a side sends in one round, in batches and one by one."""

GOALS = {LARGE: 0.7, 1: 0.5}
PANE = 65_536


def over_bare_client(bench: Bench) -> list[Finding]:
    """Records a second that a lane delivers, over those that a bare loop sends: in batches, and one by one.

    Raises:
      CommandError: the job, or the receiver, failed.
    """
    data, output = bench.feed(TEXTBOOK_RECORDS), bench.output("webhook")
    sides.ours(data, output, 1, None)
    events = pyarrow.dataset.dataset(f"{output}/warehouse/events").to_table(columns=TABLES["events"].schema.names)
    return [_compare(bench, events, size, decodes) for decodes in (True, False) for size in (LARGE, 1)]


def _compare(bench: Bench, events: pa.Table, size: int, decodes: bool) -> Finding:
    records = FEW if size == 1 else MANY
    rows = _rows(events, records)
    of = "size 1" if size == 1 else f"batches of {size:,}"
    does = "decodes the JSON" if decodes else "only reads"
    with receiver(decodes) as url:
        requests = _requests(rows, url, size)
        lane, bare = [], []
        for number in range(bench.rounds + 1):  # the first round warms up
            bare.append(_bare(requests, url))
            lane.append(_lane(rows, url, size))
            bench.say(f"round {number}: {of}, receiver {does}: lane {lane[-1]:.2f} s, bare loop {bare[-1]:.2f} s")
    ours, client = statistics.median(lane[1:]), statistics.median(bare[1:])
    detail = (
        f"{records / ours:,.0f} over {records / client:,.0f} records/s; {ours / len(requests) * 1e6:,.0f} over "
        f"{client / len(requests) * 1e6:,.0f} µs a request of {len(requests[0].body):,} bytes; the receiver {does}"
    )
    goal = GOALS[size] if decodes else None
    return Finding(
        f"webhook, {of}, over a bare loop of its client", client / ours, goal=goal, least=True, detail=detail
    )


def _rows(events: pa.Table, records: int) -> list[pa.RecordBatch]:
    """So many rows, in panes as the job has them."""
    several = pa.concat_tables([events] * (records // events.num_rows + 1)).slice(0, records)
    return several.combine_chunks().cast(TABLES["events"].schema).to_batches(max_chunksize=PANE)


@dataclass(frozen=True)
class _Request:
    body: bytes
    headers: Mapping[str, str]


class _Kept(WebhookDestination):
    """Keeps its requests instead of sending them."""

    def __init__(self, options: WebhookOptions) -> None:
        super().__init__(options)
        self.requests: list[_Request] = []

    def send(self, batch: Batch) -> Answer:
        self.requests.append(_Request(*self.request(batch)))
        return Answer()


def _requests(rows: Sequence[pa.RecordBatch], url: str, size: int) -> list[_Request]:
    """The requests of a lane."""
    stream = _stream(url, size)
    destination = _Kept(stream.destination)
    _deliver(destination, rows, stream)
    return destination.requests


def _lane(rows: Sequence[pa.RecordBatch], url: str, size: int) -> float:
    """Seconds that the destination's own lane takes, from rows to outcomes."""
    stream = _stream(url, size)
    return _deliver(WebhookDestination(stream.destination), rows, stream)


def _stream(url: str, size: int) -> Stream:
    options = WebhookOptions(url=url)
    return Stream(name="bench", content="events", shape="emnify", destination=options, batch=BatchOptions(size=size))


def _deliver(destination: WebhookDestination, rows: Sequence[pa.RecordBatch], stream: StreamDefinition) -> float:
    destination.setup()
    parts = [(Part(stream.name, "events", 0, 0, "bench", pane), Selection(each)) for pane, each in enumerate(rows)]
    started = time.perf_counter()
    delivered = sum(outcome.delivered for _, outcome in destination.deliver_lane(parts, stream, ""))
    taken = time.perf_counter() - started
    destination.close()
    assert delivered == sum(each.num_rows for each in rows), "the receiver did not take all"
    return taken


def _bare(requests: Sequence[_Request], url: str) -> float:
    """Seconds that the client alone takes for requests that lie ready."""
    client = urllib3.PoolManager(retries=False)
    started = time.perf_counter()
    for request in requests:
        answer = client.request("POST", url, body=request.body, headers=request.headers)
        assert answer.status == 200
    taken = time.perf_counter() - started
    client.clear()
    return taken
