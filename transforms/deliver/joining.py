"""Joining: small parts of a live job that wait for a destination, made one part of each file that it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa

from transforms.deliver import spool, storage
from transforms.deliver.destination import Destination
from transforms.deliver.parts import Part
from transforms.ledger.counts import Entry, FileEntry, Unlisted

PARTS_AT_ONCE = 4_096
"""Parts that are taken for one delivery, and joined at most: late records of some fifty hours make a part of each
whenever their cells are flushed. Rows are read part by part, and those that are joined are as many as a file has.
"""


class Joined(NamedTuple):
    """Parts that have become one.

    Attributes:
      first: index of the first of them among those that were given.
      part: what they are now: under the name of the first, with the next `Part.rest`.
      row_count: its rows.
      entries: what to commit, together, before anything of it is sent.
    """

    first: int
    part: Part
    row_count: int
    entries: list[Entry]


def join(
    destination: Destination[Any], waiting: Sequence[tuple[Part, int]], most: int | None, output: str
) -> tuple[int, list[Joined]] | None:
    """Makes one part, in the spool, of those that the destination writes together.

    What was joined, or is left of a part, is never joined again: so a part is the same rows at every attempt at it,
    whoever is killed in between.

    Args:
      destination: the destination.
      waiting: parts in the spool, in order, with their rows.
      most: rows that it takes at once, a single part apart; None: any number.
      output: the output directory.

    Returns:
      how many of the first parts are taken, those that stay as they are among them, and what the others have become;
      None where the destination takes each part by itself.

    Raises:
      OSError: the output directory is at fault.
      ValueError: a file is none of the spool, of a version that this program knows.
    """
    groups: dict[tuple[str, str], list[tuple[int, Part, pa.RecordBatch]]] = {}
    taken = rows = 0
    for part, count in waiting:
        if taken and most is not None and rows + count > most:
            break
        place = destination.joins(part)
        if place is None:
            return None
        if not part.rest:
            whole, batch = spool.take(output, part)
            groups.setdefault((place, whole.table), []).append((taken, whole, batch))
        taken, rows = taken + 1, rows + count
    return taken, [_joined(group, output) for group in groups.values()]


def _joined(group: Sequence[tuple[int, Part, pa.RecordBatch]], output: str) -> Joined:
    first, part, _ = group[0]
    own, rows = replace(part, rest=part.rest + 1), pa.concat_batches([batch for _, _, batch in group])
    stored = spool.put(output, own, rows)
    entries: list[Entry] = [
        Unlisted(storage.relative(output, spool.path_of(output, waiting))) for _, waiting, _ in group
    ]
    name = f"{spool.DIRECTORY}/{part.stream}"
    entries.append(FileEntry(name, part.hour, stored.path, rows.num_rows, stored.bytes, stored.checksum))
    return Joined(first, own, rows.num_rows, entries)
