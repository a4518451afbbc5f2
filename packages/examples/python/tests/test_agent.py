from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import COMMAND, Agents, can_run
from conftest import eventually, needs
from tensorwire import Agent, Ref, TensorwireError, fetch, publish

#: The worst error in parts of a block's largest magnitude (docs/codecs.md), and of the value for float16.
BOUNDS = {"none": 0.0, "float16": 0.000489, "blockwise8": 0.00704, "normfloat4": 0.152, "float4": 0.167}

ISOLATED = ("unshare", "--user", "--map-root-user", "--mount")


def model() -> dict[str, Any]:
    random = np.random.default_rng(5)
    weight = random.standard_normal((512, 512)).astype(np.float32)
    return {"weight": weight, "steps": np.arange(9), "tied": weight, "mask": np.arange(4) > 1, "none": np.empty((0, 3))}


def ends(agents: Agents, **options: Any) -> tuple[Agent, Agent]:
    return Agent(agents.address("server"), **options), Agent(agents.address("site-1"), **options)


def put_out_of_sight(agents: Agents, name: str) -> None:
    """To programs its exchange directory is another one then."""
    with open(os.path.join(agents.exchange_of(name), ".models", ".identity"), "w", encoding="utf-8") as identity:
        identity.write('"of another directory"')


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


def test_a_wrong_token_is_told_and_a_right_one_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agents: Agents) -> None:
    token_file = tmp_path / "local-token"
    agents.start("site-2", "--local-token-file", str(token_file))
    address = agents.address("site-2")
    for token, said in ((None, "none was shown"), ("wrong", "this is another")):
        with pytest.raises(TensorwireError, match=f"the agent at .*site-2.sock: .*{said}.* set TENSORWIRE_AGENT_TOKEN_FILE") as raised:
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


@pytest.mark.parametrize(
    ("guide", "names", "denied"),
    [
        ("nvflare", ("nvflare/job/server/round-1", "nvflare/job/{site}/round-1"), "nvflare/job/site-3/round-1"),
        ("flower", (None, None), "nvflare/a"),
    ],
)
def test_the_rights_that_a_guide_gives_suffice(tmp_path: Path, guide: str, names: tuple[str | None, str | None], denied: str) -> None:
    needs(can_run())
    text = (Path(__file__).parents[4] / "docs" / "guides" / f"{guide}.md").read_text(encoding="utf-8")
    tokens = next(block for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL) if '"publish"' in block)
    (tmp_path / "tokens.json").write_text(tokens)
    with Agents(str(tmp_path)) as agents:
        agents.start("server", "--tokens", str(tmp_path / "tokens.json"))
        server = Agent(agents.address("server"))
        of_all, of_site = names
        everyones = server.publish({"w": np.arange(3)}, of_all)
        for site, principal in json.loads(tokens).items():
            (tmp_path / f"{site}.token").write_text(principal["token"] + "\n")
            agents.start(site, "--token-file", str(tmp_path / f"{site}.token"))
            client = Agent(agents.address(site))
            assert client.fetch(everyones)["w"].size == 3
            ref = client.publish({"w": np.arange(4)}, of_site and of_site.format(site=site))
            assert server.fetch(ref)["w"].size == 4
            server.free(ref)
            with pytest.raises(TensorwireError) as raised:
                client.publish({"w": np.arange(4)}, denied)
            assert raised.value.code == "FORBIDDEN"


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
