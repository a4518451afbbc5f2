from __future__ import annotations

import os
import pickle
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import Agents, can_run
from conftest import needs
from tensorwire import Agent, Ref, TensorwireError, fetch, publish

#: The worst error in parts of a block's largest magnitude (docs/codecs.md), and of the value for float16.
BOUNDS = {"none": 0.0, "float16": 0.000489, "blockwise8": 0.00704, "normfloat4": 0.152, "float4": 0.167}

ISOLATED = ("unshare", "--user", "--map-root-user", "--mount")


def model() -> dict[str, Any]:
    random = np.random.default_rng(5)
    weight = random.standard_normal((512, 512)).astype(np.float32)
    return {"weight": weight, "steps": np.arange(9), "tied": weight, "mask": np.arange(4) > 1}


def ends(agents: Agents, **options: Any) -> tuple[Agent, Agent]:
    return Agent(agents.address("server"), **options), Agent(agents.address("site-1"), **options)


@pytest.mark.parametrize("codec", BOUNDS)
def test_a_model_goes_to_the_client_and_back(lasting_agents: Agents, codec: str) -> None:
    server, client = ends(lasting_agents)
    sent = model()
    for publisher, fetcher in ((server, client), (client, server)):
        ref = publisher.publish(sent, "round-1/model", codec=codec)
        assert ref == Ref.from_json(ref.to_json())
        found = fetcher.fetch(ref)
        assert list(found) == list(sent) and found["tied"] is found["weight"]
        assert found["steps"].tolist() == list(range(9)) and found["mask"].tolist() == [False, False, True, True]
        assert np.abs(found["weight"] - sent["weight"]).max() <= BOUNDS[codec] * np.abs(sent["weight"]).max()
        publisher.free(ref)


def test_the_environment_names_the_agent(agents: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORWIRE_AGENT", agents.address("site-1"))
    assert fetch(publish({"w": np.arange(5)}))["w"].tolist() == [0, 1, 2, 3, 4]
    monkeypatch.delenv("TENSORWIRE_AGENT")
    with pytest.raises(TensorwireError, match="TENSORWIRE_AGENT"):
        publish({"w": np.arange(5)})


def test_an_agent_whose_files_are_out_of_sight_is_spoken_to_in_bodies(agents: Agents) -> None:
    server, client = ends(agents)
    with open(os.path.join(agents.exchange_of("site-1"), ".models", ".identity"), "w", encoding="utf-8") as identity:
        identity.write('"of another directory"')
    sent = model()
    ref = client.publish(sent, codec="none", written=lambda _: pytest.fail("it was written to a directory that is not the agent's"))
    assert np.array_equal(server.fetch(ref)["weight"], sent["weight"])
    unseen = os.access
    try:
        os.access = lambda *_: False  # type: ignore[assignment]
        assert np.array_equal(client.fetch(ref)["weight"], sent["weight"])
        assert sum(len(chunk) for chunk in client.chunks(ref)) == sum(value.size for name, value in sent.items() if name != "tied")
    finally:
        os.access = unseen


def test_another_directory_under_the_same_path_is_not_the_agents(agents: Agents) -> None:
    exchange = agents.exchange_of("site-1")
    os.makedirs(exchange, exist_ok=True)
    # As in a container of its own: what it mounts there nobody else sees.
    inside = [*ISOLATED, "sh", "-c", f'mount -t tmpfs none "{exchange}" && exec "$@"', "sh"]
    if subprocess.run([*inside, "true"], capture_output=True).returncode:
        needs("mount namespaces for all users")
    agents.kill("site-1")
    agents.start("site-1", before=inside)
    server, client = ends(agents)
    sent = model()
    ref = client.publish(sent, codec="none")
    assert np.array_equal(client.fetch(ref)["weight"], sent["weight"])
    assert np.array_equal(server.fetch(ref)["weight"], sent["weight"])
    assert [file for file in os.listdir(exchange) if not file.startswith(".")] == []


def test_chunks_come_in_the_memory_of_a_chunk(agents: Agents) -> None:
    server, client = ends(agents)
    sent = model()
    found = {name: [] for name in sent if name != "tied"}
    for chunk in client.chunks(server.publish(sent, codec="none"), 1 << 16):
        assert len(chunk.data) <= 1 << 16
        found[chunk.name].append(chunk.numpy())
    for name, pieces in found.items():
        assert np.array_equal(np.concatenate(pieces), sent[name].reshape(-1))


def test_a_model_that_was_freed_or_has_expired_is_told_from_another(agents: Agents) -> None:
    server, client = ends(agents)
    freed, expiring, other = (server.publish({"w": np.arange(n)}, expires_seconds=s) for n, s in ((3, 60), (4, 1), (5, 60)))
    server.free(freed)
    server.free(freed)
    time.sleep(max(0.0, expiring.expires - time.time()) + 0.2)  # A full second.
    for ref, codes in (
        (freed, ("NOT_FOUND",)),
        (expiring, ("REFERENCE_EXPIRED", "NOT_FOUND")),
        (replace(other, digest="0123456789abcdef"), ("DIGEST_MISMATCH",)),
    ):
        for fetcher in (client, server):
            with pytest.raises(TensorwireError) as raised:
                fetcher.fetch(ref)
            assert raised.value.code in codes


def test_a_reference_of_another_version_is_refused() -> None:
    ref = {"tensorwire": 2, "name": "a", "transfer": "b", "digest": "c", "bytes": 1, "expires": 1, "home": "d"}
    with pytest.raises(TensorwireError, match="same release") as raised:
        Ref.from_json(ref)
    assert raised.value.code == "VERSION_UNSUPPORTED"
    assert Ref.from_json({**ref, "tensorwire": 1}).name == "a"
    for broken in ({"bytes": -1}, {"bytes": True}, {"name": 3}, {"digest": "x" * 5000}, {"home": 3}):
        with pytest.raises(TensorwireError) as raised:
            Ref.from_json({**ref, "tensorwire": 1, **broken})
        assert raised.value.code == "PROTOCOL"


def test_a_wrong_token_is_told_and_a_right_one_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agents: Agents) -> None:
    token_file = tmp_path / "local-token"
    agents.start("site-2", "--local-token-file", str(token_file))
    address = agents.address("site-2")
    for token in (None, "wrong"):
        with pytest.raises(TensorwireError, match="the agent at .*site-2.sock: .* set TENSORWIRE_AGENT_TOKEN_FILE") as raised:
            Agent(address, token).publish({"w": np.arange(3)})
        assert (raised.value.code, raised.value.retryable) == ("UNAUTHORIZED", False)
    monkeypatch.setenv("TENSORWIRE_AGENT_TOKEN_FILE", str(token_file))
    assert Agent(address).publish({"w": np.arange(3)}).name.startswith("python/")


