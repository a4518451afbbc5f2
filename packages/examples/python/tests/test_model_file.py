from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tensorwire import TensorwireError, model_file
from tensorwire.chunks import chunks_of_file
from tensorwire.layout import LAYOUT_KEY
from tensorwire.model_file import MappedModel, OutgoingModel

DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "float16", "uint32", "int32", "float32", "uint64", "int64", "float64", "complex64"]


def written(folder: Path, tensors: dict[str, object], **metadata: str) -> str:
    path = str(folder / "model.safetensors")
    OutgoingModel(tensors, metadata).write(path)
    return path


def test_every_dtype_and_shape_comes_back(tmp_path: Path) -> None:
    tensors = {
        f"{dtype}.{shape}": np.arange(np.prod(shape)).reshape(shape).astype(dtype) for dtype in DTYPES for shape in [(3, 5), (), (0, 4)]
    }
    path = written(tmp_path, tensors)
    found = MappedModel(path).tensors()
    assert list(found) == list(tensors)
    for name, value in tensors.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert np.array_equal(found[name], value), name
    # Another reader of the format sees the same.
    assert {name: value.tobytes() for name, value in load_file(path).items()} == {name: value.tobytes() for name, value in tensors.items()}


def test_values_that_lie_otherwise_are_the_same_values(tmp_path: Path) -> None:
    wide = np.arange(24, dtype=np.float32).reshape(4, 6)
    tensors = {"columns": np.asfortranarray(wide), "every second": wide[:, ::2], "big-endian": wide.astype(">f4"), "turned": wide[::-1]}
    found = MappedModel(written(tmp_path, tensors)).tensors()
    for name, value in tensors.items():
        assert np.array_equal(found[name], value), name


def test_tied_arrays_are_stored_once_and_tied_again(tmp_path: Path) -> None:
    weight = np.random.default_rng(1).random((64, 64), dtype=np.float32)
    tensors = {"head": weight, "steps": np.arange(3), "embedding": weight, "view": weight[:], "part": weight[:1]}
    path = written(tmp_path, tensors)
    assert os.path.getsize(path) < 2 * weight.nbytes
    found = MappedModel(path).tensors()
    assert list(found) == list(tensors)
    assert found["embedding"] is found["head"] and found["view"] is found["head"]
    assert found["part"] is not found["head"]


def test_writing_takes_no_copy_of_the_model(tmp_path: Path) -> None:
    tensors = {"large": np.ones(8 << 20, dtype=np.float32), "other": np.ones((1024, 1024))}
    tracemalloc.start()
    try:
        written(tmp_path, tensors)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_is_written_to_a_mapped_tensor_stays_in_the_process(tmp_path: Path) -> None:
    path = written(tmp_path, {"w": np.zeros(10, dtype=np.float32)})
    model = MappedModel(path)
    model.tensors()["w"][:] = 1
    assert MappedModel(path).tensors()["w"].sum() == 0
    place = model.places[0]
    fresh = model.fresh(place)
    fresh[:] = 2
    assert model.fresh(place).sum() == 0
    os.unlink(path)
    assert model.fresh(place).sum() == 0


@pytest.mark.parametrize("value", [np.array(["text"]), np.array([1 + 2j]), 3.5, None, np.float32(1), np.array([object()])])
def test_what_no_file_can_hold_is_refused_by_name(value: object) -> None:
    with pytest.raises(TensorwireError, match="'the weight'") as raised:
        OutgoingModel({"the weight": value})
    assert raised.value.code == "INVALID_ARGUMENT"


def test_a_place_that_is_too_small_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TensorwireError) as raised:
        OutgoingModel({"w": np.zeros(4)}).write(str(tmp_path / "model.safetensors"), reserve=1 << 60)
    assert (raised.value.code, raised.value.retryable, os.listdir(tmp_path)) == ("TARGET_FULL", True, [])


def test_a_file_of_another_program_comes_as_numpy(tmp_path: Path) -> None:
    save_file({"a": np.arange(4), "b": np.ones((2, 2))}, tmp_path / "theirs.safetensors", metadata={"format": "np"})
    model = MappedModel(str(tmp_path / "theirs.safetensors"))
    assert model.metadata == {"format": "np"}
    assert {name: value.tolist() for name, value in model.tensors().items()} == {"a": [0, 1, 2, 3], "b": [[1, 1], [1, 1]]}


