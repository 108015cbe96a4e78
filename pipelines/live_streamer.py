"""The live job as one sentence: feeds that never end, and the batch job's own functions.

    python -m pipelines.data_streamer --streaming --events_subscription=S --usage_subscription=S --output=DIR …

Only the source differs from `pipelines.data_streamer.build`, and that the cell step keeps state where that groups.
"""

from __future__ import annotations

import apache_beam as beam

from pipelines.job import Job
from transforms.decode_records import DecodeRecords
from transforms.keep_books import KeepBooks
from transforms.keep_cells import KeepCells
from transforms.read_subscriptions import ReadSubscriptions


def build_live(pipeline: beam.Pipeline, job: Job) -> None:
    """Adds the whole live job to a pipeline: from subscriptions to books. Labels do not depend on the streams."""
    run = job.run
    blocks = pipeline | "ReadSubscriptions" >> ReadSubscriptions(run)
    decoded = blocks | "DecodeRecords" >> DecodeRecords(run)
    kept = decoded.slices | "KeepCells" >> KeepCells(run, job.streams)
    _ = (decoded.entries, decoded.dead, kept) | "KeepBooks" >> KeepBooks(run, job.stream_facts, job.streams)
