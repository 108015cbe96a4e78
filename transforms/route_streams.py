"""Route: one predicate per stream, all evaluated once per pane.

There is a branch for each registered type that stores, and one for all that is pushed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam

from schemas.streams import Stream
from transforms.deliver.registry import DESTINATIONS, STORED
from transforms.elements import Pane, Routed
from transforms.route.router import Router

PUSHED = "pushed"
"""Branch of the streams that are reached over a network."""


class _Route(beam.DoFn):
    def __init__(self, streams: Sequence[Stream]):
        self._streams = streams

    def setup(self) -> None:
        self._router = Router(self._streams)
        self._branch = {stream.name: _branch_of(stream) for stream in self._streams}

    def process(self, element: Pane) -> Iterator[beam.pvalue.TaggedOutput]:
        for name, selection in self._router.route(element.table, element.rows).items():
            routed = Routed(name, element.table, element.cell, element.number, element.rows.num_rows, selection)
            yield beam.pvalue.TaggedOutput(self._branch[name], routed)


def _branch_of(stream: Stream) -> str:
    kind = stream.destination.type
    return PUSHED if DESTINATIONS[kind].pushes(stream) else kind


@dataclass
class RouteStreams(beam.PTransform):
    """Gives each stream the rows that its filter selects: panes by branch, one for every registered type that
    stores and one for all that is pushed.

    A stream is data, not graph: the branches are the same whatever the streams. A stream whose content is the pane's
    table gets a pane even where no row is selected, so that it is counted.

    Attributes:
      streams: the stream definitions.
    """

    streams: Sequence[Stream]

    def expand(self, panes: beam.PCollection[Pane]) -> dict[str, beam.PCollection[Routed]]:
        """Routes pane by pane."""
        names = (*STORED, PUSHED)
        routed = panes | "Route" >> beam.ParDo(_Route(list(self.streams))).with_outputs(*names)
        branches = {name: routed[name] for name in names}
        for branch in branches.values():
            branch.element_type = Routed
        return branches
