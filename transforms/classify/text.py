"""The free text of events: folding, searching, and what only the text carries (nodes, operators, addresses, logins).

Texts are searched with polars, whose expressions are several times faster than pyarrow's on short texts.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from polars.exceptions import ComputeError

from schemas.lookups import RAT_WORDS
from transforms.classify.columns import Integers, Mask, by_distinct, mask_of, select

_SPACE = 0x20
_PRINTABLE = 0x5F
"""ASCII letters from blank on; below them lie control characters, beyond them letters of other scripts."""
_FEW = 400
"""Up to so many texts Python's own expressions are faster than a call of polars, which costs 0.1 ms."""

# Formats of descriptions. The operator's name may itself hold brackets, hence the greedy match up to ") for IMSI".
_ATTACHED = r"(?is)\battached\s+to\s+(?:VLR|SGSN|MME)\s*=\s*'([^']+)'"
_REFUSING = r"(?is)\bfrom\s+(?:VLR|SGSN|MME)\s+([^\s(]+)(?:\s+\(.*\))?\s+for\s+IMSI"
_REFUSING_OPERATOR = r"(?is)\bfrom\s+(?:VLR|SGSN|MME)\s+[^\s(]+\s+\((.*)\)\s+for\s+IMSI"
_RAT = r"(?is)\bRAT\s+type\s*=?\s*'?([a-z0-9_\-]+)"
_LOGIN = r"(?is)\brequest\s+from\s+'(.*?)',\s*reason\b"
_ADDRESS = r"(?is)\bfrom\s+IP\s+([0-9a-f.:]*[0-9a-f])"
_PER_CENT = r"(\d{1,3})\s?%"


def fold(texts: pa.Array) -> pa.Array:
    """Lower case, white space collapsed to single blanks and trimmed.

    Only the few texts that hold control characters, double or outer blanks or letters beyond ASCII are handled one by
    one.
    """
    if not len(texts):
        return texts
    lower = pc.ascii_lower(texts)
    offsets = np.frombuffer(lower.buffers()[1], np.int32)[lower.offset : lower.offset + len(lower) + 1]
    begin, end = int(offsets[0]), int(offsets[-1])
    if begin == end:
        return lower
    data = np.frombuffer(lower.buffers()[2], np.uint8)[begin:end]
    odd = (data - np.uint8(_SPACE)) >= _PRINTABLE  # one comparison: control characters wrap around
    blank = data == _SPACE
    odd[1:] |= blank[1:] & blank[:-1]
    rows = np.searchsorted(offsets, np.flatnonzero(odd) + begin, side="right") - 1
    filled = np.flatnonzero(offsets[1:] > offsets[:-1])
    outer = filled[blank[offsets[filled] - begin] | blank[offsets[filled + 1] - 1 - begin]]
    rows = np.union1d(rows, outer)
    if not rows.size:
        return lower
    folded = [" ".join(text.lower().split()) for text in texts.take(pa.array(rows)).to_pylist()]
    replaced = np.zeros(len(texts), dtype=bool)
    replaced[rows] = True
    return pc.replace_with_mask(lower, pa.array(replaced), pa.array(folded, pa.string()))


def contains(texts: pa.Array, pattern: str, *, literal: bool = False) -> Mask:
    """Which texts a regular expression (or a literal) occurs in; null texts do not."""
    if len(texts) <= _FEW or not (literal or _known_to_polars(pattern)):
        search = re.compile(re.escape(pattern) if literal else pattern).search
        found = [text is not None and search(text) is not None for text in texts.to_pylist()]
        return np.array(found, dtype=bool)
    return mask_of(_series(texts).str.contains(pattern, literal=literal).to_arrow())


@lru_cache(maxsize=1024)
def _known_to_polars(pattern: str) -> bool:
    """False for expressions with look-around, which only Python knows."""
    try:
        pl.Series([""]).str.contains(pattern)
    except ComputeError:
        return False
    return True


def _series(texts: pa.Array) -> pl.Series:
    return pl.Series(texts, dtype=pl.String)


def _extract(texts: pa.Array, pattern: str) -> pa.Array:
    """The group of the pattern; null where the pattern does not match or the group is empty."""
    if len(texts) <= _FEW:
        matches = map(re.compile(pattern).search, texts.fill_null("").to_pylist())
        return pa.array([(match[1] or None) if match else None for match in matches], pa.string())
    found = _series(texts).str.extract(pattern).to_arrow().cast(pa.string())
    return pc.if_else(pc.equal(found, ""), pa.scalar(None, pa.string()), found)


def attached_node(texts: pa.Array) -> pa.Array:
    """VLR, SGSN or MME that an accepted attach names: a global title or a host."""
    if len(texts) <= _FEW:
        return _extract(texts, _ATTACHED)
    tail = _series(texts).str.splitn("now attached to ", 2).struct.field("field_1")
    nodes = tail.str.splitn("='", 2).struct.field("field_1").str.splitn("'", 2).struct.field("field_0")
    usual = nodes.to_arrow().cast(pa.string())
    rows = np.flatnonzero(~contains(usual, "^[^',]+$"))  # texts that differ from the usual form, by blanks or case
    if not rows.size:
        return usual
    unusual = np.zeros(len(texts), dtype=bool)
    unusual[rows] = True
    return pc.replace_with_mask(usual, pa.array(unusual), _extract(texts.take(pa.array(rows)), _ATTACHED))


def refusing_node_and_operator(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Node and operator that a rejected attach names: it carries no detail."""
    return _extract(texts, _REFUSING), _extract(texts, _REFUSING_OPERATOR)


def rat_in_text(descriptions: pa.Array, folded: pa.Array, rows: Integers) -> tuple[Integers, pa.Array]:
    """Radio access technologies that texts name (``RAT type='E_UTRAN'``): (rows that name one, our word for it)."""
    rows = rows[contains(select(folded, rows), "rat type", literal=True)]
    names = _extract(select(descriptions, rows), _RAT)
    return rows, by_distinct(names, _rat_words)


def _rat_words(names: pa.Array) -> pa.Array:
    keys = [name.lower().replace("-", "_") for name in names.to_pylist()]
    return pa.array([RAT_WORDS.get(key) for key in keys], pa.string())


def login_in_text(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """User and address of a failed login (types 6 and 7)."""
    return _extract(texts, _LOGIN), _extract(texts, _ADDRESS)


def per_cent_in_text(texts: pa.Array) -> pa.Array:
    """The first percentage that a text names, int32."""
    return _extract(texts, _PER_CENT).cast(pa.int32())
