"""Classify: panes of records become panes of table rows, with category, severity, outcome, reason, domain and device
state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam

from schemas.records import EVENTS_FEED
from transforms.classify import event_rows, usage_rows
from transforms.elements import Pane
from transforms.run import Run


class _Classify(beam.DoFn):
    def __init__(self, run: Run):
        self._run = run

    def process(self, element: Pane) -> Iterator[Pane]:
        run = self._run
        if element.cell.kind == EVENTS_FEED:
            rows = event_rows(element.rows, run.writer, element.number, run.reasons)
        else:
            rows = usage_rows(element.rows, run.writer, element.number)
        yield element.with_rows(element.table, rows)


@dataclass
class ClassifyRecords(beam.PTransform):
    """Turns panes in the record schema into panes of ``events`` and ``usage`` rows; every record gives one row.

    Attributes:
      run: the run.
    """

    run: Run

    def expand(self, panes: beam.PCollection[Pane]) -> beam.PCollection[Pane]:
        """Classifies pane by pane."""
        return panes | "Classify" >> beam.ParDo(_Classify(self.run)).with_output_types(Pane)
