"""Read the feeds: block plans in, blocks of raw records out.

Every worker reads its own ranges of the files; nothing of a file is in the graph but its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import msgspec

from transforms.elements import Block
from transforms.read.blocks import BlockPlan, read_plan
from transforms.run import Run

_decoder = msgspec.msgpack.Decoder(BlockPlan)


class _ReadPlan(beam.DoFn):
    def __init__(self, run: Run, block_bytes: int):
        self._run, self._block_bytes = run, block_bytes

    def process(self, element: bytes) -> Iterator[Block]:
        plan = _decoder.decode(element)
        for number, raw in enumerate(read_plan(plan, self._block_bytes, self._run.dead)):
            yield Block(plan.number, number, raw)


@dataclass
class ReadFeeds(beam.PTransform):
    """Root transform: yields the blocks of all plans, each exactly once; bounded.

    Attributes:
      run: the run.
      plans: what to read, from `transforms.read.blocks.plan_blocks`.
      block_bytes: size of a block, bytes of decompressed input; bounds the memory of a worker.
    """

    run: Run
    plans: Sequence[BlockPlan]
    block_bytes: int

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[Block]:
        """Spreads the plans over the workers and reads them."""
        return (
            begin
            | "Plans" >> beam.Create([msgspec.msgpack.encode(plan) for plan in self.plans], reshuffle=False)
            | "Spread" >> SpreadEvenly()
            | "ReadPlan" >> beam.ParDo(_ReadPlan(self.run, self.block_bytes)).with_output_types(Block)
        )


class _Number(beam.DoFn):
    def process(self, element: bytes) -> Iterator[tuple[int, bytes]]:
        plan = _decoder.decode(element)
        yield plan.number, element


def _values(element: tuple[int, Iterable[bytes]]) -> Iterable[bytes]:
    return element[1]


class SpreadEvenly(beam.PTransform):
    """A shuffle by plan number: without random keys, so that a run is reproducible."""

    def expand(self, plans: beam.PCollection[bytes]) -> beam.PCollection[bytes]:
        """Groups by number and takes the groups apart."""
        return (
            plans
            | "Number" >> beam.ParDo(_Number()).with_output_types(tuple[int, bytes])
            | "Shuffle" >> beam.GroupByKey()
            | "Plan" >> beam.FlatMap(_values).with_output_types(bytes)
        )
