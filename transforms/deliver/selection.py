"""The rows of a pane that one stream takes, and their texts: made once where several streams want the same.

Making JSON texts is most of what delivering a row costs. Where the filters of several streams overlap, the texts of all
rows that any of them takes are made once, and each stream picks its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from transforms.deliver.shapes import json_lines

Mask = npt.NDArray[np.bool_]

LINES_AT_ONCE = 16_384
"""Rows that are made to JSON text at a time: a whole pane of events is 175 MB of text, held several times meanwhile."""

WORTH_SHARING = 1.25
"""How often a row has to be wanted, on average, before texts are shared: they are then held for a whole pane."""


class SharedTexts:
    """Rows that several streams take at least one each of, and their JSON texts by shape, made when first asked for."""

    def __init__(self, rows: pa.RecordBatch):
        self._rows = rows
        self._lines: dict[tuple[str, str], pl.Series] = {}

    def lines(self, shape: str, content: str) -> pl.Series:
        """The texts of all rows."""
        if (shape, content) not in self._lines:
            self._lines[shape, content] = pl.concat(list(_lines(shape, content, self._rows)))
        return self._lines[shape, content]


class Selection:
    """Selected rows of a pane, at least as good as a record batch of them: taken out only when they are asked for.

    Args:
      rows: the rows to choose from.
      mask: which of them are selected; None: all.
      shared: texts of rows that include the selected ones, where there are any,
      places: and which of those are the selected ones.
    """

    def __init__(
        self,
        rows: pa.RecordBatch,
        mask: Mask | None = None,
        shared: SharedTexts | None = None,
        places: Mask | None = None,
    ):
        self._all, self._mask, self._shared, self._places = rows, mask, shared, places
        self.num_rows: int = rows.num_rows if mask is None else int(np.count_nonzero(mask))

    @classmethod
    def of(cls, rows: pa.RecordBatch | Selection) -> Selection:
        """The rows as a selection."""
        return rows if isinstance(rows, Selection) else cls(rows)

    @cached_property
    def rows(self) -> pa.RecordBatch:
        """The selected rows."""
        if self._mask is None or self.num_rows == self._all.num_rows:
            return self._all
        return self._all.filter(pa.array(self._mask))

    def json_lines(self, shape: str, content: str) -> Iterator[pl.Series]:
        """Yields the JSON text of each selected row, some thousand at a time."""
        if self._shared is None or self._places is None:
            yield from _lines(shape, content, self.rows)
        else:
            yield self._shared.lines(shape, content).filter(pl.Series(self._places))


def _lines(shape: str, content: str, rows: pa.RecordBatch) -> Iterator[pl.Series]:
    for start in range(0, rows.num_rows, LINES_AT_ONCE):
        yield json_lines(shape, content, rows.slice(start, LINES_AT_ONCE))


class Masking(Protocol):
    """Hides personal data in rows (`transforms.route.masking.Mask`)."""

    def apply(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows, masked: same schema, same order."""


def select(
    rows: pa.RecordBatch,
    masks: Mapping[str, Mask],
    texts: Mapping[str, bool],
    masking: Mapping[str, Masking] | None = None,
) -> dict[str, Selection]:
    """Returns each stream's selection of a pane's rows.

    Streams with the same masking share masked rows and their texts; nothing is shared across maskings.

    Args:
      rows: the pane's rows.
      masks: which rows each stream takes, by its name.
      texts: whether a stream's format is made of JSON texts, by its name.
      masking: what hides personal data in a stream's rows, by its name; streams without it get them as they are.
    """
    if not masking:
        return _select(rows, masks, texts)
    groups: dict[Masking | None, dict[str, Mask]] = {}
    for name, mask in masks.items():
        groups.setdefault(masking.get(name), {})[name] = mask
    selected: dict[str, Selection] = {}
    for hides, members in groups.items():
        if hides is None:
            selected |= _select(rows, members, texts)
            continue
        wanted = np.logical_or.reduce(list(members.values()))
        hidden = hides.apply(Selection(rows, wanted).rows)
        selected |= _select(hidden, {name: mask[wanted] for name, mask in members.items()}, texts)
    return {name: selected[name] for name in masks}


def _select(rows: pa.RecordBatch, masks: Mapping[str, Mask], texts: Mapping[str, bool]) -> dict[str, Selection]:
    sharing = [mask for name, mask in masks.items() if texts[name]]
    wanted = np.logical_or.reduce(sharing) if sharing else np.zeros(rows.num_rows, bool)
    if len(sharing) < 2 or sum(map(np.count_nonzero, sharing)) < WORTH_SHARING * np.count_nonzero(wanted):
        return {name: Selection(rows, mask) for name, mask in masks.items()}
    shared = SharedTexts(Selection(rows, wanted).rows)
    return {
        name: Selection(rows, mask, shared, mask[wanted]) if texts[name] else Selection(rows, mask)
        for name, mask in masks.items()
    }