@pytest.mark.parametrize(
    "layout",
    [
        "no json",
        "[]",
        json.dumps({"format": "pickle"}),
        json.dumps({"format": "numpy", "ties": {"a": "b"}}),
        json.dumps({"format": "numpy", "ties": {"c": "nowhere"}}),
        json.dumps({"format": "numpy", "order": ["a"]}),
        json.dumps({"format": "numpy", "others": ["nowhere"]}),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file({"a": np.arange(4), "b": np.ones(2)}, path, metadata={LAYOUT_KEY: layout})
    with pytest.raises(TensorwireError) as raised:
        MappedModel(str(path))
    assert raised.value.code == "SOURCE_INVALID"


def test_what_is_said_of_a_model_can_be_said_again(tmp_path: Path) -> None:
    model = MappedModel(written(tmp_path, {"w": np.ones(3)}, round="7"))
    assert model.metadata == {"round": "7"}
    (tmp_path / "again").mkdir()
    assert MappedModel(written(tmp_path / "again", model.tensors(), **model.metadata)).metadata == model.metadata


@pytest.mark.parametrize("format", ["jax", "torch"])
def test_a_format_that_nobody_has_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("tensorwire.dtype.torch_module", lambda: None)
    model = MappedModel(written(tmp_path, {"w": np.ones(3)}))
    with pytest.raises(TensorwireError, match="torch is not installed" if format == "torch" else "format='jax'") as raised:
        model.tensors(format)
    assert raised.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("cut", [4, 20, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path, {"w": np.arange(100)})
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:cut])
    for read in (MappedModel, lambda path: list(chunks_of_file(path, 64))):
        with pytest.raises(TensorwireError) as raised:
            read(path)
        assert raised.value.code == "SOURCE_INVALID"


def test_chunks_are_the_model(tmp_path: Path) -> None:
    tensors = {"w": np.arange(1000, dtype=np.float32), "i": np.arange(7), "b": np.array([True]), "none": np.empty((0, 7), np.float16)}
    found: dict[str, list[object]] = {}
    for chunk in chunks_of_file(written(tmp_path, tensors), 100):
        assert len(chunk.data) <= 100
        assert chunk.first == len(found.setdefault(chunk.name, []))
        assert (chunk.shape, len(chunk) == 0) == (tensors[chunk.name].shape, chunk.name == "none")
        found[chunk.name] += chunk.numpy().tolist()
    assert found == {name: value.reshape(-1).tolist() for name, value in tensors.items()}


def test_chunks_of_tied_tensors_come_under_each_name(tmp_path: Path) -> None:
    weight = np.arange(50, dtype=np.float32)
    tensors = {"embedding": weight, "other": np.arange(3), "head": weight, "copy": weight}
    found: dict[str, list[float]] = {name: [] for name in tensors}
    for chunk in chunks_of_file(written(tmp_path, tensors), 100):
        assert chunk.tied_to == ("embedding" if chunk.name in ("head", "copy") else None)
        found[chunk.name] += chunk.numpy().tolist()
        chunk.numpy()[:] = -1  # Of this name alone.
    assert found == {name: value.tolist() for name, value in tensors.items()}


def test_a_tensor_that_does_not_lie_aligned_is_aligned_when_it_is_mapped(tmp_path: Path) -> None:
    header = b'{"x":{"dtype":"F16","shape":[5],"data_offsets":[0,10]},"i":{"dtype":"I32","shape":[4],"data_offsets":[10,26]}}'
    header += b" " * (-len(header) % 8)
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(10) + np.arange(4, dtype=np.int32).tobytes())
    model = MappedModel(str(path))
    for found in (model.tensors()["i"], model.fresh(model.places[1])):
        assert found.flags.aligned and found.flags.writeable and found.tolist() == [0, 1, 2, 3]
    model.tensors()["i"][:] = 7
    assert model.tensors()["i"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("nameless", [True, False])
def test_a_process_that_ends_while_it_writes_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool) -> None:
    if not nameless:
        # As in a container without /proc.
        monkeypatch.setattr(model_file, "_DESCRIPTORS", str(tmp_path / "nowhere"))
    model = OutgoingModel({"w": np.ones(1 << 20)})
    model.write(str(tmp_path / "whole"))
    assert os.path.getsize(tmp_path / "whole") == model.bytes
    os.unlink(tmp_path / "whole")
    portions = model.portions()

    def stopping() -> Iterator[memoryview]:
        yield next(portions)
        # One that has no name is gone however the process ends.
        assert os.listdir(tmp_path) == ([] if nameless else ["model.safetensors"])
        raise KeyboardInterrupt

    model.portions = stopping  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        model.write(str(tmp_path / "model.safetensors"))
    assert os.listdir(tmp_path) == []


def test_what_a_file_would_lose_is_refused() -> None:
    masked = np.ma.masked_array([1.0, 2.0], [True, False])
    for tensors, metadata in (
        ({"m": masked}, None),
        ({"\ud800": np.ones(1)}, None),
        ({"w": np.ones(1)}, {"round": 1}),
        ({"w": np.ones(1)}, {LAYOUT_KEY: "mine"}),
        ({"w": np.ones(1)}, ["round"]),
        ([("w", np.ones(1))], None),
    ):
        with pytest.raises(TensorwireError) as caught:
            OutgoingModel(tensors, metadata)  # type: ignore[arg-type]
        assert caught.value.code == "INVALID_ARGUMENT"
