"""Files of streams, read as their destinations read them: an object store may be reached in a role of its own only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from schemas.destinations import SecretError
from transforms.deliver.destination import Destination
from transforms.deliver.failures import SetupError
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
        stream = self._streams.get(table_or_stream)
        if stream is None or "options" not in stream:
            return None
        if table_or_stream not in self._made:
            kind = DESTINATIONS[stream["destination"]]
            if kind.opened is Destination.opened:
                return None
            destination = kind(kind.options_model.model_validate(stream["options"]))
            try:
                destination.setup()
            except (SecretError, SetupError) as error:
                raise Unreachable(str(error)) from None
            self._made[table_or_stream] = destination
        return self._made[table_or_stream].opened
