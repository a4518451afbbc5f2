"""How far an aggregate is from another, beside what its codec is documented to cost."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import load_file

#: The worst error of one exchange, in parts of the largest magnitude (docs/codecs.md), of float16 and bfloat16 of the
#: value; ``adaquant``'s is that of a range of 0.04.
WORST = {
    "none": 0.0,
    "lossless": 0.0,
    "float16": 0.000489,
    "bfloat16": 0.00391,
    "linear8": 0.00394,
    "blockwise8": 0.00704,
    "linear4": 0.0715,
    "adaquant": 0.0752,
    "normfloat4": 0.152,
    "float4": 0.167,
}


def worst_difference(expected: str, found: str) -> float:
    """Of all floats of two files, in parts of the largest magnitude. Whatever else they hold is the same, or it is infinite."""
    wanted, there = load_file(expected), load_file(found)
    if list(wanted) != list(there):
        return float("inf")
    worst = largest = 0.0
    for name, value in wanted.items():
        other = there[name]
        if (value.dtype, value.shape) != (other.dtype, other.shape):
            return float("inf")
        if value.dtype.kind == "f":
            worst = max(worst, float(np.abs(value - other).max(initial=0)))
            largest = max(largest, float(np.abs(value).max(initial=0)))
        elif not np.array_equal(value, other):
            return float("inf")
    return worst / largest if largest else worst


def allowed(codec: str, rounds: int) -> float | None:
    """Each round has an exchange each way, whose errors add up, and none is worse than documented; a tenth is for what they add to weights."""
    worst = WORST.get(codec)
    return None if worst is None else 1.1 * 2 * rounds * worst
