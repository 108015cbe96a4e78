"""Where the elements of JSON text begin and end, found with numpy over whole pieces of text.

Only quotes and brackets are looked at. A bracket counts where the number of unescaped quotes before it is even; the
depth is the running sum of brackets. An *item* is an element of a top-level array, or a top-level object; what lies
between items (commas, white space, garbage) is a *gap*. The state at the end of a piece carries over to the next, so
that a text of any size needs no more memory than a piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_OPEN_ARRAY = ord("[")
_OPENS, _CLOSES, _CASE = ord("{"), ord("}"), 0x20
# Setting one bit makes [ and ] into { and }, and nothing else.


@dataclass
class State:
    """Where the scan stands.

    Attributes:
      depth: number of open brackets.
      in_array: whether the top-level value that is open (or was last) is an array.
      in_string: between two quotes.
      escaped: the next byte is escaped by a backslash.
    """

    depth: int = 0
    in_array: bool = False
    in_string: bool = False
    escaped: bool = False

    @property
    def level(self) -> int:
        """Depth at which items lie: 1 in a top-level array, else 0."""
        return int(self.in_array and self.depth > 0)

    @property
    def in_item(self) -> bool:
        """Whether an item is open."""
        return self.depth > self.level

    def restart(self) -> None:
        """Gives the open item up: what follows lies at the level of items, outside of strings."""
        self.depth = self.level
        self.in_string = self.escaped = False


@dataclass(frozen=True)
class Marks:
    """Positions in the text, ascending.

    Attributes:
      opens: of the brackets that open an item.
      closes: of those that close one.
      levels: depth of the items that ``closes`` close: 1 in a top-level array, else 0.
      borders: of the brackets of top-level arrays.
    """

    opens: np.ndarray
    closes: np.ndarray
    levels: np.ndarray
    borders: np.ndarray


def scan(text: bytes, start: int, state: State) -> Marks:
    """Scans ``text[start:]`` and moves ``state`` on. A closing bracket that nothing has opened belongs to a gap."""
    codes = np.frombuffer(text, np.uint8)[start:]
    braces = codes | _CASE
    places = np.flatnonzero((codes == _QUOTE) | (braces == _OPENS) | (braces == _CLOSES))
    quotes = codes[places] == _QUOTE
    if state.escaped or text.find(b"\\", start) >= 0:
        kept = ~_escaped(codes, places, quotes, state)
        places, quotes = places[kept], quotes[kept]
    inside = np.cumsum(quotes) + state.in_string
    if places.size:
        state.in_string = bool(inside[-1] & 1)
    places = places[~quotes & ((inside & 1) == 0)]
    if not places.size:
        nothing = places + start
        return Marks(nothing, nothing, nothing, nothing)
    return _marks(codes[places], places + start, state)


def _marks(brackets: np.ndarray, places: np.ndarray, state: State) -> Marks:
    """Marks among ``brackets``, all outside of strings, at ``places``."""
    opening = (brackets | _CASE) == _OPENS
    total = np.cumsum(np.where(opening, 1, -1)) + state.depth
    depth = total - np.minimum.accumulate(np.minimum(total, 0))
    before = np.empty_like(depth)
    before[0], before[1:] = state.depth, depth[:-1]
    top = opening & (before == 0)
    in_array = np.full(len(places), state.in_array)
    if top.any():
        last_top = np.maximum.accumulate(np.where(top, np.arange(len(places)), -1))
        in_array = np.where(last_top >= 0, brackets[last_top] == _OPEN_ARRAY, in_array)
    level = in_array.astype(np.int64)
    closed = ~opening & (before > 0)
    state.depth, state.in_array = int(depth[-1]), bool(in_array[-1])
    closes = closed & (depth == level)
    return Marks(
        opens=places[opening & (before == level)],
        closes=places[closes],
        levels=level[closes],
        borders=places[in_array & (top | (closed & (depth == 0)))],
    )


def _escaped(codes: np.ndarray, places: np.ndarray, quotes: np.ndarray, state: State) -> np.ndarray:
    """Which of ``places`` are quotes behind an odd number of backslashes. Moves ``state.escaped`` on."""
    slashes = np.flatnonzero(codes == _BACKSLASH)
    if state.escaped:
        slashes = np.concatenate([[-1], slashes])
    numbers = np.arange(len(slashes))
    starts = np.ones(len(slashes), np.bool_)
    starts[1:] = np.diff(slashes) != 1
    odd = (numbers - np.maximum.accumulate(np.where(starts, numbers, 0))) % 2 == 0
    escaping = slashes[odd]
    state.escaped = bool(escaping.size and escaping[-1] == len(codes) - 1)
    return quotes & np.isin(places - 1, escaping, assume_unique=True)
