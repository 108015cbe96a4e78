"""Decoded structs to columns of the record schemas.

One call makes a `pyarrow.RecordBatch` of up to a thousand structs: few enough to stay in the processor's cache. What
a column cannot give back (a text that differs from the catalogue's, decimals beyond its scale, a time that is none,
an empty object) is put into ``extra``, nested as it was received, so that merging it over the columns restores the
record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from msgspec.structs import astuple

from schemas.records import CURRENT, END_TIME, FIRST_TIME, LEGACY, RECORD_SCHEMAS, REST
from schemas.tables import TEXT, TIME
from transforms.decode.decimals import exact_decimals, exact_number
from transforms.decode.faults import Fault, json_path
from transforms.decode.particulars import SPECIAL, finish_events, finish_usage
from transforms.decode.paths import COLUMNS
from transforms.decode.shared import Shared
from transforms.decode.structs import KINDS, SHARED, fields
from transforms.decode.times import parse_times

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_CURRENT_LENGTH, _LEGACY_LENGTH = len("2021-10-27T15:17:23Z"), len("2020-11-10 08:59:19")

Path = tuple[str, ...]


@dataclass(slots=True)
class Note:
    """What the tolerant decoder adds to a struct: fields for ``extra``, and the rendering where it knows it."""

    residual: dict[str, Any]
    rendering: int | None = None


@dataclass(slots=True)
class Columns:
    """A batch in the kind's record schema, and the rows that are not in it, with what is wrong with them."""

    batch: pa.RecordBatch
    faults: dict[int, Fault] = field(default_factory=dict)


def _set(item: msgspec.Struct) -> list[bool]:
    return [value is not None for value in astuple(item)]


@cache
def _blank(struct: type[msgspec.Struct]) -> msgspec.Struct:
    """The struct that stands for an absent object; shared, never changed."""
    required = {item.name: None for item in msgspec.structs.fields(struct) if item.required}
    return struct(**required)


