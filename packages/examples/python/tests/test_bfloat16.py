from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import needs
from tensorwire import TensorwireError
from tensorwire.model_file import MappedModel, OutgoingModel


def loaded(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        needs(name)


def test_torch_tensors_come_back_as_torch_tensors(tmp_path: Path) -> None:
    torch = loaded("torch")
    weight = torch.randn(8, 4, dtype=torch.bfloat16)
    module = torch.nn.Linear(3, 2)
    tensors = {
        "weight": weight,
        "tied": weight,
        "transposed": weight.t(),
        "parameter": module.weight,
        "mask": torch.tensor([True, False]),
        "count": torch.tensor(7),
        "nothing": torch.empty(0, 3),
        "array": np.arange(3),
    }
    path = str(tmp_path / "model.safetensors")
    OutgoingModel(tensors).write(path)
    found = MappedModel(path).tensors()
    assert list(found) == list(tensors)
    for name, value in tensors.items():
        assert type(found[name]) is (np.ndarray if name == "array" else torch.Tensor)
        assert (found[name].dtype, tuple(found[name].shape)) == (value.dtype, tuple(value.shape))
        assert bool((found[name] == value).all())
    assert found["tied"] is found["weight"]
    assert MappedModel(path).tensors("numpy")["mask"].tolist() == [True, False] if _has_ml_dtypes() else True


def test_bfloat16_is_numpys_with_ml_dtypes(tmp_path: Path) -> None:
    ml_dtypes = loaded("ml_dtypes")
    path = str(tmp_path / "model.safetensors")
    OutgoingModel({"w": np.array([1, 2.5], dtype=ml_dtypes.bfloat16)}).write(path)
    found = MappedModel(path).tensors()["w"]
    assert found.dtype == ml_dtypes.bfloat16 and found.tolist() == [1, 2.5]


def test_bfloat16_without_either_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorwire import dtype

    monkeypatch.setattr(dtype.importlib.util, "find_spec", lambda name: None)
    dtype.numpy_dtype.cache_clear()
    for find in (dtype.numpy_dtype, dtype.torch_dtype):
        with pytest.raises(TensorwireError, match="install") as raised:
            find("BF16")
        assert raised.value.code == "INVALID_ARGUMENT"


def _has_ml_dtypes() -> bool:
    try:
        __import__("ml_dtypes")
    except ImportError:
        return False
    return True


def test_views_of_torch_that_are_worked_out_later_are_written_as_they_are_seen(tmp_path: Path) -> None:
    torch = loaded("torch")
    path = str(tmp_path / "m.safetensors")
    seen = {"conjugate": torch.tensor([1 + 2j, 3j], dtype=torch.complex64).conj(), "spread": torch.ones(1).expand(3)}
    OutgoingModel(seen).write(path)
    assert all(torch.equal(seen[name], found) for name, found in MappedModel(path).tensors().items())
    with pytest.raises(TensorwireError, match="INVALID_ARGUMENT"):
        OutgoingModel({"nothing": torch.empty(3, device="meta")})
