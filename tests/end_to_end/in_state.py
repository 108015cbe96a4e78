"""A live job without a disk that its workers share, over a feed that ends, on Prism: what Dataflow runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import DebugOptions
from apache_beam.runners.portability.prism_runner import PrismRunner
from apache_beam.transforms.periodicsequence import PeriodicSequence
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

    def __init__(self, segments: Sequence[tuple[int, list[bytes]]], first: int, start: int):
        self._segments, self._first, self._start = list(segments), first, start

    def process(self, element: int) -> Iterator[TimestampedValue]:
        plan, (feed, lines) = self._first + element, self._segments[element]
        name = f"projects/p/subscriptions/{FEEDS[feed]}"
        raw = RawBlock(feed, name, self._start + element, "lines", None, lines, np.empty(0, np.int64), 0, [])
        yield TimestampedValue(Block(plan, 0, numbered(raw, plan)), (self._start + element) / 1e6)


class _Numbers(beam.PTransform):
    """Numbers of blocks: all at once, or one every so many seconds."""

    def __init__(self, count: int, every: float | None):
        super().__init__()
        self._count, self._every = count, every

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[int]:
        if self._every is None:
            return pipeline | "All" >> beam.Create(range(self._count), reshuffle=False)
        every, start = self._every, time.time()
        sequence = start, start + (self._count - 0.5) * every, every
        times = pipeline | "Sequence" >> beam.Create([sequence], reshuffle=False) | "Times" >> PeriodicSequence()
        return times | "Numbers" >> beam.Map(lambda moment: round((float(moment) - start) / every))


def work(
    job: Job,
    segments: Sequence[tuple[int, list[bytes]]],
    directory: Path,
    first: int = 0,
    every: float | None = None,
) -> dict[str, int]:
    """Runs the job over segments, and drains it; returns Beam's counters of it.

    Args:
      job: the job.
      segments: number of the feed, and lines, of each.
      directory: where Prism may write its log.
      first: number of the first segment.
      every: seconds between two segments, which arrive now; else all have arrived, at a fixed time.
    """
    with Prism(find_prism(), directory / "prism.log") as prism:
        options = live_options(replace(job), prism.address)
        # Else Prism splits slow bundles, and works on one key in two at once: state is lost that Dataflow keeps.
        options.view_as(DebugOptions).add_experiment("prism_disable_sdf_split")
        pipeline = beam.Pipeline(runner=PrismRunner(), options=options)
        numbers = pipeline | "Numbers" >> _Numbers(len(segments), every)
        start = _TIME if every is None else round(time.time() * 1e6)
        blocks = numbers | "Take" >> beam.ParDo(_Take(segments, first, start)).with_output_types(Block)
        decoded = blocks | "DecodeRecords" >> DecodeRecords(job.run)
        kept = decoded.slices | "KeepCells" >> KeepCells(job.run, job.streams)
        _ = (decoded.entries, decoded.dead, kept) | "KeepBooks" >> KeepBooks(job.run, job.stream_facts, job.streams)
        result = pipeline.run()
        result.wait_until_finish()
        found = result.metrics().query()["counters"]
    return {f"{metric.key.metric.namespace} {metric.key.metric.name}": metric.committed for metric in found}