def _leaves(tree: dict[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


class Builder:
    """Columns of one kind of a block: structs are added by chunks and become values of plain Arrow types while they
    are in the processor's cache; all else is done once, in `finish`."""

    def __init__(self, kind: int, source_file: str, ingest_time: int):
        """Args: kind of the records; the block's file and its time in microseconds."""
        self.kind = kind
        self.source_file = source_file
        self.ingest_time = ingest_time
        self.schema = RECORD_SCHEMAS[kind]
        self.base = self.count = 0  # rows before this chunk, and with it
        self.lines: list[bytes] = []
        self.offsets: list[np.ndarray] = []
        self.parts: dict[str, list[pa.Array]] = {}
        self.filled: dict[str, int] = {}
        self.arrays: dict[str, pa.Array] = {}
        self.residuals: dict[int, dict[str, Any]] = {}
        self.faults: dict[int, Fault] = {}
        self.flat: dict[int, int] = {}  # renderings of the rows whose form carries ids without their texts
        self.legacy: list[int] = []
        self.exact: dict[tuple[Path, int], Decimal] = {}
        self.noted: dict[int, Note] = {}
        self.unreadable: dict[str, dict[int, str]] = {}
        self.shared = Shared(kind)
        self.numbers: list[np.ndarray] = []

    def add(
        self,
        structs: Sequence[Any],
        numbers: np.ndarray | None,
        notes: dict[int, Note],
        lines: Sequence[bytes],
        offsets: np.ndarray,
    ) -> None:
        """Adds a chunk of structs.

        Args:
          structs: of the strict decoder, or with structs in place of the shared objects.
          numbers: of the shared objects, if they are known (`Shared.numbers`).
          notes: what the tolerant decoder adds, by place in ``structs``.
          lines: bytes of each record as received.
          offsets: where they begin in the file.
        """
        self.numbers.append(self.shared.numbers(structs) if numbers is None else numbers)
        self.base, self.count = self.count, self.count + len(structs)
        self.lines += lines
        self.offsets.append(offsets)
        self.noted = notes
        for row, note in notes.items():
            self.residuals[self.base + row] = dict(note.residual)
            if note.rendering is not None:
                self.flat[self.base + row] = note.rendering
        self.walk(KINDS[self.kind], structs, ())

    def walk(self, struct: type[msgspec.Struct], objects: Sequence[Any], path: Path) -> Sequence[Any]:
        """Makes the columns of a struct's fields, and of the structs in it; returns the values of the first field."""
        # One tuple per struct, turned over: each struct is touched once, which is faster than field by field.
        values: dict[str, Sequence[Any]] = dict(
            zip(fields(struct), zip(*map(astuple, objects), strict=True), strict=True)
        )
        for name, member in fields(struct).items():
            if not path and name in self.shared.fields:
                continue  # see `_share`
            if isinstance(member, type) and issubclass(member, msgspec.Struct):
                self._descend(member, values[name], (*path, name))
            elif (column := COLUMNS[self.kind].get((*path, name))) is not None:
                self._append(column, self._column(column, values[name], (*path, name)))
        special = SPECIAL.get((self.kind, path))
        if special is not None:
            special(self, values)
        return next(iter(values.values()))

    def _descend(self, struct: type[msgspec.Struct], objects: Sequence[Any], path: Path) -> None:
        if not any(objects):  # structs are true: none of the records has this object
            return
        blank = _blank(struct)
        whole = objects if all(objects) else [item or blank for item in objects]
        first = self.walk(struct, whole, path)
        if None in first:
            for row, value in enumerate(first):
                if value is None and objects[row] is not None and not any(_set(objects[row])):
                    self.note(self.base + row, path, {})

    def _append(self, column: str, values: pa.Array) -> None:
        parts = self.parts.setdefault(column, [])
        missing = self.base - self.filled.get(column, 0)
        if missing:  # no record of the chunks before had the object that holds the field
            parts.append(pa.nulls(missing, values.type))
        parts.append(values)
        self.filled[column] = self.base + len(values)

    def _column(self, column: str, values: Sequence[Any], path: Path) -> pa.Array:
        kind = self.schema.field(column).type
        if kind == TEXT:
            return pa.array(values, TEXT) if column != "detail" else self._raw_texts(values, path)
        if kind == TIME:
            return pa.array(values, TEXT)
        if pa.types.is_decimal(kind):
            for row in self.noted:
                if isinstance(values[row], Decimal):
                    self.exact[path, self.base + row] = values[row]
            return pa.array(np.array(values, np.float64))
        if pa.types.is_boolean(kind):
            return self._booleans(values, path)
        return self._integers(kind, values, path)

    def _integers(self, kind: pa.DataType, values: Sequence[int | None], path: Path) -> pa.Array:
        try:
            return pa.array(values, kind)
        except (OverflowError, pa.ArrowInvalid):
            bound = 1 << (kind.bit_width - 1)
            fitting: list[int | None] = []
            for row, value in enumerate(values):
                fits = value is None or -bound <= value < bound
                if not fits:
                    message = f"expected an integer of {kind.bit_width} bits, found a larger number"
                    self.faults[self.base + row] = Fault("number_range", message, json_path(*path))
                fitting.append(value if fits else None)
            return pa.array(fitting, kind)

    def _raw_texts(self, values: Sequence[msgspec.Raw], path: Path) -> pa.Array:
        """JSON texts as received, each on one line; null and absent are null. Nobody has looked at their UTF-8 yet."""
        lengths = np.fromiter(map(len, values), np.int32, len(values))
        pieces: list[Any] = list(values)
        present = np.ones(len(values), bool)
        for row in np.flatnonzero(lengths <= len(b"null")).tolist():
            if bytes(pieces[row]) in (b"", b"null"):
                pieces[row] = b""
                present[row] = False
        content = b"".join(pieces)
        if not content.isascii():
            for row in _undecodable(content, pieces):
                message = "expected UTF-8, found another byte sequence"
                self.faults[self.base + row] = Fault("invalid_utf8", message, json_path(*path))
                pieces[row], present[row] = b"", False
            content = b"".join(pieces)
        if b"\n" in content or b"\r" in content:
            pieces = [_on_one_line(piece) for piece in pieces]
            lengths = np.fromiter(map(len, pieces), np.int32, len(pieces))
            content = b"".join(pieces)
        lengths[~present] = 0
        offsets = np.zeros(len(values) + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        mask = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
        buffers = [mask, pa.py_buffer(offsets), pa.py_buffer(content)]
        return pa.Array.from_buffers(TEXT, len(values), buffers, null_count=-1)

    def _booleans(self, values: Sequence[bool | int | None], path: Path) -> pa.Array:
        if set(map(type, values)) <= {bool, type(None)}:
            return pa.array(values, pa.bool_())
        flags: list[bool | None] = []
        for row, value in enumerate(values):
            known = value is None or value in (0, 1)
            flags.append(bool(value) if known and value is not None else None)
            if type(value) is int:
                self.legacy.append(self.base + row)
            if not known:
                self.note(self.base + row, path, value)
        return pa.array(flags, pa.bool_())

    def note(self, row: int, path: Path, value: object) -> None:
        """Keeps a received value in the row's ``extra``; a value that the tolerant decoder kept stays."""
        residual = self.residuals.setdefault(row, {})
        for name in path[:-1]:
            residual = residual.setdefault(name, {})
            if not isinstance(residual, dict):  # the whole object is kept as received
                return
        residual.setdefault(path[-1], value)

    def keep_texts(self, path: Path, values: dict[str, Sequence[Any]], known: set[tuple[Any, Any]]) -> None:
        """Keeps texts that rendering would not give back for their id."""
        pairs = list(zip(values["id"], values["description"], strict=True))
        unknown = set(pairs) - known
        if unknown:
            for row, (number, text) in enumerate(pairs):
                if (number, text) in unknown and not (self.base + row in self.flat and text is None):
                    self.note(self.base + row, (*path, "id"), number)
                    self.note(self.base + row, (*path, "description"), text)

    def require_time(self, column: str, name: str, rows: np.ndarray | None = None) -> None:
        """Finds rows (of the mask ``rows``, if given) whose deciding time is none or out of the valid range."""
        for row, what in self.unreadable.get(column, {}).items():
            if rows is not None and not rows[row]:
                continue
            if what == "form":
                message = "expected a time such as 2021-10-27T15:17:23Z, found another text"
                self.faults[row] = Fault("wrong_type", message, json_path(name))
            else:
                self.faults[row] = Fault("time_range", "expected a time, found an impossible date", json_path(name))
        micros = self.arrays[column].cast(pa.int64()).fill_null(FIRST_TIME).to_numpy(zero_copy_only=False)
        outside = (micros < FIRST_TIME) | (micros >= END_TIME)
        for row in np.flatnonzero(outside if rows is None else outside & rows).tolist():
            message = "expected a time from 2000 to 2099, found one outside"
            self.faults[row] = Fault("time_range", message, json_path(name))

    def renderings_by_time(self, renderings: np.ndarray, texts: pa.StringArray) -> None:
        lengths = pc.binary_length(texts).fill_null(_CURRENT_LENGTH).to_numpy(zero_copy_only=False)
        if self.kind:  # usage of the current stream may have a fraction
            odd = ~pc.ends_with(texts, "Z").fill_null(True).to_numpy(zero_copy_only=False)
        else:
            odd = lengths != _CURRENT_LENGTH
        renderings[odd] = np.maximum(renderings[odd], np.where(lengths[odd] == _LEGACY_LENGTH, LEGACY, REST))

    def finish(self) -> Columns:
        """The batch of the rows that are not at fault; at least one struct was added."""
        count = self.count
        texts = self._join()
        numbers = np.concatenate(self.numbers, axis=1)
        for name, row_numbers in zip(self.shared.fields, numbers, strict=True):
            self._share(name, row_numbers)
        renderings = np.full(count, CURRENT, np.int8)
        (finish_usage if self.kind else finish_events)(self, texts, renderings)
        renderings[list(self.flat)] = list(self.flat.values())
        source = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([self.source_file]))
        self.arrays.update(
            extra=self._extra(),
            rendering=pa.array(renderings),
            content_hash=pa.array(np.fromiter(map(xxhash.xxh3_64_intdigest, self.lines), np.uint64, count)),
            source_file=source,
            byte_offset=pa.array(np.concatenate(self.offsets)),
            byte_length=pa.array(np.fromiter(map(len, self.lines), np.int64, count)),
            ingest_time=pa.array(np.full(count, self.ingest_time, np.int64)).cast(TIME),
        )
        arrays = [
            self.arrays[item.name] if item.name in self.arrays else pa.nulls(count, item.type) for item in self.schema
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        if self.faults:
            for row, fault in self.faults.items():
                fault.record_id = batch.column(0)[row].as_py()
            keep = np.ones(count, bool)
            keep[list(self.faults)] = False
            batch = batch.filter(pa.array(keep))
        return Columns(batch, self.faults)

    def _join(self) -> dict[str, pa.StringArray]:
        """Joins the chunks' columns, times and decimals in their own types; returns the texts of the times."""
        texts: dict[str, pa.StringArray] = {}
        for path, column in COLUMNS[self.kind].items():
            if column not in self.parts:
                continue
            parts, missing = self.parts.pop(column), self.count - self.filled[column]
            if missing:
                parts.append(pa.nulls(missing, parts[0].type))
            values = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
            kind = self.schema.field(column).type
            if kind == TIME:
                texts[column] = values
                values = self._times(column, values, path)
            elif pa.types.is_decimal(kind):
                values = self._decimals(kind, values.fill_null(np.nan).to_numpy(), path)
            self.arrays[column] = values
        return texts

    def _share(self, name: str, numbers: np.ndarray) -> None:
        """Makes the columns of a shared object: of the different ones, and from these of all rows."""
        objects = self.shared.fields[name].objects
        few = Builder(self.kind, self.source_file, self.ingest_time)
        few.count = len(objects)
        few._descend(SHARED[self.kind][name], objects, (name,))
        few._join()
        places = pa.array(numbers)
        for column, values in few.arrays.items():
            self.arrays[column] = values.take(places)
        for number in few.residuals.keys() | few.faults.keys() | set(few.legacy):
            rows = np.flatnonzero(numbers == number).tolist()
            self.legacy += rows if number in few.legacy else ()
            for row in rows:
                if number in few.faults:
                    fault = few.faults[number]
                    self.faults[row] = Fault(fault.reason, fault.message, fault.path)
                notes = list(_leaves(few.residuals.get(number, {}), ()))
                if row in self.flat and None in (value for _, value in notes):
                    continue  # flat forms carry ids without their texts
                for path, value in notes:
                    self.note(row, path, value)

    def _times(self, column: str, values: pa.StringArray, path: Path) -> pa.Array:
        times = parse_times(values)
        for row in (*times.unreadable, *times.inexact):
            self.note(row, path, values[row].as_py())
        if times.unreadable:
            self.unreadable[column] = times.unreadable
        return times.values

    def _decimals(self, kind: pa.Decimal128Type, values: np.ndarray, path: Path) -> pa.Array:
        def received(row: int) -> Decimal | None:
            return self.exact[path, row] if (path, row) in self.exact else exact_number(self.lines[row], path)

        decimals = exact_decimals(values, kind.scale, received)
        for row, number in decimals.inexact.items():
            self.note(row, path, number)
        for row in decimals.too_large:
            message = f"expected a number of up to {38 - kind.scale} digits before the point, found a larger one"
            self.faults[row] = Fault("number_range", message, json_path(*path))
        return decimals.values

    def _extra(self) -> pa.Array:
        if not self.residuals:
            return pa.nulls(self.count, TEXT)
        texts: list[str | None] = [None] * self.count
        for row, residual in self.residuals.items():
            if residual:
                texts[row] = _on_one_line(_ENCODER.encode(residual)).decode()
        return pa.array(texts, TEXT)


def _on_one_line(text: msgspec.Raw | bytes) -> bytes:
    """A JSON text, compact if it was pretty-printed: it may be embedded in a line that is one record."""
    content = bytes(text)
    return msgspec.json.format(content, indent=-1) if b"\n" in content or b"\r" in content else content


def _undecodable(content: bytes, pieces: Sequence[Any]) -> list[int]:
    """Places of the pieces that are no UTF-8; ``content`` are all of them."""
    return [] if _is_text(content) else [row for row, piece in enumerate(pieces) if not _is_text(bytes(piece))]


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
