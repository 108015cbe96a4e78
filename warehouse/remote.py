"""Output directories in an object store: what a reader needs of one is copied to this machine for the time it reads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from schemas.file_systems import is_remote, missing_client
from schemas.tables import TABLES
from warehouse.layout import COMMITS, PENDING, RUN_FILE, STREAMS, WAREHOUSE, WarehouseError, existing_output

FILES_AT_ONCE = 16
"""Files that are copied at the same time: an object store answers in tens of milliseconds."""

Progress = Callable[[int, int], None]
"""Is told bytes copied so far, and bytes in all."""


@contextmanager
def local_copy(output: str | os.PathLike[str], whole: bool = False, progress: Progress | None = None) -> Iterator[Path]:
    """An output directory as a local one: itself where it is local, else a copy that goes when the context ends.

    Args:
      output: the output directory, local or on any Beam file system.
      whole: copy also streams, spool and long payloads, which only an audit reads; else the tables and the run file.
      progress: is told how far the copy is.

    Raises:
      WarehouseError: it is no output directory, cannot be read, or is larger than the free space for its copy.
    """
    if not is_remote(str(output)):
        yield existing_output(output)
        return
    root = str(output).rstrip("/")
    files = [file for file in list_output(root) if whole or _is_table(file.path.removeprefix(f"{root}/"))]
    with tempfile.TemporaryDirectory(prefix="data-streamer-copy-") as scratch:
        _check_space(root, files, scratch)
        _copy(root, files, Path(scratch), progress)
        yield Path(scratch)


def list_output(output: str) -> list[FileMetadata]:
    """The files of a remote output directory, by path.

    Raises:
      WarehouseError: it cannot be listed, or no run has finished in it.
    """
    missing = missing_client(output)
    if missing is not None:
        raise WarehouseError(f"{output}: {missing[0]}, which it needs, is not installed: {missing[1]}")
    try:
        patterns = [f"{output}/{name}/**" for name in (WAREHOUSE, STREAMS, PENDING)]
        matches = FileSystems.match([*patterns, f"{output}/{RUN_FILE}"])
    except (BeamIOError, ValueError) as error:
        raise WarehouseError(f"{output}: cannot be listed ({error}); check the address and your permission") from error
    files = [file for match in matches for file in match.metadata_list]
    if not any(file.path.startswith(f"{output}/{WAREHOUSE}/{COMMITS}/") for file in files):
        raise WarehouseError(
            f"{output}: expected an output directory with a {WAREHOUSE}/{COMMITS}/ in it; "
            "name the directory that a run was given as --output"
        )
    return sorted(files, key=lambda file: file.path)


def write_back(path: Path, output: str) -> str:
    """Copies a file into a remote output directory; returns its path there.

    Raises:
      WarehouseError: it cannot be written.
    """
    target = f"{output.rstrip('/')}/{path.name}"
    try:
        with FileSystems.create(target, "text/html", CompressionTypes.UNCOMPRESSED) as file:
            file.write(path.read_bytes())
    except Exception as error:
        raise WarehouseError(f"{target}: cannot be written ({error}); check your permission") from error
    return target


def _is_table(path: str) -> bool:
    parts = path.split("/")
    return parts == [RUN_FILE] or (parts[0] == WAREHOUSE and (len(parts) == 2 or parts[1] in TABLES))


def _check_space(root: str, files: list[FileMetadata], scratch: str) -> None:
    size, free = sum(file.size_in_bytes for file in files), shutil.disk_usage(scratch).free
    if size > free:
        raise WarehouseError(
            f"{root}: {size / 1e9:,.1f} GB have to be copied to {os.path.dirname(scratch)}, where {free / 1e9:,.1f} GB "
            "are free; set TMPDIR to a directory with more space"
        )


def _copy(root: str, files: list[FileMetadata], target: Path, progress: Progress | None) -> None:
    size, done = sum(file.size_in_bytes for file in files), 0
    (target / WAREHOUSE).mkdir()
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        try:
            copies = pool.map(lambda file: _copy_file(file.path, target / file.path.removeprefix(f"{root}/")), files)
            for file, _ in zip(files, copies, strict=True):
                done += file.size_in_bytes
                if progress is not None:
                    progress(done, size)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _copy_file(path: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Stored bytes: Beam would unpack by suffix.
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
