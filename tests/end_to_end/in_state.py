"""A live job without a disk that its workers share, over a feed that ends, on Prism: what Dataflow runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import DebugOptions
from apache_beam.runners.portability.prism_runner import PrismRunner
from apache_beam.transforms.window import TimestampedValue

from pipelines.job import Job, prepare, write_meta
from pipelines.live.job import live_options
from pipelines.live.prism import Prism, find_prism
from schemas.records import FEEDS
from transforms.decode_records import DecodeRecords
from transforms.elements import Block
from transforms.keep_books import KeepBooks
from transforms.keep_cells import KeepCells
from transforms.read.journal import numbered
from transforms.read.raw import RawBlock
from transforms.run import Live

WRITER = "live"
_TIME = 1_790_000_000_000_000


def job_of(output: Path, streams: Path | None, buckets: int = 1, **live: float) -> Job:
    """A live job whose workers share no disk."""
    empty = output.parent / "no-records.ndjson"
    empty.touch()
    given = [f"--streams={streams}"] if streams else []
    job = prepare([f"--events={empty}", f"--output={output}", f"--buckets={buckets}", *given])
    how: dict[str, float] = {"aggregate_every": 1.0, "publish_every": 1.0, "max_delay": 0.1, **live}
    write_meta(job.run)
    return job.with_run(writer=WRITER, live=Live((), "/nowhere", **how), spill=None)


class _Take(beam.DoFn):
    """Number of a block → the block, in the time of its arrival."""

    def __init__(self, segments: Sequence[tuple[int, list[bytes]]], first: int):
        self._segments, self._first = list(segments), first

    def process(self, element: int) -> Iterator[TimestampedValue]:
        plan, (feed, lines) = self._first + element, self._segments[element]
        name = f"projects/p/subscriptions/{FEEDS[feed]}"
        raw = RawBlock(feed, name, _TIME + element, "lines", None, lines, np.empty(0, np.int64), 0, [])
        yield TimestampedValue(Block(plan, 0, numbered(raw, plan)), (_TIME + element) / 1e6)


def work(job: Job, segments: Sequence[tuple[int, list[bytes]]], directory: Path, first: int = 0) -> dict[str, int]:
    """Runs the job over segments, and drains it; returns Beam's counters of it.

    Args:
      job: the job.
      segments: number of the feed, and lines, of each.
      directory: where Prism may write its log.
      first: number of the first segment.
    """
    with Prism(find_prism(), directory / "prism.log") as prism:
        options = live_options(replace(job), prism.address)
        # Else Prism splits slow bundles, and works on one key in two at once: state is lost that Dataflow keeps.
        options.view_as(DebugOptions).add_experiment("prism_disable_sdf_split")
        pipeline = beam.Pipeline(runner=PrismRunner(), options=options)
        numbers = pipeline | "Numbers" >> beam.Create(range(len(segments)), reshuffle=False)
        blocks = numbers | "Take" >> beam.ParDo(_Take(segments, first)).with_output_types(Block)
        decoded = blocks | "DecodeRecords" >> DecodeRecords(job.run)
        kept = decoded.slices | "KeepCells" >> KeepCells(job.run, job.streams)
        _ = (decoded.entries, decoded.dead, kept) | "KeepBooks" >> KeepBooks(job.run, job.stream_facts, job.streams)
        result = pipeline.run()
        result.wait_until_finish()
        found = result.metrics().query()["counters"]
    return {f"{metric.key.metric.namespace} {metric.key.metric.name}": metric.committed for metric in found}
