"""Which rows of a pane each stream gets: filters, then masks."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from schemas.streams import Stream
from transforms.deliver.formats import FORMATS
from transforms.deliver.registry import DESTINATIONS
from transforms.deliver.selection import Selection, select
from transforms.route.masking import compile_masks
from transforms.route.predicates import compile_filters


class Router:
    """Made once on a worker, where the keys of masks can be read.

    Args:
      streams: the stream definitions.

    Raises:
      SecretError: the key of a mask cannot be read.
    """

    def __init__(self, streams: Sequence[Stream]):
        self._filters = compile_filters(streams)
        self._texts = {stream.name: _made_of_texts(stream) for stream in streams}
        self._masks = compile_masks(streams)

    def route(self, table: str, rows: pa.RecordBatch) -> dict[str, Selection]:
        """What each stream whose content is this table takes of the rows; nothing counts as well."""
        return select(rows, self._filters.masks(table, rows), self._texts, self._masks)


def _made_of_texts(stream: Stream) -> bool:
    """Whether texts made here are used: what is pushed goes on as rows."""
    destination = DESTINATIONS[stream.destination.type]
    return not destination.pushes(stream) and destination.packs and FORMATS[stream.format].texts
