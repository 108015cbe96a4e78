"""Memory that allocators keep once it was used: handed back to the system where a step ends."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pyarrow as pa


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None with another C library."""
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # of Windows, which has no library without a name, the last
        return None
    return function


_TRIM = _of_glibc("malloc_trim")

_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""Parameters of glibc's ``mallopt``, as in ``malloc.h``."""
_LARGE = 256 << 10
"""Bytes of a piece of memory that comes from the system by itself, and goes back to it as soon as it is freed."""


def keep_little() -> None:
    """Has glibc keep less of what is freed: one arena for all threads instead of one each, in which what lives long
    holds on to the pages around it, and large pieces outside of it. For the start of a process that has threads.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """Hands back what nobody uses: Arrow's memory, and with glibc that of C and of Python's larger objects. Takes up to
    some milliseconds: for the end of a pane or a publication, not of a record.
    """
    pa.default_memory_pool().release_unused()
    if _TRIM is not None:
        _TRIM(0)
