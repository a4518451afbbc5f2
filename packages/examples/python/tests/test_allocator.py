from __future__ import annotations

import threading
from typing import Any

import numpy as np

from conftest import needs
from tensorwire.allocator import give_back_freed

_MIB = 2**20


def anonymous() -> int:
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return int(next(line for line in status if line.startswith("RssAnon")).split()[1]) * 1024
    except (OSError, StopIteration):
        needs("RssAnon in /proc/self/status")
        raise


def test_what_threads_have_freed_goes_back_to_the_system() -> None:
    kept: list[Any] = []

    def sum_up() -> None:
        tensors = [np.ones(_MIB, np.float32) for _ in range(24)]
        # Something small that stays, as there always is: without it the allocator would give back the rest by itself.
        kept.append([bytearray(50_000) for _ in range(4)])
        del tensors

    # An allocator that once freed tensors of this size looks for room for them in its arenas.
    np.ones(_MIB, np.float32)
    before = anonymous()
    for _ in range(3):
        thread = threading.Thread(target=sum_up)
        thread.start()
        thread.join()
    freed = anonymous() - before
    if freed < 80 * _MIB:
        needs("an allocator that keeps what was freed (glibc's)")
    give_back_freed()
    assert anonymous() - before < 16 * _MIB, f"{freed >> 20} MiB were freed, {(anonymous() - before) >> 20} are still here"
