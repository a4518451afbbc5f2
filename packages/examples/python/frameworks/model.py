"""The model of the measured federations: drawn from a seed, and trained by adding a small known number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Layers beside the one large tensor, which is a quarter of the model.
_LAYERS = 12


@dataclass(frozen=True)
class Model:
    mib: int
    seed: int = 7
    #: Besides floats: a counter, a mask, and a head that is the embedding.
    mixed: bool = True


def draw(model: Model) -> dict[str, Any]:
    random = np.random.default_rng(model.seed)
    columns = 1024
    rows = model.mib * 2**20 // 4 // columns

    def weights(count: int) -> Any:
        drawn = random.random((count, columns), dtype=np.float32)
        drawn -= np.float32(0.5)
        drawn *= np.float32(0.04)
        return drawn

    tensors: dict[str, Any] = {"embedding": weights(rows // 4)}
    for layer in range(_LAYERS):
        tensors[f"layers.{layer}.weight"] = weights((rows - rows // 4) // _LAYERS)
    if model.mixed:
        tensors["steps"] = np.arange(5, dtype=np.int64)
        tensors["mask"] = np.arange(9) % 2 == 0
        tensors["head"] = tensors["embedding"]
    return tensors


def step(tensors: Mapping[str, Any], site: int) -> dict[str, Any]:
    """What a round of training makes of the model at a site: tied tensors stay tied."""
    amount = np.float32(2**-8 * (site + 1))
    trained: dict[int, Any] = {}
    for value in tensors.values():
        if id(value) not in trained:
            trained[id(value)] = value + amount if value.dtype == np.float32 else value
    return {name: trained[id(value)] for name, value in tensors.items()}
