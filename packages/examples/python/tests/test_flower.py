from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from agents import Agents
from aggregate import WORST
from conftest import CODECS, needs
from tensorwire import TensorwireError

try:
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
    from flwr.serverapp import Grid
    from flwr.supercore.task_identity import TaskIdentity

    from tensorwire.flower import MappedArray, ReferenceGrid, ReferenceMod

    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1  # Of this process, as Flower sets it.
except ImportError:
    Grid = object  # type: ignore[assignment,misc]
    pytestmark = pytest.mark.usefixtures("_without_flower")


@pytest.fixture
def _without_flower() -> None:
    needs("flwr")


class Line(Grid):
    """Nodes at the end of a line: what a message has of bytes is looked at, and each one's app answers."""

    def __init__(self, apps: list[Any]) -> None:
        self._apps = apps
        self.replies: list[Message] = []

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any:
        return None

    def create_message(self, *arguments: Any, **options: Any) -> Message:
        return Message(*arguments, **options)

    def get_node_ids(self) -> Iterable[int]:
        return range(1, len(self._apps) + 1)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.replies = [self._apps[message.metadata.dst_node_id - 1](message) for message in messages]
        return [str(index) for index in range(len(self.replies))]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self.replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        self.push_messages(messages)
        return self.replies


def client(agents: Agents, seen: list[Any], **options: Any) -> Any:
    mod = ReferenceMod(agents.address("site-1"), **options)
    context = Context(run_id=1, node_id=1, node_config={"partition-id": 0}, state=RecordDict(), run_config={})

    def train(message: Message, _: Context) -> Message:
        seen.append(message.content)
        arrays = message.content.array_records["arrays"]
        trained = ArrayRecord({name: Array(array.numpy() + 1) for name, array in arrays.items()})
        return Message(RecordDict({"arrays": trained, "metrics": MetricRecord({"n": 1})}), reply_to=message)

    def answer(message: Message) -> Message:
        assert all(isinstance(record, ConfigRecord) for record in message.content.values()), "arrays are still in the message"
        reply = mod(message, context, train)
        assert not reply.content.array_records, "arrays are still in the reply"
        return reply

    return answer


def record() -> Any:
    random = np.random.default_rng(3)
    weight = Array(random.standard_normal((256, 256)).astype(np.float32))
    return ArrayRecord(
        {"weight": weight, "steps": Array(np.arange(5)), "tied": weight, "columns": Array(np.asfortranarray(weight.numpy()))}
    )


def messages(arrays: Any, nodes: Iterable[int]) -> list[Any]:
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"rate": 0.1})})
    return [Message(content, dst_node_id=node, message_type="train") for node in nodes]


@pytest.mark.parametrize("codec", CODECS)
def test_records_leave_the_message_and_come_back(lasting_agents: Agents, codec: str) -> None:
    arrays = record()
    expected = {name: array.numpy() for name, array in arrays.items()}
    seen: list[Any] = []
    grid = ReferenceGrid(Line([client(lasting_agents, seen, codec=codec)] * 2), agent=lasting_agents.address("server"), codec=codec)
    for _ in range(2):
        replies = list(grid.send_and_receive(messages(arrays, grid.get_node_ids())))
        # Both nodes, and the next call, have the one model that was published.
        assert len(lasting_agents.status("server")["models"]) == 1
        for content, added in [(content, 0) for content in seen] + [(reply.content, 1) for reply in replies]:
            found = content.array_records["arrays"]
            assert list(found) == list(expected)
            for name, value in expected.items():
                array = found[name].numpy()
                assert array.dtype == value.dtype and array.shape == value.shape
                worst = (1 + added) * 1.5 * WORST[codec] * (np.abs(expected["weight"]).max() + added)
                assert np.abs(array - (value + value.dtype.type(added))).max() <= (0 if name == "steps" else worst)
    assert {name: array.numpy().tolist() for name, array in arrays.items()} == {name: value.tolist() for name, value in expected.items()}
    assert all(isinstance(array, MappedArray) for array in arrays.values())
    del grid
    assert lasting_agents.status("server")["models"] == []


def test_pushed_and_pulled_messages_are_the_same(agents: Agents) -> None:
    arrays = record()
    expected = arrays["weight"].numpy() + 1
    grid = ReferenceGrid(Line([client(agents, [], codec="none")]), agent=agents.address("server"), codec="none")
    ids = grid.push_messages(messages(arrays, [1]))
    (reply,) = grid.pull_messages(ids)
    assert np.array_equal(reply.content.array_records["arrays"]["weight"].numpy(), expected)


def test_a_mapped_array_is_an_array_to_flower(lasting_agents: Agents) -> None:
    arrays = record()
    expected = record()["weight"]
    grid = ReferenceGrid(Line([client(lasting_agents, [])]), agent=lasting_agents.address("server"), codec="none")
    list(grid.send_and_receive(messages(arrays, [1])))
    mapped = arrays["weight"]
    assert isinstance(mapped, MappedArray)
    mapped.numpy()[:] = 7
    assert mapped.data == expected.data and mapped.object_id == expected.object_id
    assert pickle.loads(pickle.dumps(mapped)) == expected
    assert Array.inflate(mapped.deflate(), mapped.children).data == expected.data
    with pytest.raises(TypeError):
        mapped.data = b""


def test_what_is_no_tensor_stays_in_the_message(lasting_agents: Agents) -> None:
    pickled = ArrayRecord({"trees": Array("", (), "", b"\x00\x01")})
    grid = ReferenceGrid(Line([lambda message: Message(message.content, reply_to=message)]), agent=lasting_agents.address("server"))
    (reply,) = grid.send_and_receive(messages(pickled, [1]))
    assert reply.content.array_records["arrays"]["trees"].data == b"\x00\x01"


def test_a_reply_that_cannot_be_fetched_is_the_error_of_its_node(agents: Agents) -> None:
    answering = client(agents, [], codec="none", expires_seconds=1)

    def late(message: Message) -> Message:
        reply = answering(message)
        expires = json.loads(str(reply.content["arrays"]["tensorwire.ref"]))["expires"]
        # At the home it has its time from when it came there, in full seconds.
        time.sleep(max(0.0, expires - time.time()) + 1.2)
        return reply

    grid = ReferenceGrid(Line([late, client(agents, [], codec="none")]), agent=agents.address("server"), codec="none")
    first, second = grid.send_and_receive(messages(record(), [1, 2]))
    assert first.has_error() and ("REFERENCE_EXPIRED" in first.error.reason or "NOT_FOUND" in first.error.reason)
    assert first.metadata.src_node_id == 1 and second.has_content()


@pytest.mark.parametrize(("version", "code"), [(2, "VERSION_UNSUPPORTED"), (None, "PROTOCOL")])
def test_a_reference_that_is_none_is_refused(agents: Agents, version: Any, code: str) -> None:
    content = RecordDict({"arrays": ConfigRecord({"tensorwire.ref": "{}" if version is None else f'{{"tensorwire":{version}}}'})})
    mod = ReferenceMod(agents.address("site-1"))
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    with pytest.raises(TensorwireError) as raised:
        mod(Message(content, dst_node_id=1, message_type="train"), context, lambda *_: pytest.fail("the app was called"))
    assert raised.value.code == code
