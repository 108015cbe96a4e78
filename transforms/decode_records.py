"""Decode blocks: record slices by cell, packed ids, dead letters and counts, each as claims on one spill file per
block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa

from schemas.records import FEEDS
from transforms.dead_letters import dead_letter_batch
from transforms.decode import Decoded, decode_block
from transforms.deduplicate import across
from transforms.elements import Block
from transforms.gather.cells import cell_numbers, cut, record_times
from transforms.gather.claims import Spill
from transforms.ledger.counts import FEED, Count, Entry, Group, InputEntry, encode, encode_group
from transforms.run import Run

IDS, DEAD, ENTRIES = "ids", "dead", "entries"

DEAD_SHARDS = 16
"""Files that malformed lines are spread over: bounds the memory of the step that writes them."""


class DecodedFeeds(NamedTuple):
    """What decoding gives: slices KV<cell number, claim>, ids KV<kind and shard, claim>, dead KV<shard, claim>,
    entries.
    """

    slices: beam.PCollection[tuple[int, bytes]]
    ids: beam.PCollection[tuple[int, bytes]]
    dead: beam.PCollection[tuple[int, bytes]]
    entries: beam.PCollection[bytes]


class _Decode(beam.DoFn):
    def __init__(self, run: Run):
        self._run = run

    def process(self, element: Block) -> Iterator[object]:
        decoded = decode_block(element.raw)
        with Spill(self._run.spill_path(element.plan, element.number), element.plan, element.number) as spill:
            outputs = list(self._deposit(spill, element, decoded))
        yield from outputs  # only now: the spill file has its name
        entries = _entries(element, decoded)
        if self._run.live is None:
            for entry in entries:
                yield beam.pvalue.TaggedOutput(ENTRIES, encode(entry))
        else:
            parts = sum(not isinstance(output, beam.pvalue.TaggedOutput) or output.tag == DEAD for output in outputs)
            group = Group((FEED, element.plan, element.number, 0), list(entries), parts)
            yield beam.pvalue.TaggedOutput(ENTRIES, encode_group(group))
        self._run.mark("decoded", f"{element.plan}-{element.number}", sum(decoded.received.values()))

    def _deposit(self, spill: Spill, block: Block, decoded: Decoded) -> Iterator[object]:
        for kind, batch in enumerate(decoded.batches):
            if batch is None or not batch.num_rows:
                continue
            cells = cell_numbers(batch, kind, self._run.buckets)
            for number, part in cut(batch, cells):
                for claim in spill.deposit_pieces(part):
                    yield number, claim
            # A live job settles ids cell by cell; audit finds those that lie in several.
            packed = [] if self._run.live is not None else across.shard(across.pack(batch, kind, cells))
            for shard, rows in packed:
                yield beam.pvalue.TaggedOutput(IDS, (kind * across.SHARDS + shard, spill.deposit_packed(rows)))
        if decoded.faults:
            letters = dead_letter_batch(decoded.faults, self._run.writer, self._run.dead)
            shard = block.plan % DEAD_SHARDS if self._run.live is None else 0  # live, each would be a file a flush
            for claim in spill.deposit_pieces(letters):
                yield beam.pvalue.TaggedOutput(DEAD, (shard, claim))


def _entries(block: Block, decoded: Decoded) -> Iterator[Entry]:
    """Counts of a block: by kind of the records; empty lines and lines that could not be decoded by kind of the
    file.
    """
    raw = block.raw
    first: list[int] = []
    last: list[int] = []
    for kind, batch in enumerate(decoded.batches):
        records = batch.num_rows if batch is not None else 0
        own = kind == raw.feed
        empty, faults = (decoded.empty, len(decoded.faults)) if own else (0, 0)
        if records + empty + faults:
            yield Count(
                stage="feed", feed=FEEDS[kind], received=records + empty + faults,
                empty=empty, decoded=records, dead_lettered=faults,
            )  # fmt: skip
        if batch is not None and records:
            times = record_times(batch, kind)
            first.append(int(times.min()))
            last.append(int(times.max()))
    yield InputEntry(
        feed=FEEDS[raw.feed], file=raw.path, records=_rows(decoded.batches), dead_letters=len(decoded.faults),
        first_time=min(first, default=None), last_time=max(last, default=None),
    )  # fmt: skip


def _rows(batches: tuple[pa.RecordBatch | None, ...]) -> int:
    return sum(batch.num_rows for batch in batches if batch is not None)


@dataclass
class DecodeRecords(beam.PTransform):
    """Decodes blocks into record slices. Every line becomes exactly one record, dead letter, or counted empty line.

    A retried bundle writes the same spill file again, so its claims stay true.

    Attributes:
      run: the run.
    """

    run: Run

    def expand(self, blocks: beam.PCollection[Block]) -> DecodedFeeds:
        """Decodes, and names the outputs."""
        decoded = blocks | "Decode" >> beam.ParDo(_Decode(self.run)).with_outputs(IDS, DEAD, ENTRIES, main="slices")
        keyed, entries = beam.typehints.Tuple[int, bytes], bytes
        for output, kind in ((decoded.slices, keyed), (decoded[IDS], keyed), (decoded[DEAD], keyed)):
            output.element_type = kind
        decoded[ENTRIES].element_type = entries
        return DecodedFeeds(decoded.slices, decoded[IDS], decoded[DEAD], decoded[ENTRIES])


__all__ = ["DEAD_SHARDS", "DecodeRecords", "DecodedFeeds"]
