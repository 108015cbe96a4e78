"""The Data Streamer: raw signalling and usage feeds in; streams, warehouse and ledger out.

    python -m pipelines.data_streamer [--events=GLOB] [--usage=GLOB] [--streams=FILE] --output=DIR [any Beam option]
    python -m pipelines.data_streamer --streaming [--events_subscription=S] [--usage_subscription=S] --output=DIR …

`build` is the way of the data as one sentence; each of its words is one file under ``transforms/``. The same graph
runs on a laptop (FnApiRunner) and on Dataflow; only how slices travel differs (`transforms.gather.claims`). The
sentence of the live job is `pipelines.live_streamer.build_live`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import apache_beam as beam

from pipelines.job import Job
from pipelines.launch import launch
from pipelines.live_streamer import build_live
from transforms.aggregate_per_device import AggregatePerDevice
from transforms.classify_records import ClassifyRecords
from transforms.commit_ledger import CommitLedger
from transforms.decode_records import DecodeRecords
from transforms.deliver_streams import DeliverStreams
from transforms.drop_duplicates import DropDuplicates
from transforms.gather_by_cell import GatherByCell
from transforms.read_feeds import ReadFeeds
from transforms.route_streams import RouteStreams
from transforms.write_warehouse import WriteDeadLetters, WriteWarehouse


def build(pipeline: beam.Pipeline, job: Job) -> None:
    """Adds the whole job to a pipeline: from feeds to streams. Labels and coders do not depend on the streams."""
    run = job.run
    blocks = pipeline | "ReadFeeds" >> ReadFeeds(run, job.plans, job.block_bytes)
    decoded = blocks | "DecodeRecords" >> DecodeRecords(run)
    cells = (decoded.slices, decoded.ids) | "GatherByCell" >> GatherByCell()
    unique = cells | "DropDuplicates" >> DropDuplicates(run)
    rows = unique.panes | "ClassifyRecords" >> ClassifyRecords(run)
    tables = rows | "AggregatePerDevice" >> AggregatePerDevice()
    written = tables | "WriteWarehouse" >> WriteWarehouse(run)
    routed = written.panes | "RouteStreams" >> RouteStreams(job.streams)
    delivered = routed | "DeliverStreams" >> DeliverStreams(run, job.streams, job.held)
    dead = (decoded.dead, unique.dead, delivered.dead) | "DeadLetters" >> beam.Flatten()
    buried = dead | "WriteDeadLetters" >> WriteDeadLetters(run)
    entries = (decoded.entries, unique.entries, written.entries, delivered.entries, buried)
    _ = entries | "CommitLedger" >> CommitLedger(run, job.stream_facts, job.streams, job.input_entries)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit code.

    0 complete; 1 crash; 2 mistakes found before the run; 3 complete, but a running stream has pending records or an
    error.
    """
    return launch(sys.argv[1:] if arguments is None else arguments, build, build_live)


if __name__ == "__main__":
    sys.exit(main())
