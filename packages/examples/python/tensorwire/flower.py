"""Flower: array records leave a message for a reference, and come back where it arrives.

``ReferenceMod`` is for a ClientApp, ``ReferenceGrid`` is put around a ServerApp's grid: each publishes what goes out and
fetches what comes in (docs/guides/flower.md).
"""

from __future__ import annotations

import io
import json
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode, SType
from flwr.serverapp import Grid

from .agent import Agent
from .dtype import dtype_of
from .errands import run_errand
from .errors import TensorwireError
from .model_file import MappedModel, TensorPlace
from .patience import PATIENCE
from .publications import Publications
from .ref import Ref

#: The only key of the ConfigRecord that stands in the place of an ArrayRecord.
_REF = "tensorwire.ref"

#: Keys of a run's configuration, where mod and grid are not told otherwise.
AGENT_KEY = "tensorwire-agent"
CODEC_KEY = "tensorwire-codec"


class MappedArray(Array):
    """An array in a mapped file: ``numpy()`` reads nothing before it is looked at, and is writable, for its caller alone."""

    def __init__(self, model: MappedModel, place: TensorPlace) -> None:
        self.__dict__["_mapped"] = (model, place)
        array = self.numpy()
        self.__dict__.update(dtype=str(array.dtype), shape=tuple(array.shape), stype=SType.NUMPY)

    def numpy(self) -> Any:
        model, place = self.__dict__["_mapped"]
        return model.fresh(place)

    @property
    def data(self) -> bytes:
        """The array as Flower serializes it: made for whoever asks, and not kept."""
        buffer = io.BytesIO()
        np.save(buffer, self.numpy(), allow_pickle=False)
        return buffer.getvalue()

    @data.setter
    def data(self, value: bytes) -> None:
        raise TypeError("a mapped array is not changed: make a new flwr.app.Array of the new values")

    def __reduce__(self) -> Any:
        return (Array, (self.dtype, self.shape, self.stype, self.data))


# Flower names the class in what it sends: at the other end this is an Array like others.
MappedArray.__qualname__ = Array.__qualname__


class _References:
    """Publishes the array records of a message's content, and fetches those that are references."""

    def __init__(
        self, agent: str | None, codec: Any, policy: Any, expires_seconds: float | None, patience: float
    ) -> None:
        self._address, self._patience = agent, patience
        self._codec, self._policy, self._expires_seconds = codec, policy, expires_seconds
        self._agents: dict[str | None, Agent] = {}

    def agent(self, configured: Any, partition: Any) -> Agent:
        address = self._address or (configured if isinstance(configured, str) else None)
        if address is not None:
            address = address.replace("{partition}", "" if partition is None else str(partition))
        if address not in self._agents:
            self._agents[address] = Agent(address, patience=self._patience)
        return self._agents[address]

    def publish(
        self, agent: Agent, record: ArrayRecord, codec: Any, written: Callable[[MappedModel], None] | None
    ) -> Ref | None:
        """None where a record holds nothing, or something that is no tensor: it stays in the message."""
        if not record:
            return None
        tensors = {name: _array_of(array) for name, array in record.items()}
        if any(value is None for value in tensors.values()):
            return None
        return agent.publish(
            tensors,
            codec=codec if self._codec is None else self._codec,
            policy=self._policy,
            expires_seconds=self._expires_seconds,
            written=written,
        )

    def fetched(self, agent: Agent, content: RecordDict, free: bool) -> RecordDict:
        found = RecordDict()
        for key, record in content.items():
            ref = _reference(record)
            found[key] = record if ref is None else _mapped(agent.fetch_model(ref))
            if ref is not None and free:
                run_errand(partial(agent.free, ref))
        return found


