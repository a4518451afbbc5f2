"""Models between Python programs, by reference: an agent beside each of them does the moving.

    ref = tensorwire.publish({"weight": array})     # beside one agent
    tensors = tensorwire.fetch(ref)                 # beside another: mapped, nothing is read yet

See docs/agent.md for the agent, docs/guides/nvflare.md and docs/guides/flower.md for the frameworks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .agent import Agent
from .chunks import Chunk
from .errors import TensorwireError
from .model_file import PORTION_BYTES
from .ref import REF_VERSION, Ref

__all__ = ["REF_VERSION", "Agent", "Chunk", "Ref", "TensorwireError", "chunks", "fetch", "publish"]


def publish(tensors: Mapping[str, Any], name: str | None = None, *, agent: Agent | None = None, **options: Any) -> Ref:
    """``Agent.publish``, at the agent that the environment names."""
    return (agent or Agent()).publish(tensors, name, **options)


def fetch(ref: Ref, *, agent: Agent | None = None, **options: Any) -> dict[str, Any]:
    """``Agent.fetch``, at the agent that the environment names."""
    return (agent or Agent()).fetch(ref, **options)


def chunks(ref: Ref, chunk_bytes: int = PORTION_BYTES, *, agent: Agent | None = None, **options: Any) -> Iterator[Chunk]:
    """``Agent.chunks``, at the agent that the environment names."""
    return (agent or Agent()).chunks(ref, chunk_bytes, **options)
