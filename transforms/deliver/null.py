"""Destination type ``null``: does the work of a file and writes none. For benchmarks."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schemas.destinations import DestinationOptions
from transforms.deliver import formats, storage
from transforms.deliver.destination import Destination, Kind, Outcome, StreamDefinition
from transforms.deliver.parts import Part
from transforms.deliver.selection import Selection


class NullOptions(DestinationOptions):
    """Nowhere: records are encoded, the bytes are checksummed and dropped."""

    type: Literal["null"] = Field(default="null", description="Type of the destination.")


class NullDestination(Destination[NullOptions]):
    """Encodes and checksums the records, and drops them: what delivering costs without a disk.

    Guarantee: none, the records are gone. `audit` cannot count them again.
    """

    options_model: ClassVar[type[DestinationOptions]] = NullOptions
    kind: ClassVar[Kind] = Kind.STORED
    recountable: ClassVar[bool] = False

    def deliver(self, part: Part, rows: Selection, stream: StreamDefinition, output: str) -> Outcome:
        """Encode the rows, compute the checksum, and count them as delivered."""
        storage.checksum(formats.encode(stream.format, stream.shape, part.table, rows))
        return Outcome(delivered=rows.num_rows)
