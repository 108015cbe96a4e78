"""Aggregate per device: each pane of events or usage adds a pane of partial sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam

from schemas.records import EVENTS_FEED
from schemas.tables import DEVICE_EVENTS_HOURLY, DEVICE_USAGE_HOURLY
from transforms.aggregate import device_events, device_usage
from transforms.elements import Pane


class _Aggregate(beam.DoFn):
    def process(self, element: Pane) -> Iterator[Pane]:
        yield element
        if element.cell.kind == EVENTS_FEED:
            yield element.with_rows(DEVICE_EVENTS_HOURLY.name, device_events(element.rows))
        else:
            yield element.with_rows(DEVICE_USAGE_HOURLY.name, device_usage(element.rows))


@dataclass
class AggregatePerDevice(beam.PTransform):
    """Passes panes of ``events`` and ``usage`` on and adds, for each, its pane of partial sums per device and hour.
    Exact.
    """

    def expand(self, panes: beam.PCollection[Pane]) -> beam.PCollection[Pane]:
        """Aggregates pane by pane: a cell holds all records of its devices' hour, so no second shuffle is needed."""
        return panes | "Aggregate" >> beam.ParDo(_Aggregate()).with_output_types(Pane)