def test_a_token_that_a_home_does_not_know_is_told_of_both(tmp_path: Path) -> None:
    needs(can_run())
    (tmp_path / "tokens.json").write_text('{ "site-1": { "token": "cmlnaHQtdG9rZW4tb2Ytc2l0ZQ", "publish": true, "fetch": true } }')
    (tmp_path / "token").write_text("d3JvbmctdG9rZW4tb2Ytc2l0ZQ")
    with Agents(str(tmp_path)) as agents:
        agents.start("server", "--tokens", str(tmp_path / "tokens.json"))
        agents.start("site-1", "--token-file", str(tmp_path / "token"))
        server, client = ends(agents)
        ref = server.publish({"w": np.arange(3)})
        for refused in (lambda: client.fetch(ref), lambda: client.publish({"w": np.arange(3)})):
            with pytest.raises(TensorwireError, match="ws://.* asks for a credential.*: the agent at .*site-1.sock has given up") as raised:
                refused()
            assert (raised.value.code, raised.value.retryable) == ("UNAUTHORIZED", False)


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


def test_errors_keep_their_code_between_processes() -> None:
    error = pickle.loads(pickle.dumps(TensorwireError("TARGET_FULL", "no room", retryable=True)))
    assert (error.code, error.message, error.retryable, str(error)) == ("TARGET_FULL", "no room", True, "TARGET_FULL: no room")


@pytest.mark.parametrize("address", ["http://10.0.0.1:9000", "https://127.0.0.1:1", "ws://127.0.0.1:1", "http://127.0.0.1"])
def test_an_agent_is_of_this_machine(address: str) -> None:
    with pytest.raises(TensorwireError) as raised:
        Agent(address)
    assert raised.value.code == "INVALID_ARGUMENT"
