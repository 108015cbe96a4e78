"""Bench of ``files``: a local directory; as a fault it cannot be written, as on a disk that is mounted for reading."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.destinations.bench import Bench, Received
from tests.destinations.reading import decode, record_id_of
from tests.servers.proxy import Fault

_FORMATS = {".ndjson.gz": "ndjson", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".avro": "avro"}


class FilesBench(Bench):
    """A directory for each stream."""

    type: ClassVar[str] = "files"
    packings: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ndjson", "table"), ("ndjson", "emnify"), ("json", "emnify"), ("csv", "csv"), ("csv", "table"),
        ("parquet", "table"), ("avro", "table"),
    )  # fmt: skip
    drops_repeats: ClassVar[bool] = True
    faults: ClassVar[frozenset[Fault]] = frozenset({Fault.FORBIDDEN})
    no_fault: ClassVar[str] = "it is a directory, no server"

    def __enter__(self) -> FilesBench:
        self._directory = tempfile.TemporaryDirectory()
        self._root = Path(self._directory.name) / "target"
        self._root.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def options(self, stream: str, content: str = "events") -> dict[str, Any]:
        return {"type": "files", "path": f"{self._root}/{stream}/{content}"}

    def received(self, stream: str, content: str = "events") -> list[Received]:
        paths = (self._root / stream / content).rglob("part-*")
        return received_in({str(path): path.read_bytes() for path in paths}, content)

    @contextmanager
    def fault(self, fault: Fault, percent: float = 100.0) -> Iterator[None]:
        """Whoever runs the tests may be root, whom no rights stop: a file stands where the directory should be."""
        assert fault is Fault.FORBIDDEN, fault
        aside = self._root.with_name("aside")
        self._root.rename(aside)
        self._root.write_text("in the way")
        try:
            yield
        finally:
            self._root.unlink()
            aside.rename(self._root)


def received_in(files: Mapping[str, bytes], content: str) -> list[Received]:
    """The records of files, by their names, whose extension says the format."""
    found = []
    for name, data in sorted(files.items()):
        form = next(form for extension, form in _FORMATS.items() if name.endswith(extension))
        found += [Received(record_id_of(record), record) for record in decode(data, form, content)]
    return found
