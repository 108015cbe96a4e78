"""Readers of an output directory that may lie in an object store: a local copy, its progress, the report sent back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from pipelines.screen import console_of, print_line
from schemas.file_systems import is_remote
from warehouse.layout import existing_output
from warehouse.remote import list_output, local_copy, write_back
from warehouse.report import write_report

_LARGE = 256 << 20
"""Bytes of a copy that are told where no terminal shows its progress."""


@contextmanager
def opened(output: str, whole: bool = False) -> Iterator[Path]:
    """The output directory, or a copy of it for the time of the context; see `warehouse.remote.local_copy`."""
    console = console_of(stderr=True)
    columns = (TextColumn("copying {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(output, total=None, visible=False)
        told = False

        def show(done: int, size: int) -> None:
            nonlocal told
            bar.update(task, completed=done, total=size, visible=done < size)
            if not console.is_terminal and size >= _LARGE and not told:
                print_line(console, f"copying {size / 1e9:,.1f} GB of {output} to this machine")
                told = True

        with local_copy(output, whole, show) as directory:
            bar.stop()
            yield directory


def checked_output(output: str) -> str:
    """The path of an output directory, absolute where it is local.

    Raises:
      warehouse.layout.WarehouseError: it is no output directory, or cannot be listed.
    """
    if not is_remote(output):
        return str(existing_output(output))
    list_output(output.rstrip("/"))
    return output.rstrip("/")


def renew_report(output: str) -> str:
    """Writes ``DIR/report.html``, local or in an object store, and returns its path.

    Raises:
      warehouse.layout.WarehouseError: it is no output directory, or an object store refused.
    """
    with opened(output) as directory:
        path = write_report(directory)
        return write_back(path, output) if is_remote(output) else str(path)
