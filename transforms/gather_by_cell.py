"""Gather by cell: one shuffle of ids finds those that lie in several cells, a second brings each cell's slices
together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam

from transforms.deduplicate import across
from transforms.gather.claims import packed_of

KeyedBytes = tuple[int, bytes]

SLICE, LOST = b"\x00", b"\x01"
"""First byte of what a cell gathers: a claim of a slice, or packed ids that lose to another cell."""

_CELL_BITS = 32


class _SettleIds(beam.DoFn):
    """Packed rows of one shard of ids → for each cell that loses ids: (cell number, ids)."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[KeyedBytes]:
        key, claims = element
        kind = key // across.SHARDS
        for cell, lost in across.losers([packed_of(claim, across.PACKED) for claim in claims]):
            yield kind << _CELL_BITS | cell, LOST + lost.tobytes()


def _mark_slice(element: KeyedBytes) -> KeyedBytes:
    return element[0], SLICE + element[1]


@dataclass
class GatherByCell(beam.PTransform):
    """Brings together what belongs to a cell: KV<cell number, [claims of slices, ids that lose to another cell]>.

    Input: the slices and ids of `DecodedFeeds`. Two shuffles: 16 bytes a record by id, one claim a slice by cell.
    """

    def expand(self, decoded: tuple[beam.PCollection[KeyedBytes], beam.PCollection[KeyedBytes]]) -> beam.PCollection:
        """Settles ids across cells, then groups by cell."""
        slices, ids = decoded
        lost = (
            ids
            | "GatherIds" >> beam.GroupByKey()
            | "SettleIds" >> beam.ParDo(_SettleIds()).with_output_types(KeyedBytes)
        )
        marked = slices | "MarkSlices" >> beam.Map(_mark_slice).with_output_types(KeyedBytes)
        return (marked, lost) | "SlicesAndLost" >> beam.Flatten() | "Gather" >> beam.GroupByKey()


__all__ = ["LOST", "SLICE", "GatherByCell", "KeyedBytes"]
