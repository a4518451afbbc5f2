"""The C library's allocator, which keeps what was freed in case it is asked for again."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def _trim() -> Any | None:
    """glibc's ``malloc_trim``; others have none, and no need of it."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim


def give_back_freed() -> None:
    """Gives the pages of freed tensors back to the system.

    glibc keeps those of up to 32 MiB in an arena of the thread that made them, where other threads do not find them: a
    server that takes each result in another thread would hold a model for each.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
