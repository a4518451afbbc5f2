"""NVFlare: weights leave a message for a reference, and come back where it arrives.

``PublishWeights`` filters what goes out, ``FetchWeights`` what comes in, for task data and task results alike. A job turns
them on in its configuration (docs/guides/nvflare.md), and no line of the training script changes.
"""

from __future__ import annotations

import re
import time
from typing import Any

from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.dxo_filter import DXOFilter
from nvflare.apis.filter import FilterChainType, FilterContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from nvflare.app_common.abstract.model import ModelLearnableKey
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType

from .agent import Agent
from .allocator import give_back_freed
from .dtype import dtype_of
from .errands import run_errand
from .giving_way import give_way
from .model_file import MappedModel
from .patience import PATIENCE
from .publications import Publications
from .ref import Ref

#: In the place of the weights of a DXO: the reference, what stayed in the message, and the order of all keys.
_REF = "tensorwire.ref"
_REST = "tensorwire.rest"
_ORDER = "tensorwire.order"

_KINDS: list[str] = [DataKind.WEIGHTS, DataKind.WEIGHT_DIFF]


class _AgentFilter(DXOFilter):
    def __init__(self, agent: str | None, patience: float, data_kinds: list[str] | None) -> None:
        super().__init__(supported_data_kinds=_KINDS, data_kinds_to_filter=data_kinds or _KINDS)
        self._address = agent
        self._patience = patience
        self._agents: dict[str | None, Agent] = {}

    def _agent(self, fl_ctx: FLContext) -> Agent:
        address = self._address
        if address is not None:
            address = address.replace("{site}", fl_ctx.get_identity_name() or "")
        if address not in self._agents:
            self._agents[address] = Agent(address, patience=self._patience)
        return self._agents[address]

    def _is_result(self) -> bool:
        return bool(self.get_prop(FilterContextKey.CHAIN_TYPE) == FilterChainType.TASK_RESULT_CHAIN)


class PublishWeights(_AgentFilter):
    """Publishes the weights of what goes out, and leaves a reference in their place."""

    def __init__(
        self,
        agent: str | None = None,
        codec: Any = None,
        policy: Any = None,
        expires_seconds: float | None = None,
        patience: float = PATIENCE,
        data_kinds: list[str] | None = None,
    ) -> None:
        """
        Args:
            agent: where the agent of this site is: ``unix:/path/agent.sock`` or ``http://127.0.0.1:PORT``; ``{site}`` in it is
                the site's name. Default: the environment (``TENSORWIRE_AGENT``).
            codec: ``none``, ``float16``, ``blockwise8``, ``float4``, ``normfloat4``, ``adaquant`` and others. Default: the agent's.
            policy: which codec each tensor gets, instead.
            expires_seconds: how long a model stays that nobody frees. Default: the agent's.
            patience: seconds for which an agent that is gone is waited for.
            data_kinds: of WEIGHTS and WEIGHT_DIFF, those to filter. Default: both.
        """
        super().__init__(agent, patience, data_kinds)
        self._codec = codec
        self._policy = policy
        self._expires_seconds = expires_seconds
        self._publications = Publications()

    def process_dxo(self, dxo: DXO, shareable: Shareable, fl_ctx: FLContext) -> DXO | None:
        if _REF in dxo.data:
            return None
        tensors = {name: value for name, value in dxo.data.items() if _is_weight(name, value)}
        if not tensors:
            return None
        agent = self._agent(fl_ctx)
        name = _model_name(fl_ctx, shareable)

        def publish() -> Ref:
            begun = time.monotonic()
            written = None if self._is_result() else lambda file: _exchange(dxo.data, _global_weights(fl_ctx), file)
            ref = agent.publish(
                tensors,
                name,
                codec=self._codec,
                policy=self._policy,
                expires_seconds=self._expires_seconds,
                written=written,
            )
            self.log_info(
                fl_ctx, f"published {ref.name}: {ref.bytes / 2**20:.2f} MiB, {time.monotonic() - begun:.2f} s, {ref.digest}"
            )
            return ref

        # A task goes to many clients with the same weights, which are published once. A result goes to one.
        task = None if self._is_result() else shareable.get_header(ReservedHeaderKey.MSG_ROOT_ID)
        ref = publish() if task is None else self._publications.of(task, dxo.data, list(tensors), agent, publish)
        assert ref is not None
        data: dict[str, Any] = {_REF: ref.to_json()}
        if len(tensors) < len(dxo.data):
            data[_REST] = {key: value for key, value in dxo.data.items() if key not in tensors}
            data[_ORDER] = list(dxo.data)
        return DXO(data_kind=dxo.data_kind, data=data, meta=_meta(dxo))


class FetchWeights(_AgentFilter):
    """Fetches the weights of what comes in as a reference; anything else passes as it is."""

    def __init__(self, agent: str | None = None, patience: float = PATIENCE, data_kinds: list[str] | None = None) -> None:
        """
        Args:
            agent, patience, data_kinds: as of ``PublishWeights``.
        """
        super().__init__(agent, patience, data_kinds)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        # Each result is added up in a thread of its own, which would keep what the sum before it took.
        if event_type in (AppEventType.AFTER_CONTRIBUTION_ACCEPT, AppEventType.AFTER_AGGREGATION):
            give_back_freed()

    def process_dxo(self, dxo: DXO, shareable: Shareable, fl_ctx: FLContext) -> DXO | None:
        if _REF not in dxo.data:
            return None
        ref = Ref.from_json(dxo.data[_REF])
        agent = self._agent(fl_ctx)
        begun = time.monotonic()
        data = agent.fetch(ref)
        if _ORDER in dxo.data:
            found = {**data, **dxo.data[_REST]}
            data = {key: found[key] for key in dxo.data[_ORDER]}
        if self._is_result():
            run_errand(lambda: agent.free(ref))  # A result has one reader.
        give_back_freed()
        self.log_info(fl_ctx, f"fetched {ref.name}: {ref.bytes / 2**20:.2f} MiB, {time.monotonic() - begun:.2f} s, {ref.digest}")
        return DXO(data_kind=dxo.data_kind, data=data, meta=_meta(dxo))


def _is_weight(name: Any, value: Any) -> bool:
    return isinstance(name, str) and name not in ("", "__metadata__") and dtype_of(value) is not None


def _exchange(data: dict[str, Any], held: dict[str, Any], file: MappedModel) -> None:
    """The task's copy of the weights, and the global model that it is a copy of, give way to the file: their memory is free then."""
    data.update(file.tensors())
    if held is not data:
        give_way(held, file)
    give_back_freed()


def _global_weights(fl_ctx: FLContext) -> dict[str, Any]:
    """What the workflow holds as the global model: it may be another one than that of the task."""
    model = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
    weights = model.get(ModelLearnableKey.WEIGHTS) if isinstance(model, dict) else None
    return weights if isinstance(weights, dict) else {}


def _meta(dxo: DXO) -> dict[str, Any]:
    # DXOFilter hands on the history itself, and one task's meta is shared by what goes to all clients.
    return {key: value for key, value in (dxo.meta or {}).items() if key != MetaKey.FILTER_HISTORY}


def _model_name(fl_ctx: FLContext, shareable: Shareable) -> str:
    round_number = shareable.get_header(AppConstants.CURRENT_ROUND)
    parts = [fl_ctx.get_job_id(), fl_ctx.get_identity_name(), "model" if round_number is None else f"round-{round_number}"]
    return "/".join(["nvflare", *(re.sub(r"[^A-Za-z0-9_-]", "-", str(part or "unknown"))[:64] for part in parts)])