class ReferenceMod(_References):
    """A client mod: ``ClientApp(mods=[ReferenceMod()])``.

    ``agent`` is where the agent beside this SuperNode is, with ``{partition}`` for its ``partition-id``; default: the run's
    ``tensorwire-agent``, or the environment (``TENSORWIRE_AGENT``). ``codec`` defaults to the run's ``tensorwire-codec``, or
    to the agent's.
    """

    def __init__(
        self,
        agent: str | None = None,
        *,
        codec: Any = None,
        policy: Any = None,
        expires_seconds: float | None = None,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(agent, codec, policy, expires_seconds, patience)

    def __call__(
        self, message: Message, context: Context, call_next: Callable[[Message, Context], Message]
    ) -> Message:
        agent = self.agent(context.run_config.get(AGENT_KEY), context.node_config.get("partition-id"))
        message.content = self.fetched(agent, message.content, free=False)
        reply = call_next(message, context)
        if reply.has_content():
            content = RecordDict()
            for key, record in reply.content.items():
                ref = None
                if isinstance(record, ArrayRecord):
                    ref = self.publish(agent, record, context.run_config.get(CODEC_KEY), None)
                content[key] = record if ref is None else _stand_in(ref)
            reply.content = content
        return reply


class ReferenceGrid(Grid):
    """The ServerApp's grid, with references in its messages: ``strategy.start(grid=ReferenceGrid(grid, context), ...)``.

    Arguments are as of ``ReferenceMod``. A record that goes to many nodes is published once, and in memory its arrays give
    way to those of the published file.
    """

    def __init__(
        self,
        grid: Grid,
        context: Context | None = None,
        *,
        agent: str | None = None,
        codec: Any = None,
        policy: Any = None,
        expires_seconds: float | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._grid = grid
        run_config = {} if context is None else context.run_config
        self._references = _References(agent, codec, policy, expires_seconds, patience)
        self._agent = self._references.agent(run_config.get(AGENT_KEY), None)
        self._codec = run_config.get(CODEC_KEY)
        self._publications = Publications()
        weakref.finalize(self, self._publications.free)
        # What was pushed stays published until its reply is pulled, whether the strategy has kept it or not.
        self._awaited: dict[str, RecordDict | None] = {}

    def set_run(self, run: Any) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        return self._grid.run

    def create_message(self, *arguments: Any, **options: Any) -> Message:
        return self._grid.create_message(*arguments, **options)

    def get_node_ids(self) -> Iterable[int]:
        return self._grid.get_node_ids()

    def get_nodes(self) -> Any:
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        contents = [message.content if message.has_content() else None for message in messages]
        ids = list(self._grid.push_messages([self._outgoing(message) for message in messages]))
        self._awaited.update(zip(ids, contents))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = [self._incoming(reply) for reply in self._grid.pull_messages(message_ids)]
        for reply in replies:
            self._awaited.pop(reply.metadata.reply_to_message_id, None)
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        messages = list(messages)
        contents = [message.content if message.has_content() else None for message in messages]
        outgoing = [self._outgoing(message) for message in messages]
        replies = [self._incoming(reply) for reply in self._grid.send_and_receive(outgoing, timeout=timeout)]
        contents.clear()  # Until here they were published, whether the strategy has kept them or not.
        return replies

    def _outgoing(self, message: Message) -> Message:
        if message.has_content():
            content = RecordDict()
            for key, record in message.content.items():
                content[key] = self._published(record) if isinstance(record, ArrayRecord) else record
            message.content = content
        return message

    def _published(self, record: ArrayRecord) -> ArrayRecord | ConfigRecord:
        def publish() -> Ref | None:
            return self._references.publish(self._agent, record, self._codec, lambda file: _exchange(record, file))

        ref = self._publications.of("record", record, list(record), self._agent, publish)
        return record if ref is None else _stand_in(ref)

    def _incoming(self, reply: Message) -> Message:
        if not reply.has_content():
            return reply
        try:
            reply.content = self._references.fetched(self._agent, reply.content, free=True)
        except TensorwireError as error:
            # To the strategy it is a node that failed: it goes on without, or not, as it does with others.
            reason = f"the ServerApp could not fetch the arrays of this reply: {error}"
            # In the place of the reply, as Flower makes such of what it receives: the public ways to make one reply to it.
            failed: Message = cast(Any, Message)(error=Error(ErrorCode.MOD_FAILED_PRECONDITION, reason), metadata=reply.metadata)
            return failed
        return reply


def _array_of(array: Array) -> Any | None:
    """An array's values where they lie, or None where they are no tensor that a model file can hold."""
    if isinstance(array, MappedArray):
        return array.numpy()
    if array.stype != SType.NUMPY:
        return None
    header = io.BytesIO(array.data[: 12 + int.from_bytes(array.data[8:12], "little") % (1 << 16)])
    try:
        version = np.lib.format.read_magic(header)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(header)
        if dtype.hasobject:
            return None
        flat = np.frombuffer(array.data, dtype=dtype, count=int(np.prod(shape, dtype=np.int64)), offset=header.tell())
    except ValueError:
        return None
    value = flat.reshape(shape, order="F" if fortran else "C")
    return value if dtype_of(value) is not None else None


def _stand_in(ref: Ref) -> ConfigRecord:
    return ConfigRecord({_REF: json.dumps(ref.to_json())})


def _reference(record: Any) -> Ref | None:
    if not isinstance(record, ConfigRecord) or list(record) != [_REF]:
        return None
    try:
        return Ref.from_json(json.loads(str(record[_REF])))
    except ValueError as error:
        raise TensorwireError("PROTOCOL", f"the reference in the message is no JSON: {error}") from error


def _mapped(model: MappedModel) -> ArrayRecord:
    record = ArrayRecord()
    _exchange(record, model)
    return record


def _exchange(record: ArrayRecord, model: MappedModel) -> None:
    """The record's arrays give way to the same ones in the file: the memory of the first is free then."""
    arrays = {place.name: MappedArray(model, place) for place in model.places}
    for name in model.names():
        record[name] = arrays[model.layout.ties.get(name, name)]
