"""Torch tensors in NVFlare's simulator, exchanged as torch tensors: bfloat16, float16, and tied ones."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest

from agents import Agents
from conftest import needs
from test_nvflare_simulator import HERE, Run

pytestmark = pytest.mark.federation

TORCH = {
    "custom": [os.path.join(HERE, name) for name in ("nvflare_torch_app.py", "nvflare_torch_train.py")],
    "script": "nvflare_torch_train.py",
    "persistor": "nvflare_torch_app.TorchModel",
    "params": "pytorch",
    "rounds": 2,
}
DTYPES = "embedding:torch.bfloat16,bias:torch.float32,half:torch.float16,steps:torch.int64,head:torch.bfloat16"


@pytest.fixture(autouse=True)
def _with_torch() -> None:
    for module in ("nvflare", "torch"):
        needs(None if importlib.util.find_spec(module) else module)


def test_torch_tensors_come_to_the_same_aggregate(agents: Agents, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    agents.start("site-2")
    alone = Run(tmp_path / "alone", **TORCH)
    beside = Run(tmp_path / "beside", agents=agents.address, **TORCH)
    print(re.findall("given .*", alone.said), re.findall("given .*", beside.said))
    assert (alone.rounds, beside.rounds) == (2, 2), beside.said
    expected, found = load_file(alone.aggregate), load_file(beside.aggregate)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].equal(value), name
    # Each client is given what it would be given, and tied tensors as one.
    given = re.findall(r"given (\S+) tied=(\w+)", beside.said)
    assert given[:2] == [(DTYPES, "True")] * 2, given
    assert [dtypes for dtypes, _ in given] == [dtypes for dtypes, _ in re.findall(r"given (\S+) tied=(\w+)", alone.said)]
