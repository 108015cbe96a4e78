"""A column of a batch as codes into its distinct values: comparisons are made on these, and carried to the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.filter_keys import fold, split_tags

_FEW = 8
"""Up to so many values, comparing the codes with each is faster than looking all up (0.1 against 0.7 ns a row)."""
_SMALL = 1_000
"""Up to so many distinct values, a dictionary finds the codes faster than Arrow (1 against 60 µs a comparison)."""


@dataclass
class EncodedColumn:
    """A column reduced to codes.

    Attributes:
      values: the distinct values (a dictionary that came with the data may hold unused, repeated or null ones).
      codes: for each row the index of its value, ``len(values)`` where it is null; of the smallest type that fits.
    """

    values: pa.Array
    codes: npt.NDArray[np.unsignedinteger[Any]]
    _by_operand: dict[str, dict[Any, list[int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, column: pa.Array) -> EncodedColumn:
        """Encode a column, or take over its dictionary if it has one."""
        encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
        values, indices = encoded.dictionary, encoded.indices
        if indices.null_count:
            # Widen first: the code for null may not fit the type of the indices.
            indices = indices.cast(pa.int64()).fill_null(len(values))
        smallest = np.min_scalar_type(len(values))
        return cls(values, indices.to_numpy(zero_copy_only=False).astype(smallest))

    def codes_of(self, how: str, operands: tuple[int | str | bool, ...]) -> list[int]:
        """Codes of the distinct values that compare with one of the operands (see `schemas.filter_keys.Test`)."""
        if how in _FOLDS or len(self.values) <= _SMALL:
            by_operand = self._codes_by_operand(how)
            return sorted({code for operand in operands for code in by_operand.get(operand, ())})
        values = pc.utf8_slice_codeunits(self.values, 0, 19) if how == "iccid" else self.values
        found = pc.is_in(values, value_set=pa.array(operands, type=values.type))
        return np.flatnonzero(found.to_numpy(zero_copy_only=False)).tolist()

    def compare(self, chosen: list[int], rows: slice, out: npt.NDArray[np.bool_], spare: npt.NDArray[np.bool_]) -> None:
        """Which of some rows have one of the chosen codes; nulls never do.

        Args:
          chosen: codes, of `codes_of`.
          rows: the rows.
          out: takes one truth value per row.
          spare: room of the same size to work in.
        """
        if len(chosen) > _FEW:
            wanted = np.zeros(len(self.values) + 1, dtype=np.bool_)
            wanted[chosen] = True
            np.take(wanted, self.codes[rows], out=out)
        elif not chosen:
            out[:] = False
        else:
            codes, (first, *others) = self.codes[rows], map(self.codes.dtype.type, chosen)
            np.equal(codes, first, out=out)
            for code in others:
                np.equal(codes, code, out=spare)
                np.logical_or(out, spare, out=out)

    def _codes_by_operand(self, how: str) -> dict[Any, list[int]]:
        """What the values compare as, each with its codes; made once per column and way of comparing."""
        if how not in self._by_operand:
            by_operand: dict[Any, list[int]] = {}
            compares_as = _FOLDS.get(how, _prefix if how == "iccid" else _itself)
            for code, value in enumerate(self.values.to_pylist()):
                for operand in compares_as(value) if value is not None else ():
                    by_operand.setdefault(operand, []).append(code)
            self._by_operand[how] = by_operand
        return self._by_operand[how]


def _itself(value: Any) -> list[Any]:
    return [value]


def _prefix(iccid: str) -> list[str]:
    return [iccid[:19]]


_FOLDS: dict[str, Callable[[str], list[str]]] = {"named": lambda text: [fold(text)], "tagged": split_tags}
