"""Applies the mask of a stream to its rows: columns by name, and whatever repeats them inside texts.

A masked value also stands in free texts (``description``), in records kept as JSON (``detail``, ``extra``) and, by
chance, in names and tags. Three things happen to these:

1. members of JSON are masked by name (`transforms.route.members`), with the same result as the column;
2. addresses, e-mails and long numbers are found by pattern (`transforms.route.redaction`);
3. the row's own masked values are looked for literally (at least `SHORTEST` characters, numbers `SHORTEST_NUMBER`).

A mask depends on nothing but its definition, its key and the row: the same row gives the same bytes in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from schemas.destinations import SecretReference
from schemas.masks import MaskEntry, entry_of_columns
from schemas.streams import Stream
from transforms.route.pseudonyms import Hidden, hidden_of, hidden_without_key, keyed_hash
from transforms.route.redaction import JSON_COLUMNS, Redaction, Spelled

NAMES = (
    "endpoint_name", "tags", "organisation_name", "user_username", "user_name", "operator_name", "tariff_name",
    "ratezone_name", "event_type_received", "apn",
)  # fmt: skip
"""Columns whose texts people choose: anything may stand in them."""

SHORTEST = 3
"""Shortest text that is looked for inside of others: shorter ones would be found in every second word."""
SHORTEST_NUMBER = 6
"""Fewest digits of a number that is looked for: shorter ones are also counts, codes and other ids."""

_CONTROL = r'["\\\x00-\x1f]'
"""Characters that JSON writes otherwise: a text with one of them may stand in JSON unseen."""


def compile_mask(stream: Stream, key_of: Callable[[SecretReference], str] = SecretReference.resolve) -> Mask | None:
    """The mask of a stream, once per process; None where it has none.

    Args:
      stream: the stream.
      key_of: reads the key of a reference, on the worker.

    Raises:
      schemas.destinations.SecretError: a key cannot be read, or is too short to be one.
    """
    return Mask.of(stream.mask, key_of) if stream.mask else None


def compile_masks(streams: Sequence[Stream]) -> dict[str, Mask]:
    """The masks of streams by name, those that have one; streams with equal masks get the same object.

    Raises:
      schemas.destinations.SecretError: a key cannot be read, or is too short to be one.
    """
    made: dict[tuple[MaskEntry, ...], Mask] = {}
    for stream in streams:
        if stream.mask and stream.mask not in made:
            made[stream.mask] = Mask.of(stream.mask, SecretReference.resolve)
    return {stream.name: made[stream.mask] for stream in streams if stream.mask}


def preview(stream: Stream) -> Mask:
    """The mask of a stream without its keys: placeholders stand for pseudonyms, 0 for those of numbers."""
    return Mask({column: hidden_without_key(column, entry) for column, entry in entry_of_columns(stream.mask).items()})


@dataclass(frozen=True, eq=False)
class Mask:
    """A compiled mask: for each masked column what becomes of its values. Holds the key: it is never pickled."""

    hidden: dict[str, Hidden]

    @classmethod
    def of(cls, entries: Sequence[MaskEntry], key_of: Callable[[SecretReference], str]) -> Mask:
        """Compiles the entries of a mask; each key is read once."""
        hashes = {
            key: keyed_hash(key, key_of(key))
            for key in dict.fromkeys(entry.key for entry in entries if entry.action == "pseudonymise")
            if key is not None
        }
        return cls({column: hidden_of(column, entry, hashes) for column, entry in entry_of_columns(entries).items()})

    @cached_property
    def redaction(self) -> Redaction:
        """How it changes texts."""
        return Redaction(self.hidden)

    def __reduce__(self) -> str:
        """Refuses: the key must not leave the worker."""
        raise TypeError("a compiled mask holds its key and is not pickled: pickle the stream and compile it again")

    def value(self, column: str, value: Any) -> Any:
        """One value of a column, masked; texts of columns that are not masked, by pattern."""
        if value is None:
            return None
        if column in self.hidden:
            return self.hidden[column].value(value)
        return self.redaction.text(value) if isinstance(value, str) else value

    def apply(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows, masked: same schema, same order. ``rows`` are left as they are."""
        if rows.num_rows == 0:
            return rows
        columns = dict(zip(rows.schema.names, map(_plain, rows.columns), strict=True))
        originals = {name: columns[name] for name in self.hidden if name in columns and _has_values(columns[name])}
        for name, column in columns.items():
            columns[name] = self._masked(name, column)
        self._hide_repeated(columns, originals)
        arrays = [_as(columns[field.name], field.type) for field in rows.schema]
        return pa.RecordBatch.from_arrays(arrays, schema=rows.schema)

    def _masked(self, name: str, column: pa.Array) -> pa.Array:
        if not _has_values(column):
            return column
        if name in self.hidden:
            return _by_distinct(column, self.hidden[name].value)
        if name in JSON_COLUMNS:
            return _by_distinct(column, lambda text: self.redaction.record(text, name))
        if name == "description" or name in NAMES:
            return _by_distinct(column, self.redaction.text)
        return column

    def _texts(self, columns: dict[str, pa.Array]) -> list[str]:
        """Columns in which masked values may stand."""
        open_columns = (*JSON_COLUMNS, "description", *NAMES, "source_file")
        return [
            name for name in open_columns
            if name in columns and name not in self.hidden and _has_values(columns[name])
        ]  # fmt: skip

    def _hide_repeated(self, columns: dict[str, pa.Array], originals: dict[str, pa.Array]) -> None:
        """Replaces the rows' own masked values in the texts beside them."""
        texts = self._texts(columns)
        if not texts:
            return
        frame = pl.DataFrame([pl.Series(name, columns[name]) for name in texts])
        held = frame.select(pl.concat_str(pl.all(), separator="\n", ignore_nulls=True).str.to_lowercase()).to_series()
        found = {name: rows for name, column in originals.items() if len(rows := _repeated(column, held))}
        spelled: dict[int, list[Spelled]] = {}
        for name, places in found.items():
            for row, value in zip(places.tolist(), originals[name].take(pa.array(places)).to_pylist(), strict=True):
                spelled.setdefault(row, []).append(Spelled(str(value), self.hidden[name].shown(value)))
        if not spelled:
            return
        repeating = sorted(spelled)
        for name in texts:
            values = columns[name].take(pa.array(repeating)).to_pylist()
            replaced = [
                None if text is None else self.redaction.without(text, spelled[row], name)
                for row, text in zip(repeating, values, strict=True)
            ]
            mask = np.zeros(len(columns[name]), bool)
            mask[repeating] = True
            columns[name] = pc.replace_with_mask(columns[name], pa.array(mask), pa.array(replaced, columns[name].type))


def _repeated(column: pa.Array, held: pl.Series) -> npt.NDArray[np.int64]:
    """Rows whose texts (in lower case) may hold the column's value."""
    shortest = SHORTEST if pa.types.is_string(column.type) else SHORTEST_NUMBER
    frame = pl.DataFrame({"held": held, "value": pl.Series(column.cast(pa.string())).str.to_lowercase()})
    value = pl.col("value")
    found = pl.col("held").str.contains(value, literal=True) | value.str.contains(_CONTROL)
    chosen = frame.select((found & (value.str.len_chars() >= shortest)).fill_null(False).arg_true())
    return chosen.to_series().to_numpy().astype(np.int64)


def _has_values(column: pa.Array) -> bool:
    return column.null_count < len(column)


def _by_distinct(column: pa.Array, change: Callable[[Any], Any]) -> pa.Array:
    """Changes each distinct value once."""
    encoded = column.dictionary_encode()
    changed = [None if value is None else change(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(changed, column.type).take(encoded.indices)


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type == kind else column.cast(kind)
