"""safetensors' dtypes, and what they are in numpy and in torch."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from typing import Any

import numpy as np

from .errors import TensorwireError

#: Bytes of an element.
DTYPE_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "C64": 8,
    "F64": 8,
    "I64": 8,
    "U64": 8,
}

_NUMPY = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
#: numpy has these only where ml_dtypes is installed.
_ML_DTYPES = {"BF16": "bfloat16", "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn"}
_TORCH = {**_NUMPY, "BF16": "bfloat16", "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn"}

_FROM_NUMPY = {name: dtype for dtype, name in {**_NUMPY, **_ML_DTYPES}.items()}
_FROM_TORCH = {name: dtype for dtype, name in _TORCH.items()}


def torch_module() -> Any | None:
    """torch, if this program has loaded it: nobody hands over a tensor without, and loading it takes seconds."""
    return sys.modules.get("torch")


def is_tensor(value: Any) -> bool:
    torch = torch_module()
    return torch is not None and isinstance(value, torch.Tensor)


def dtype_of(value: Any) -> str | None:
    """The dtype of an array or tensor, or None where safetensors has no such."""
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray):
            return None  # Its mask would be lost.
        return _FROM_NUMPY.get(value.dtype.name)
    # One on the meta device has no values.
    if is_tensor(value) and value.layout == torch_module().strided and value.device.type != "meta":  # type: ignore[union-attr]
        return _FROM_TORCH.get(str(value.dtype).removeprefix("torch."))
    return None


@cache
def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """Raises ``INVALID_ARGUMENT`` where numpy has no such dtype here."""
    found: np.dtype[Any]
    if dtype in _NUMPY:
        found = np.dtype(_NUMPY[dtype]).newbyteorder("<")
        return found
    name = _ML_DTYPES.get(dtype)
    if name is None:
        raise TensorwireError("INVALID_ARGUMENT", f"tensors of {dtype} are nothing that numpy can hold")
    if importlib.util.find_spec("ml_dtypes") is None:
        raise TensorwireError(
            "INVALID_ARGUMENT",
            f"numpy has no {dtype}: install ml_dtypes, or ask for torch tensors (format='torch')",
        )
    found = np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
    return found


def check_torch() -> None:
    """Raises ``INVALID_ARGUMENT`` where torch is not installed."""
    if torch_module() is None and importlib.util.find_spec("torch") is None:
        raise TensorwireError(
            "INVALID_ARGUMENT",
            "torch is not installed: install it, or ask for format='numpy', also where a model was published as torch tensors",
        )


def torch_dtype(dtype: str) -> Any:
    """Raises ``INVALID_ARGUMENT`` where torch is not installed, or has no such dtype."""
    check_torch()
    found = getattr(importlib.import_module("torch"), _TORCH.get(dtype, ""), None)
    if found is None:
        raise TensorwireError("INVALID_ARGUMENT", f"this release of torch has no {dtype}")
    return found
