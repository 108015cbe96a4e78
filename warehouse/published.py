"""An output directory as it was last published: what can be audited while a run works in it.

A run that is under way adds files that no commit lists yet, replaces its ledger, and removes what it lists no more.
Links to the listed files stay as they are.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa

from transforms.deliver.parquet import parquet_rows
from transforms.deliver.storage import checksum
from warehouse.layout import COMMITS, DEAD, REPORT_MASK_FILE, RUN_FILE, WAREHOUSE, existing_output

_TRIES, _PAUSE = 20, 0.5
"""A publication takes well under a second: looks at one until it is whole."""

_META_FILE = f"{WAREHOUSE}/_meta.json"


class _Commit(msgspec.Struct, frozen=True):
    path: str
    checksum: str


@contextmanager
def published(output: str | os.PathLike[str]) -> Iterator[Path]:
    """A directory of links to what the writers of an output directory have published; removed in the end.

    Files that are missing, or damaged, are so there as well.

    Raises:
      warehouse.layout.WarehouseError: `output` is not an output directory.
      OSError: it is one in which you may not write.
    """
    directory = existing_output(output)
    within = directory / ".run"
    within.mkdir(exist_ok=True)
    for attempt in range(_TRIES):
        with tempfile.TemporaryDirectory(prefix="published-", dir=within) as scratch:
            target = Path(scratch)
            if _link_all(directory, target) or attempt == _TRIES - 1:
                yield target
                return
        time.sleep(_PAUSE)


def _link_all(directory: Path, target: Path) -> bool:
    """Links everything; returns whether no publication came in between."""
    (target / WAREHOUSE / COMMITS).mkdir(parents=True)
    before = _commits(directory)
    whole = True
    for name, content in before.items():
        (target / WAREHOUSE / COMMITS / name).write_bytes(content)
        try:
            commit = msgspec.json.decode(content, type=_Commit)
        except msgspec.DecodeError:
            continue  # the audit tells which file it is, and why
        whole = _link(directory, target, commit.path) and whole
        if (target / commit.path).is_file():
            data = (target / commit.path).read_bytes()
            whole = checksum(data) == commit.checksum and _link_listed(directory, target, data) and whole
    for name in (RUN_FILE, REPORT_MASK_FILE, _META_FILE):
        _link(directory, target, name)
    if (directory / WAREHOUSE / DEAD).is_dir():
        (target / WAREHOUSE / DEAD).symlink_to(directory / WAREHOUSE / DEAD, target_is_directory=True)
    return whole and _commits(directory) == before


def _link_listed(directory: Path, target: Path, listing: bytes) -> bool:
    """Links the files that a part of ``ledger_files`` lists; returns whether the ledger's are those that it means."""
    try:
        rows = parquet_rows(listing, ["table_or_stream", "path", "checksum"])
    except pa.ArrowInvalid:
        return True  # damaged: the audit says so
    whole = True
    for table, path, wanted in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        if os.path.isabs(path) or "://" in path:
            continue
        whole = _link(directory, target, path) and whole
        if table in ("ledger", "inputs") and (target / path).is_file():
            whole = checksum((target / path).read_bytes()) == wanted and whole
    return whole


def _commits(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((directory / WAREHOUSE / COMMITS).glob("*.json"))}


def _link(directory: Path, target: Path, path: str) -> bool:
    """Links a file; returns whether it was there."""
    link = target / path
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(directory / path, link)
    except FileNotFoundError:
        return False
    except FileExistsError:
        return True  # two writers list it: the audit says so
    except OSError:
        return _copy(directory / path, link)
    return True


def _copy(source: Path, target: Path) -> bool:
    """Copies a file of a file system that has no links; returns whether it was there."""
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        return False
    return True
