"""Tensors in a program's own memory that give way to the same ones in a mapped file."""

from __future__ import annotations

from typing import Any

import numpy as np

from .dtype import is_tensor
from .model_file import PORTION_BYTES, MappedModel, bytes_of


def give_way(held: dict[str, Any], file: MappedModel) -> None:
    """Puts the file's tensors in the place of those in ``held`` that are the same to the bit, in a mapping of their own.

    What else refers to the old ones goes on with those. A tensor that has changed since it was written, or that is on
    a device or part of a graph, stays as it is. Threads may change ``held`` meanwhile.
    """
    for name, mapped in file.again().tensors().items():
        mine = held.get(name)
        if mine is not None and _is_replaceable(mine) and _is_same(mine, mapped) and held.get(name) is mine:
            held[name] = mapped


def _is_replaceable(value: Any) -> bool:
    if is_tensor(value):
        return value.device.type == "cpu" and not value.requires_grad and value.is_contiguous()
    return type(value) is np.ndarray and bool(value.flags.c_contiguous)


def _is_same(mine: Any, mapped: Any) -> bool:
    if type(mine) is not type(mapped) or mine.dtype != mapped.dtype or mine.shape != mapped.shape:
        return False
    a, b = bytes_of(mine), bytes_of(mapped)
    return all(
        np.array_equal(np.frombuffer(a[at : at + PORTION_BYTES], np.uint8), np.frombuffer(b[at : at + PORTION_BYTES], np.uint8))
        for at in range(0, len(a), PORTION_BYTES)
    )
