"""Recount one written file: its size, its checksum and the rows that it really holds."""

from __future__ import annotations

import csv
import io
import os
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any, cast

import fastavro
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from isal import igzip, isal_zlib

from transforms.deliver import storage

_CHUNK = 1 << 20

UNREADABLE: tuple[type[Exception], ...] = (
    OSError, EOFError, ValueError, StopIteration, IndexError, zlib.error,
    cast(type[Exception], isal_zlib.error), pa.ArrowException,
    msgspec.DecodeError, csv.Error,
)  # fmt: skip
"""What the readers of the formats raise on a file that is cut short or changed."""


Opener = Callable[[str], AbstractContextManager[IO[bytes]]]
"""Opens a file by its path or URL; raises FileNotFoundError where there is none, OSError where it cannot be read."""


class UnknownFormat(ValueError):
    """The name of a file does not say how its rows are counted."""


def problem(
    path: str, row_count: int | None, size: int | None, checksum: str | None, opener: Opener | None = None
) -> str | None:
    """What differs between a file and what is listed of it, or None. What is not listed (None) is not compared.

    Args:
      path: absolute local path, or URL of any Beam file system or of the opener.
      row_count: rows listed.
      size: bytes listed.
      checksum: ``xxh3_128:<hex>`` of the file's bytes, as listed.
      opener: opens it, where Beam's file systems do not; then it is read into memory, once.
    """
    opened: Opener = storage.opened
    if opener is not None:
        try:
            with opener(path) as file:
                content = file.read()
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be read: {error}"
        opened = lambda _: io.BytesIO(content)  # noqa: E731 - the content is given to all that read it
    elif not exists(path):
        return "is missing"
    with opened(path) as file:
        found_size, found_checksum = storage.measure_file(file)
    if size is not None and found_size != size:
        return f"{'is cut short' if found_size < size else 'has grown'}: {found_size:,} bytes, listed {size:,}"
    if checksum is not None and found_checksum != checksum:
        return f"has changed: checksum {found_checksum}, listed {checksum}"
    try:
        found_rows = count_rows(path, opened)
    except UNREADABLE as error:
        return f"cannot be read: {type(error).__name__}"
    if row_count is not None and found_rows != row_count:
        return f"holds {found_rows:,} rows, listed {row_count:,}"
    return None


def count_rows(path: str, opened: Opener = storage.opened) -> int:
    """Rows of a file by its format: Parquet, Avro, Arrow, CSV (header apart), JSON array, NDJSON; gzip of texts.

    Raises:
      UnknownFormat: the file's suffix is none of these.
      one of `UNREADABLE`: the file is damaged.
    """
    plain = path.removesuffix(".gz")
    counter = _COUNTERS.get(os.path.splitext(plain)[1])
    if counter is None:
        raise UnknownFormat(f"{path}: expected one of {', '.join(sorted(filter(None, _COUNTERS)))} (.gz)")
    with opened(path) as raw:
        if plain == path:
            return counter(raw)
        with igzip.IGzipFile(fileobj=raw, mode="rb") as content:
            return counter(cast(IO[bytes], content))


def exists(path: str) -> bool:
    """Whether there is a file of that name."""
    return FileSystems.exists(path)


def _count_lines(file: IO[bytes]) -> int:
    lines, last = 0, b"\n"
    while chunk := file.read(_CHUNK):
        lines += chunk.count(b"\n")
        last = chunk[-1:]
    return lines + (last != b"\n")


def _count_csv(file: IO[bytes]) -> int:
    """Rows below the header; a quoted line break does not end a row."""
    rows = sum(1 for _ in csv.reader(io.TextIOWrapper(cast(Any, file), encoding="utf-8", newline="")))
    return max(rows - 1, 0)


def _count_json(file: IO[bytes]) -> int:
    items = msgspec.json.decode(file.read(), type=list[msgspec.Raw])
    return len(items)


def _count_parquet(file: IO[bytes]) -> int:
    return pq.read_metadata(file).num_rows


def _count_avro(file: IO[bytes]) -> int:
    return sum(block.num_records for block in fastavro.block_reader(file))


def _count_arrow(file: IO[bytes]) -> int:
    with pa.ipc.open_file(pa.PythonFile(file, mode="r")) as reader:
        return sum(reader.get_batch(number).num_rows for number in range(reader.num_record_batches))


def _count_payload(file: IO[bytes]) -> int:
    """A dead letter's payload, a file without suffix: one record, whatever its bytes."""
    del file
    return 1


_COUNTERS: dict[str, Callable[[IO[bytes]], int]] = {
    "": _count_payload,
    ".parquet": _count_parquet,
    ".avro": _count_avro,
    ".arrow": _count_arrow,
    ".csv": _count_csv,
    ".json": _count_json,
    ".ndjson": _count_lines,
    ".jsonl": _count_lines,
}
