from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import Agents
from conftest import ends, eventually, put_out_of_sight
from tensorwire import Agent, TensorwireError


def test_an_agent_that_is_killed_and_started_anew_goes_on(agents: Agents) -> None:
    _, client = ends(agents, patience=20)
    large = {"w": np.random.default_rng(1).random(24 << 20, dtype=np.float32)}
    for victim in ("site-1", "server"):
        result: list[Any] = []
        publishing = threading.Thread(target=lambda: result.append(client.publish(large, codec="none")))
        publishing.start()
        time.sleep(0.15)
        agents.kill(victim)
        agents.start(victim)
        publishing.join(60)
        assert np.array_equal(client.fetch(result[0])["w"], large["w"])
        client.free(result[0])


def test_chunks_out_of_bodies_go_on_when_the_agent_is_started_anew(agents: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    server, client = ends(agents, patience=20)
    sent = {"w": np.random.default_rng(1).random(4 << 20, dtype=np.float32)}
    ref = server.publish(sent, codec="none")
    monkeypatch.setattr(os, "access", lambda *_: False)
    chunks = client.chunks(ref, 1 << 20)
    found = [next(chunks)]
    agents.kill("site-1")
    agents.start("site-1")
    found += chunks
    assert np.array_equal(np.concatenate([chunk.numpy() for chunk in found]), sent["w"])


def test_what_was_fetched_is_freed_where_the_agent_was_away_just_then(agents: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    server, client = ends(agents, patience=20)
    ref = server.publish({"w": np.arange(1000)})
    request = client._transport.request

    def dying(method: str, *others: Any) -> Any:
        if method == "DELETE" and agents.pid("site-1") == first:
            agents.kill("site-1")
        return request(method, *others)

    first = agents.pid("site-1")
    monkeypatch.setattr(client._transport, "request", dying)
    assert client.fetch(ref)["w"].sum() == 499500
    assert [file for file in os.listdir(agents.exchange_of("site-1")) if not file.startswith(".")] != []
    agents.start("site-1")
    eventually(lambda: agents.left_at("site-1") == ([], [], []))


@pytest.mark.parametrize("shared", [True, False])
def test_what_could_not_be_published_leaves_nothing(agents: Agents, shared: bool) -> None:
    agents.kill("site-1")
    agents.start("site-1", "--patience", "100ms")
    agents.kill("server")
    if not shared:
        put_out_of_sight(agents, "site-1")
    with pytest.raises(TensorwireError) as raised:
        Agent(agents.address("site-1")).publish({"w": np.arange(3)})
    assert (raised.value.code, agents.left_at("site-1")) == ("CHANNEL_OPEN", ([], [], []))


def test_an_agent_with_another_exchange_directory_is_asked_for_it_again(agents: Agents, tmp_path: Path) -> None:
    _, client = ends(agents)
    client.publish({"w": np.arange(3)})
    agents.kill("site-1")
    agents.exchange = str(tmp_path / "another")
    agents.start("site-1")
    written: list[Any] = []
    assert client.fetch(client.publish({"w": np.arange(4)}, written=written.append))["w"].size == 4
    assert client.fetch(client.publish({"w": np.arange(5)}, written=written.append))["w"].size == 5
    assert len(written) == 3  # The first of them where the agent was before.
    for folder in (str(tmp_path), agents.exchange):
        assert [file for file in os.listdir(os.path.join(folder, "site-1-exchange")) if not file.startswith(".")] == []


def test_an_agent_that_stays_away_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(TensorwireError, match="tensorwire agent") as raised:
        Agent(f"unix:{tmp_path}/nobody.sock", patience=0.2).publish({"w": np.arange(3)})
    assert (raised.value.code, raised.value.retryable) == ("CHANNEL_OPEN", True)


def test_a_home_that_stays_away_is_given_up_by_the_agent_and_both_are_named(agents: Agents) -> None:
    agents.kill("site-1")
    agents.start("site-1", "--patience", "100ms")
    agents.kill("server")
    with pytest.raises(TensorwireError, match=f"cannot reach ws://.*: the agent at {agents.address('site-1')} has given up") as raised:
        Agent(agents.address("site-1")).publish({"w": np.arange(3)})
    assert (raised.value.code, raised.value.retryable) == ("CHANNEL_OPEN", True)
