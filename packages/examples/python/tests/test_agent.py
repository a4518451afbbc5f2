from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents import COMMAND, Agents, can_run
from aggregate import WORST
from conftest import CODECS, ends, needs, put_out_of_sight
from tensorwire import Agent, Ref, TensorwireError, fetch, publish

ISOLATED = ("unshare", "--user", "--map-root-user", "--mount")


def model() -> dict[str, Any]:
    random = np.random.default_rng(5)
    weight = random.standard_normal((512, 512)).astype(np.float32)
    return {"weight": weight, "steps": np.arange(9), "tied": weight, "mask": np.arange(4) > 1, "none": np.empty((0, 3))}


@pytest.mark.parametrize("codec", CODECS)
def test_a_model_goes_to_the_client_and_back(lasting_agents: Agents, codec: str) -> None:
    server, client = ends(lasting_agents)
    sent = model()
    for publisher, fetcher in ((server, client), (client, server)):
        ref = publisher.publish(sent, "round-1/model", codec=codec)
        assert ref == Ref.from_json(ref.to_json())
        found = fetcher.fetch(ref)
        assert list(found) == list(sent) and found["tied"] is found["weight"]
        assert found["steps"].tolist() == list(range(9)) and found["mask"].tolist() == [False, False, True, True]
        assert np.abs(found["weight"] - sent["weight"]).max() <= WORST[codec] * np.abs(sent["weight"]).max()
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
        assert sum(len(chunk) for chunk in client.chunks(ref)) == sum(value.size for value in sent.values())
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
    found: dict[str, list[Any]] = {name: [] for name in sent}
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


def test_root_and_an_agent_of_another_user_speak_in_bodies() -> None:
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if (
        os.geteuid() != 0
        or shutil.which("setpriv") is None
        or subprocess.run([*other, *COMMAND, "--version"], capture_output=True).returncode
    ):
        needs("root")
    needs(can_run())
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, 65534)
        with Agents(folder) as agents:
            agents.start("server", before=other)
            client = Agent(agents.address("server"))
            ref = client.publish({"w": np.arange(1000)})
            assert client.fetch(ref)["w"].sum() == 499500
            client.free(ref)
            assert agents.left_at("server") == ([], [], [])


def test_what_is_no_argument_is_said_in_words(lasting_agents: Agents) -> None:
    server, client = ends(lasting_agents)
    sent = {"w": np.arange(3)}
    ref = server.publish(sent, expires_seconds=np.float32(60))
    for wrong in (
        lambda: server.publish(sent, expires_seconds=float("nan")),
        lambda: server.publish(sent, expires_seconds=float("inf")),
        lambda: server.publish(sent, expires_seconds="5"),  # type: ignore[arg-type]
        lambda: server.publish(list(sent.items())),  # type: ignore[arg-type]
        lambda: server.publish(sent, 7),  # type: ignore[arg-type]
        lambda: server.publish(sent, codec={"name": "normfloat4", "block": np.int64(128)}),
        lambda: server.publish(sent, codec="normfloat4:block"),
        lambda: client.fetch(ref.to_json()),  # type: ignore[arg-type]
        lambda: client.free(ref.to_json()),  # type: ignore[arg-type]
        lambda: list(client.chunks(ref.to_json())),  # type: ignore[arg-type]
        lambda: client.fetch(ref, format="jax"),
    ):
        with pytest.raises(TensorwireError) as raised:
            wrong()
        assert raised.value.code == "INVALID_ARGUMENT"
    server.free(ref)


def test_a_codec_is_named_as_on_the_command_line(agents: Agents) -> None:
    server, client = ends(agents)
    sent = model()
    for shared in (True, False):
        if not shared:
            put_out_of_sight(agents, "server")
        refs = [server.publish(sent, codec=codec) for codec in ("normfloat4:block=128", {"name": "normfloat4", "block": 128}, "normfloat4")]
        assert refs[0].digest == refs[1].digest != refs[2].digest


def test_tensors_are_aligned_also_where_they_are_converted(lasting_agents: Agents) -> None:
    server, client = ends(lasting_agents)
    ref = server.publish({"x": np.ones(5, np.float32), "i": np.arange(4, dtype=np.int32)})
    found = client.fetch(ref, output_dtype="F16")
    assert found["i"].flags.aligned and found["i"].tolist() == [0, 1, 2, 3]
    server.free(ref)


def test_errors_keep_their_code_between_processes() -> None:
    error = pickle.loads(pickle.dumps(TensorwireError("TARGET_FULL", "no room", retryable=True)))
    assert (error.code, error.message, error.retryable, str(error)) == ("TARGET_FULL", "no room", True, "TARGET_FULL: no room")


@pytest.mark.parametrize("address", ["http://10.0.0.1:9000", "https://127.0.0.1:1", "ws://127.0.0.1:1", "http://127.0.0.1"])
def test_an_agent_is_of_this_machine(address: str) -> None:
    with pytest.raises(TensorwireError) as raised:
        Agent(address)
    assert raised.value.code == "INVALID_ARGUMENT"
