"""The filters of all streams as one program of masks over a batch.

Filters are compiled once. Equal parts of different streams become one step, whatever the order in which they are
written; each step is evaluated once per batch. A column is reduced to integer codes once per batch, and a comparison is
made on its distinct values, then carried to the rows by their codes. Columns that are already dictionary-encoded cost
nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.filter_keys import Test, tests_of
from schemas.filters import Filter
from schemas.streams import Stream
from transforms.route.columns import EncodedColumn

_CHUNK = 16_384
"""Rows that all steps pass over at a time, so that the masks in between stay in the processor's cache."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Compare:
    """A step: rows whose column compares with one of the operands in the way of `schemas.filter_keys.Test`."""

    column: str
    how: str
    operands: tuple[int | str | bool, ...]


@dataclass(frozen=True)
class Combine:
    """A step: rows for which all, or any, of some earlier steps hold; with no steps, ``all`` takes every row."""

    how: Literal["all", "any"]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Negate:
    """A step: rows for which an earlier step does not hold."""

    step: int


Step = Compare | Combine | Negate


@dataclass(frozen=True)
class Program:
    """The filters of the streams of one table: steps in the order of evaluation, and the last step of each stream."""

    steps: tuple[Step, ...]
    results: tuple[tuple[str, int], ...]

    def masks(self, rows: pa.RecordBatch) -> dict[str, Mask]:
        """One mask per stream over the rows. Streams with equal filters share a mask: do not write to it."""
        comparisons = self._comparisons(rows)
        finished = {at: np.empty(rows.num_rows, dtype=np.bool_) for _, at in self.results}
        scratch = np.empty((len(self.steps) + 1, min(_CHUNK, rows.num_rows)), dtype=np.bool_)
        for start in range(0, rows.num_rows, _CHUNK):
            chunk = slice(start, min(start + _CHUNK, rows.num_rows))
            done = list(scratch[:, : chunk.stop - start])
            spare = done.pop()
            for at, mask in finished.items():
                done[at] = mask[chunk]
            for at, step in enumerate(self.steps):
                if isinstance(step, Compare):
                    column, codes = comparisons[at]
                    column.compare(codes, chunk, done[at], spare)
                elif isinstance(step, Negate):
                    np.logical_not(done[step.step], out=done[at])
                else:
                    _combine(step, done, done[at])
        return {name: finished[at] for name, at in self.results}

    def _comparisons(self, rows: pa.RecordBatch) -> dict[int, tuple[EncodedColumn, list[int]]]:
        """For each comparing step its column, encoded once, and the codes of the values that it takes."""
        columns: dict[str, EncodedColumn] = {}
        comparisons = {}
        for at, step in enumerate(self.steps):
            if isinstance(step, Compare):
                if step.column not in columns:
                    columns[step.column] = EncodedColumn.of(rows.column(step.column))
                column = columns[step.column]
                comparisons[at] = (column, column.codes_of(step.how, step.operands))
        return comparisons


@dataclass(frozen=True)
class Router:
    """The compiled filters of all streams. Immutable and picklable."""

    programs: tuple[tuple[str, Program], ...]

    def masks(self, table_name: str, rows: pa.RecordBatch) -> dict[str, Mask]:
        """Which rows each stream of a table takes.

        Args:
          table_name: the table; its streams are those with this content, running and paused.
          rows: a batch in the table's schema; text columns may be dictionary-encoded.

        Returns:
          stream name → mask of ``rows.num_rows`` truth values, in the order of the definitions. Equal filters share one
          array: do not write to it.
        """
        program = dict(self.programs).get(table_name)
        return program.masks(rows) if program is not None else {}


def compile_filters(streams: Iterable[Stream]) -> Router:
    """Compile the filters of streams, once per process; `Router.masks` evaluates them."""
    writers: dict[str, _ProgramWriter] = {}
    for stream in streams:
        writers.setdefault(stream.content, _ProgramWriter(stream.content)).add(stream)
    return Router(tuple((content, writer.program()) for content, writer in writers.items()))


class _ProgramWriter:
    """Turns filters into steps; equal steps get one number."""

    def __init__(self, content: str) -> None:
        self._content = content
        self._numbers: dict[Step, int] = {}
        self._results: list[tuple[str, int]] = []

    def add(self, stream: Stream) -> None:
        self._results.append((stream.name, self._filter(stream.filter)))

    def program(self) -> Program:
        return Program(tuple(self._numbers), tuple(self._results))

    def _filter(self, wanted: Filter) -> int:
        clauses = [self._key(key, values) for key, values in wanted.given()]
        clauses += [self._filter(member) for member in wanted.all_of]
        if wanted.any_of:
            clauses.append(self._combine("any", [self._filter(member) for member in wanted.any_of]))
        if wanted.not_ is not None:
            clauses.append(self._number(Negate(self._filter(wanted.not_))))
        return self._combine("all", clauses)

    def _key(self, key: str, values: Iterable[int | str | bool]) -> int:
        by_comparison: dict[tuple[str, str], set[int | str | bool]] = {}
        tests: list[Test] = [test for value in values for test in tests_of(key, value, self._content)]
        for test in tests:
            by_comparison.setdefault((test.column, test.how), set()).add(test.operand)
        compared = [
            self._number(Compare(column, how, tuple(sorted(operands))))
            for (column, how), operands in by_comparison.items()
        ]
        return self._combine("any", compared)

    def _combine(self, how: Literal["all", "any"], steps: list[int]) -> int:
        distinct = sorted(set(steps))
        return distinct[0] if len(distinct) == 1 else self._number(Combine(how, tuple(distinct)))

    def _number(self, step: Step) -> int:
        return self._numbers.setdefault(step, len(self._numbers))


def _combine(step: Combine, done: list[Mask], out: Mask) -> None:
    if not step.steps:
        out[:] = step.how == "all"
        return
    operation = np.logical_and if step.how == "all" else np.logical_or
    first, second, *others = step.steps
    operation(done[first], done[second], out=out)
    for other in others:
        operation(out, done[other], out=out)
