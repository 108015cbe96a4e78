"""When a shard of a live job whose workers share no disk is due: as its stream says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from schemas.streams import Batch, Stream
from tests.transforms.deliver.push.scripted import usage
from tests.transforms.deliver.support import HOUR
from transforms import send_streams as module
from transforms.deliver.consignments import Consignment, encode
from transforms.deliver.s3 import S3Options
from transforms.deliver.webhook import WebhookOptions
from transforms.gather.claims import Spill
from transforms.run import Live, Run

WEBHOOK = WebhookOptions.model_validate({"type": "webhook", "url": "https://receiver.example/hook"})
ARCHIVE = S3Options(bucket="acme-iot", rotate_interval=600, flush_size=10_000)
MAX_DELAY = 30.0


class State:
    """State and timers of one key, in memory."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.bag: list[bytes] = []
        self.due: Any = None

    def read(self) -> bytes | None:
        return self.data

    def write(self, data: bytes) -> None:
        self.data = data

    def add(self, data: bytes) -> None:
        self.bag.append(data)

    def set(self, due: Any) -> None:
        self.due = due


def due_after(output: Path, stream: Stream, *counts: int) -> float:
    """Seconds until the timer that stands after parts of so many rows have come."""
    live = Live((), "/nowhere", max_delay=MAX_DELAY)
    send = module._Send(Run(str(output), "live", live=live), [stream])
    waiting, state, due, end = (State() for _ in range(4))
    for pane, count in enumerate(counts):
        claim = Spill(None, 0, 0).deposit(usage([1]))
        one = Consignment(stream.name, "usage", HOUR, 0, pane, 0, 0, count, claim)
        send.process((1, encode(one)), waiting, state, due, end)
    assert len(waiting.bag) == len(counts)
    return float(due.due) - time.time()


@pytest.mark.parametrize(
    ("destination", "batch", "counts", "seconds"),
    [
        (WEBHOOK, Batch(), [1], MAX_DELAY),
        (WEBHOOK, Batch(seconds=90), [1], 90),
        (WEBHOOK, Batch(seconds=0.5), [1, 1], 0.5),
        (WEBHOOK, Batch(seconds=90, size=5), [4, 1], 0),
        (WEBHOOK, Batch(seconds=90), [module.FULL], 0),
        (ARCHIVE, Batch(), [1, 9_998], 600),
        (ARCHIVE, Batch(), [1, 9_999], 0),
    ],
)
def test_a_shard_waits_as_long_as_its_stream_says(
    tmp_path: Path, destination: Any, batch: Batch, counts: list[int], seconds: float
) -> None:
    stream = Stream(name="archive", content="usage", destination=destination, batch=batch)
    assert due_after(tmp_path, stream, *counts) == pytest.approx(seconds, abs=0.4)
