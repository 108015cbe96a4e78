"""Write what cells have kept in the runner's state: panes become parts, and once a cell closes its parts become one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import BagStateSpec

from schemas.records import FEEDS
from schemas.streams import Stream
from schemas.tables import TABLES
from transforms.deliver.consignments import encode, of_spooled
from transforms.deliver.push.identity import key_of
from transforms.deliver.spool import DIRECTORY
from transforms.deliver.versioned import Versioned
from transforms.gather.cells import Cell
from transforms.gather.claims import batch_of
from transforms.gather_by_cell import KeyedBytes
from transforms.keep.compact import merge_parts, mergeable
from transforms.keep.flush import Flushes
from transforms.ledger.balance import decode_entries, encode_entries
from transforms.ledger.counts import Entry, FileEntry, Group, encode_group
from transforms.run import Run

CONSIGNMENTS = "consignments"

_logger = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 20
"""Most bytes of a piece of entries in the state."""


class KeptPane(msgspec.Struct, array_like=True):
    """Rows of a cell that are flushed together: their number, and claims of them.

    One without claims has no rows: it says that the cell closes. Its parts are merged into one of this number, and
    forgotten: what comes late is merged with what comes late.
    """

    number: int
    claims: list[bytes]


kept_panes = Versioned(KeptPane, "pane")
"""How they cross the shuffle."""


class WriteKept(beam.DoFn):
    """A pane → its parts of the tables, and of what stores; groups of entries, and what waits in the spool since.

    The state by cell, its parts that may be merged, also puts the step behind a shuffle that hands out the same bytes
    in every attempt, and whose coder is not Python's pickle, as that of Beam's Reshuffle is.
    """

    PARTS = BagStateSpec("parts", BytesCoder())

    def __init__(self, run: Run, streams: Sequence[Stream]):
        self._run, self._streams = run, list(streams)

    def setup(self) -> None:
        self._flushes = Flushes(self._run, self._streams)
        self._mergeable = mergeable(self._streams)

    def teardown(self) -> None:
        self._flushes.close()

    def process(self, element: KeyedBytes, parts: Any = beam.DoFn.StateParam(PARTS)) -> Iterator[object]:
        number, data = element
        cell, pane = Cell.of_number(number), kept_panes.decode(data)
        if not pane.claims:
            yield from self._merge(cell, pane.number, parts.read())
            parts.clear()
            return
        schema = TABLES[FEEDS[cell.kind]].schema
        entries = self._flushes.write(cell, pane.number, [batch_of(claim, schema) for claim in pane.claims])
        yield encode_group(Group(("flush", number, pane.number, 0), entries))
        files = [entry for entry in entries if isinstance(entry, FileEntry)]
        _put(parts, [file for file in files if file.table_or_stream in self._mergeable])
        for file in files:
            if file.table_or_stream.startswith(f"{DIRECTORY}/"):
                one = of_spooled(file, self._run.output)
                if one is not None:
                    yield beam.pvalue.TaggedOutput(CONSIGNMENTS, (key_of(one.stream, one.shard), encode(one)))

    def _merge(self, cell: Cell, pane: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Old files are removed by the publication that does not list them any more."""
        files = [entry for piece in pieces for entry in decode_entries(piece) if isinstance(entry, FileEntry)]
        try:
            entries = merge_parts(self._run, cell, pane, files)
        except Exception as error:  # noqa: BLE001 - stores raise what they like
            # They count as they are. A bundle that is tried for ever, for a part that somebody removed, stops the job.
            _logger.warning("parts of %s stay as they are: %s: %s", files[0].path, type(error).__name__, error)
            return
        if entries:
            yield encode_group(Group(("compact", cell.number, pane, 0), entries))


def _put(parts: Any, files: Sequence[Entry]) -> None:
    for piece in encode_entries(files, _PIECE_BYTES) if files else ():
        parts.add(piece)
