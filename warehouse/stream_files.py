"""Files of streams, read as their destinations read them: an object store may be reached in a role of its own only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from schemas.destinations import SecretError
from schemas.file_systems import FILE_SYSTEMS, is_remote, scheme_of
from transforms.deliver.destination import Destination
from transforms.deliver.failures import Failure, SetupError
from transforms.deliver.registry import DESTINATIONS
from warehouse.layout import RUN_FILE, STREAMS
from warehouse.recount import Opener


class Unreachable(OSError):
    """The destination of a stream cannot be read from here. The message says why, and what to do."""


class StreamFiles:
    """Opens files of the streams that the last run of an output directory served. Context manager.

    Args:
      directory: the output directory; its run file names the streams' options.
    """

    def __init__(self, directory: Path):
        path = directory / RUN_FILE
        run = msgspec.json.decode(path.read_bytes()) if path.is_file() else {}
        self._streams = {f"{STREAMS}/{stream['name']}": stream for stream in run.get("streams", ())}
        self._made: dict[str, Destination[Any]] = {}

    def __enter__(self) -> StreamFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for destination in self._made.values():
            destination.close()

    def opener(self, table_or_stream: str) -> Opener | None:
        """How a destination opens a stream's files; None where they are read as all other files are.

        Raises:
          Unreachable: it cannot be used here.
        """
        destination = self._destination(table_or_stream, lambda kind: kind.opened is not Destination.opened)
        return None if destination is None else destination.opened

    def in_tables(self, files: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
        """What differs between rows that were put into tables and what is listed of them, or None, by path; also of
        rows that no file lists. Paths of files are not in it.

        Args:
          files: rows of ``ledger_files``.
        """
        problems: dict[str, str | None] = {}
        streams: dict[str, dict[str, int]] = {}
        for row in files:
            streams.setdefault(row["table_or_stream"], {})[row["path"]] = row["row_count"]
        for name, listed in streams.items():
            try:
                destination = self._destination(name, lambda kind: kind.recount is not Destination.recount)
                found = None if destination is None else destination.recount(sorted(listed))
            except Unreachable as error:
                problems |= dict.fromkeys(listed, f"cannot be counted: {error}")
                continue
            if isinstance(found, Failure):
                problems |= dict.fromkeys(listed, f"cannot be counted: {found.error}; {found.remedy}")
            elif found is not None:
                problems |= {path: _difference(listed.get(path), rows) for path, rows in found.items()}
            else:
                # Of a stream that the last run did not have: nothing says how to reach its table.
                problems |= {path: "is no file, and its stream is not defined" for path in listed if _is_table(path)}
        return problems

    def _destination(
        self, table_or_stream: str, wanted: Callable[[type[Destination[Any]]], bool]
    ) -> Destination[Any] | None:
        """The destination of a stream, if its type is a wanted one.

        Raises:
          Unreachable: it cannot be used here.
        """
        stream = self._streams.get(table_or_stream)
        if stream is None or "options" not in stream or not wanted(DESTINATIONS[stream["destination"]]):
            return None
        if table_or_stream not in self._made:
            kind = DESTINATIONS[stream["destination"]]
            destination = kind(kind.options_model.model_validate(stream["options"]))
            try:
                destination.setup()
            except (SecretError, SetupError) as error:
                raise Unreachable(str(error)) from None
            self._made[table_or_stream] = destination
        return self._made[table_or_stream]


def _is_table(path: str) -> bool:
    return is_remote(path) and scheme_of(path) not in FILE_SYSTEMS


def _difference(listed: int | None, rows: int) -> str | None:
    if listed is None:
        return f"is listed by no writer: {rows:,} rows"
    return None if rows == listed else f"holds {rows:,} rows, listed {listed:,}"
