from __future__ import annotations

import gc
import importlib
import importlib.util
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import needs
from tensorwire.giving_way import give_way
from tensorwire.model_file import MappedModel, OutgoingModel


def held() -> dict[str, Any]:
    weight = np.random.default_rng(1).standard_normal((1500, 1000)).astype(np.float32)
    return {"weight": weight, "tied": weight, "steps": np.arange(5), "empty": np.empty((0, 3), np.float16), "name": "a model"}


def file_of(folder: Path, tensors: dict[str, Any]) -> MappedModel:
    path = str(folder / "model.safetensors")
    OutgoingModel({name: value for name, value in tensors.items() if not isinstance(value, str)}).write(path)
    return MappedModel(path)


def test_what_is_in_the_file_gives_way_to_it_and_is_free_then(tmp_path: Path) -> None:
    mine = held()
    expected = {name: value if isinstance(value, str) else value.copy() for name, value in mine.items()}
    file = file_of(tmp_path, mine)
    before = weakref.ref(mine["weight"])
    give_way(mine, file)
    gc.collect()
    assert before() is None
    assert list(mine) == list(expected) and mine["tied"] is mine["weight"]
    for name, value in expected.items():
        assert np.array_equal(mine[name], value)
        if name != "name":
            assert (mine[name].dtype, mine[name].shape) == (value.dtype, value.shape)


def test_what_is_written_to_one_mapping_is_not_seen_in_another(tmp_path: Path) -> None:
    mine = held()
    file = file_of(tmp_path, mine)
    first = mine["weight"][0, 0]
    give_way(mine, file)
    mine["weight"][:] = 9
    assert file.tensors()["weight"][0, 0] == first and MappedModel(str(tmp_path / "model.safetensors")).tensors()["weight"][0, 0] == first


def changed(mine: dict[str, Any]) -> dict[str, Any]:
    weight = mine["weight"].copy()
    weight.view(np.uint32)[-1, -1] ^= 1  # The last bit of the last element.
    return {**mine, "weight": weight}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(changed, id="a value that changed"),
        pytest.param(lambda mine: {**mine, "weight": mine["weight"].view(np.int32)}, id="another dtype"),
        pytest.param(lambda mine: {**mine, "weight": mine["weight"].reshape(1000, 1500)}, id="another shape"),
        pytest.param(lambda mine: {**mine, "weight": np.asfortranarray(mine["weight"])}, id="another layout"),
        pytest.param(lambda mine: {name: mine[name] for name in ("steps", "name")}, id="no such tensor"),
    ],
)
def test_what_is_not_the_same_stays(tmp_path: Path, other: Any) -> None:
    mine = held()
    file = file_of(tmp_path, mine)
    mine = other(mine)
    weight = mine.get("weight")
    give_way(mine, file)
    assert mine.get("weight") is weight
    assert np.array_equal(mine["steps"], np.arange(5)) and set(mine) <= set(held())


def test_a_torch_tensor_gives_way_unless_it_is_part_of_a_graph(tmp_path: Path) -> None:
    needs(None if importlib.util.find_spec("torch") else "torch")
    torch = importlib.import_module("torch")
    mine = {"plain": torch.arange(6, dtype=torch.bfloat16), "trained": torch.ones(3, requires_grad=True)}
    plain, trained = mine["plain"], mine["trained"]
    give_way(mine, file_of(tmp_path, mine))
    assert mine["plain"] is not plain and torch.equal(mine["plain"], plain) and mine["trained"] is trained
