from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import pytest

from agents import Agents
from aggregate import WORST
from conftest import CODECS, needs
from tensorwire import TensorwireError

try:
    from nvflare.apis.dxo import DXO, DataKind, from_shareable
    from nvflare.apis.filter import FilterChainType, FilterContextKey
    from nvflare.apis.fl_constant import ReservedKey
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_copy
    from nvflare.app_common.abstract.model import make_model_learnable
    from nvflare.app_common.app_constant import AppConstants
    from nvflare.fuel.utils import fobs

    from tensorwire.nvflare import FetchWeights, PublishWeights
except ImportError:
    pytestmark = pytest.mark.usefixtures("_without_nvflare")


@pytest.fixture
def _without_nvflare() -> None:
    needs("nvflare")


def context(site: str) -> FLContext:
    fl_ctx = FLContext()
    fl_ctx.put(key=ReservedKey.IDENTITY_NAME, value=site, private=False, sticky=False)
    fl_ctx.put(key=ReservedKey.RUN_NUM, value="job", private=False, sticky=False)
    return fl_ctx


def in_chain(filter: Any, chain: str) -> Any:
    filter.set_prop(FilterContextKey.CHAIN_TYPE, chain)
    return filter


def message(data: Any, kind: Any, task: str | None = "task-1") -> Shareable:
    shareable = DXO(kind, data=data, meta={"NUM_STEPS_CURRENT_ROUND": 3}).to_shareable()
    if task:
        shareable.set_header(ReservedHeaderKey.MSG_ROOT_ID, task)
    return shareable


def weights() -> dict[str, Any]:
    random = np.random.default_rng(5)
    weight = random.standard_normal((256, 256)).astype(np.float32)
    return {
        "weight": weight,
        "steps": np.arange(9),
        "tied": weight,
        "mask": np.arange(4) > 1,
        "temperature": 0.7,
        "half": weight.astype("f2"),
    }


def on_the_wire(shareable: Shareable) -> Shareable:
    sent = fobs.dumps(shareable)
    assert len(sent) < 4096, "the weights are still in the message"
    received: Shareable = fobs.loads(sent)
    return received


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("chain", ["task_data", "task_result"])
@pytest.mark.parametrize("kind", ["WEIGHTS", "WEIGHT_DIFF"])
def test_weights_leave_the_message_and_come_back(lasting_agents: Agents, codec: str, chain: str, kind: str) -> None:
    sender, receiver = ("server", "site-1") if chain == "task_data" else ("site-1", "server")
    publish = in_chain(PublishWeights(lasting_agents.address(), codec=codec), chain)
    fetch = in_chain(FetchWeights(lasting_agents.address()), chain)
    sent = weights()
    task = message(dict(sent), DataKind(kind))
    out = publish.process(make_copy(task), context(sender))
    found = from_shareable(fetch.process(on_the_wire(out), context(receiver)))
    assert found.data_kind == kind and found.meta["NUM_STEPS_CURRENT_ROUND"] == 3
    assert list(found.data) == list(sent)
    assert found.data["tied"] is found.data["weight"] and found.data["temperature"] == 0.7
    for name in ("steps", "mask"):
        assert np.array_equal(found.data[name], sent[name]) and found.data[name].dtype == sent[name].dtype
    for name in ("weight", "half"):
        assert found.data[name].dtype == sent[name].dtype
        error = np.abs(found.data[name].astype("f8") - sent[name].astype("f8")).max()
        assert error <= (WORST[codec] + (0.001 if name == "half" and codec != "none" else 0)) * np.abs(sent["weight"]).max()
    # A result has one reader; a task stays until the framework drops it.
    assert len(lasting_agents.status("server")["models"]) == (1 if chain == "task_data" else 0)


