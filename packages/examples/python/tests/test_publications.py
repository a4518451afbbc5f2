"""What is published once: what it is published with is a list here, and no agent."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from conftest import eventually
from tensorwire import Agent, Ref, TensorwireError
from tensorwire.publications import Publications


class Freeing(Agent):
    def __init__(self) -> None:
        self.freed: list[str] = []

    def free(self, ref: Ref) -> None:
        self.freed.append(ref.name)


def reference(name: str) -> Ref:
    return Ref(name, "0" * 16, name, 1, 2_000_000_000, None)


def failing() -> Ref:
    raise TensorwireError("TARGET_FULL", "no room")


def test_what_could_not_be_published_leaves_nothing_and_is_published_the_next_time() -> None:
    publications, agent, data = Publications(), Freeing(), {"w": np.ones(3)}
    for task in range(5):
        with pytest.raises(TensorwireError):
            publications.of(task, data, ["w"], agent, failing)
    assert publications._all == {}
    assert publications.of(1, data, ["w"], agent, lambda: reference("a")) == reference("a")
    assert publications.of(1, data, ["w"], agent, failing) == reference("a")
    publications.free()
    assert agent.freed == ["a"]


def test_of_many_that_ask_at_once_the_first_that_can_publishes_for_all() -> None:
    publications, agent, data = Publications(), Freeing(), {"w": np.ones(3)}
    attempts: list[int] = []
    all_wait = threading.Event()

    def publish() -> Ref:
        attempts.append(1)
        assert all_wait.wait(10)
        if len(attempts) == 1:
            raise TensorwireError("TARGET_FULL", "no room")
        return reference("a")

    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(publications.of(1, data, ["w"], agent, publish))
        except TensorwireError as error:
            found.append(error.code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: bool(attempts))
    all_wait.set()
    for thread in threads:
        thread.join(10)
    assert found.count(reference("a")) == 3 and len(attempts) == 2
    assert len(publications._all) == 1


def test_what_is_dropped_is_freed_and_what_is_replaced_too() -> None:
    publications, agent, data = Publications(), Freeing(), {"w": np.ones(3)}
    publications.of(1, data, ["w"], agent, lambda: reference("a"))
    data["w"] = np.zeros(3)
    assert publications.of(1, data, ["w"], agent, lambda: reference("b")) == reference("b")
    eventually(lambda: agent.freed == ["a"])
    data.clear()
    eventually(lambda: agent.freed == ["a", "b"])
