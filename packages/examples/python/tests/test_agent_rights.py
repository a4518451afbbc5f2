from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from agents import Agents, can_run
from conftest import ends, needs
from tensorwire import Agent, TensorwireError


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
