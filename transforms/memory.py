"""Memory that allocators keep once it was used: handed back to the system where a step ends."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pyarrow as pa


def _malloc_trim() -> Callable[[int], int] | None:
    """What gives back the pages of freed memory: of glibc only."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows, which has none of this name
        return None


_TRIM = _malloc_trim()


def give_back() -> None:
    """Hands back what nobody uses: Arrow's memory, and with glibc that of C and of Python's larger objects. Takes up to
    some milliseconds: for the end of a pane or a publication, not of a record.
    """
    pa.default_memory_pool().release_unused()
    if _TRIM is not None:
        _TRIM(0)