def test_torch_tensors_come_back_as_torch_tensors(lasting_agents: Agents) -> None:
    try:
        import torch
    except ImportError:
        needs("torch")
    weight = torch.randn(64, 64).to(torch.bfloat16)
    publish = in_chain(PublishWeights(lasting_agents.address(), codec="none"), FilterChainType.TASK_RESULT_CHAIN)
    fetch = in_chain(FetchWeights(lasting_agents.address()), FilterChainType.TASK_RESULT_CHAIN)
    sent = {"weight": weight, "head": weight, "steps": torch.tensor(3)}
    out = publish.process(message(sent, DataKind.WEIGHTS), context("site-1"))
    found = from_shareable(fetch.process(on_the_wire(out), context("server"))).data
    assert torch.equal(found["weight"], weight) and found["head"] is found["weight"] and int(found["steps"]) == 3


def test_a_task_for_many_clients_is_published_once_and_freed_when_it_is_dropped(lasting_agents: Agents) -> None:
    publish = in_chain(PublishWeights(lasting_agents.address(), codec="none"), FilterChainType.TASK_DATA_CHAIN)
    for task in ("task-1", "task-2"):
        sent = weights()
        broadcast = message(copy.deepcopy(sent), DataKind.WEIGHTS, task)
        out = [publish.process(make_copy(broadcast), context("server")) for _ in range(3)]
        references = [from_shareable(each).data["tensorwire.ref"] for each in out]
        assert references[0] == references[1] == references[2]
        assert len(lasting_agents.status("server")["models"]) == 1
        # What the framework holds of the task is worth the same, and no memory of its own.
        held = from_shareable(broadcast).data
        assert all(np.array_equal(held[name], value) for name, value in sent.items()) and held["tied"] is held["weight"]
        del broadcast, out, held
        until = time.monotonic() + 10
        while lasting_agents.status("server")["models"] and time.monotonic() < until:
            time.sleep(0.05)
        assert lasting_agents.status("server")["models"] == []


def test_a_result_that_has_no_task_is_published_each_time(agents: Agents) -> None:
    publish = in_chain(PublishWeights(agents.address(), codec="none"), FilterChainType.TASK_DATA_CHAIN)
    data = weights()
    first, second = (
        from_shareable(publish.process(message(data, DataKind.WEIGHTS, None), context("server"))).data["tensorwire.ref"] for _ in range(2)
    )
    assert first["transfer"] != second["transfer"]


def test_what_is_no_reference_and_no_weight_passes(agents: Agents) -> None:
    publish, fetch = PublishWeights(agents.address()), FetchWeights(agents.address())
    for kind, data in ((DataKind.WEIGHTS, weights()), (DataKind.METRICS, {"loss": 1.0}), (DataKind.WEIGHTS, {"only": "text"})):
        before = message(data, kind)
        assert from_shareable(fetch.process(before, context("site-1"))).data is data
        if kind == DataKind.METRICS or "only" in data:
            assert from_shareable(publish.process(before, context("server"))).data is data


def test_a_reference_of_another_version_is_an_error_that_says_so(agents: Agents) -> None:
    out = PublishWeights(agents.address(), codec="none").process(message(weights(), DataKind.WEIGHTS), context("server"))
    from_shareable(out).data["tensorwire.ref"]["tensorwire"] = 2
    with pytest.raises(TensorwireError, match="same release") as raised:
        FetchWeights(agents.address()).process(out, context("site-1"))
    assert raised.value.code == "VERSION_UNSUPPORTED"


def test_the_global_model_gives_way_to_the_file_that_is_published(agents: Agents) -> None:
    publish = in_chain(PublishWeights(agents.address(), codec="normfloat4"), "task_data")
    held = weights()
    expected = copy.deepcopy(held)
    server = context("server")
    server.set_prop(AppConstants.GLOBAL_MODEL, make_model_learnable(held, {}), private=True, sticky=True)
    task = message(copy.deepcopy(held), DataKind.WEIGHTS)
    held["half"] = held["half"] + 1  # It has been trained on meanwhile.
    before = dict(held)
    publish.process(make_copy(task), server)
    assert list(held) == list(expected)
    assert {name for name in held if held[name] is before[name]} == {"half", "temperature"}
    assert all(np.array_equal(held[name], expected[name]) for name in expected if name != "half")
    # Neither is the task's: each may be written to.
    held["weight"][:] = 1
    assert np.array_equal(from_shareable(task).data["weight"], expected["weight"])
