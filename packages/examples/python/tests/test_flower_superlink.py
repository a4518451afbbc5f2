"""A SuperLink and SuperNodes as processes, with the plug-in, undisturbed and disturbed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agents import Agents
from conftest import needs, restart_in_mid_round
from flower_run import run_flower
from mid_round import MidRound
from mid_round import __file__ as mid_round_file
from model import Model

try:
    import flwr  # noqa: F401
except ImportError:
    pytestmark = [pytest.mark.federation, pytest.mark.usefixtures("_without_flower")]
else:
    pytestmark = pytest.mark.federation

FAULTS = os.path.join(os.path.dirname(__file__), "flower_faults.py")
FAULTY = {"clientapp": "measured.flower_faults:client", "serverapp": "measured.flower_faults:server"}


@pytest.fixture
def _without_flower() -> None:
    needs("flwr")


class Run:
    """Of two clients. ``faults`` are those of sites; ``in_mid_round`` is called when one that is held has its model."""

    def __init__(
        self,
        folder: Path,
        agents: Agents | None,
        *,
        faults: Mapping[str, str] | None = None,
        in_mid_round: Callable[[Any], None] | None = None,
        rounds: int = 1,
        patience: float = 20,
    ) -> None:
        folder.mkdir()
        self._folder = folder
        mid_round = MidRound(str(folder), in_mid_round)
        try:
            self.said = run_flower(
                str(folder),
                Model(8, mixed=False),
                clients=2,
                rounds=rounds,
                log=str(folder / "log"),
                agents=None if agents is None else agents.environment,
                patience=patience,
                seconds=180,
                began=mid_round.begin,
                environment=lambda site: {"FAULT": (faults or {}).get(site, ""), "FAULT_FOLDER": str(folder)},
                custom=[FAULTS, mid_round_file],
                replaced=FAULTY,
            )
        finally:
            mid_round.end()
        #: What the app that was held said of itself.
        self.held = mid_round.held
        #: Results and failures of each round.
        self.received = [(int(a), int(b)) for a, b in re.findall(r"Received (\d+) results and (\d+) failures", self.said)]
        self.errors = re.findall(r"Received error in reply from node \d+: (.*)", self.said)

    def said_at(self, site: str) -> str:
        return (self._folder / f"{site}.log").read_text()


def has_nothing_left(agents: Agents) -> None:
    for site in ("server", "site-1", "site-2"):
        assert agents.left_at(site) == ([], [], []), site


def test_agents_that_are_killed_and_started_anew_in_mid_round_are_waited_for(agents: Agents, tmp_path: Path) -> None:
    agents.start("site-2")
    run = Run(tmp_path / "run", agents, faults={"site-2": "hold"}, in_mid_round=lambda _: restart_in_mid_round(agents), rounds=2)
    assert run.received == [(2, 0), (2, 0)], run.said
    assert "exception" not in run.said_at("site-1") + run.said_at("site-2")
    has_nothing_left(agents)


def test_a_client_that_is_killed_is_flowers_to_report(agents: Agents, tmp_path: Path) -> None:
    agents.start("site-2")

    def kill(held: Any) -> None:
        os.kill(held["pid"], signal.SIGKILL)

    def run(beside: Agents | None) -> Run:
        name = "alone" if beside is None else "beside"
        return Run(tmp_path / name, beside, faults={"site-2": "hold"}, in_mid_round=kill, rounds=2)

    # Flower waits for a minute before it believes that an app is gone.
    with ThreadPoolExecutor() as both:
        alone, beside = both.map(run, (None, agents))
    # The model was mapped when the app was killed, from a file that was the app's alone by then.
    assert alone.held["mapped"] == []
    assert beside.held["mapped"] and all(
        re.fullmatch(rf"{re.escape(agents.exchange_of('site-2'))}/\S+ \(deleted\)", mapped) for mapped in beside.held["mapped"]
    )
    # The same as without, in the same words: the round goes on with the other one, and the next one with both.
    assert beside.received == alone.received == [(1, 1), (2, 0)], beside.said
    assert beside.errors == alone.errors == ["ClientApp stopped responding."]
    has_nothing_left(agents)


@pytest.mark.parametrize(
    ("faults", "received", "error"),
    [
        # Of a client's message, at the server, which says so.
        ({"site-2": "version"}, (1, 1), r"the ServerApp could not .*: VERSION_UNSUPPORTED: .* same release"),
        ({"site-2": "brief"}, (1, 1), r"the ServerApp could not .*: REFERENCE_EXPIRED: .* has expired"),
        # Of the server's message, at each client.
        ({"server": "version"}, (0, 2), r"<class 'tensorwire.errors.TensorwireError'>:<'VERSION_UNSUPPORTED: .* same release"),
        (
            {"server": "brief", "site-1": "late", "site-2": "late"},
            (0, 2),
            r"<class 'tensorwire.errors.TensorwireError'>:<'REFERENCE_EXPIRED: .* has expired",
        ),
    ],
    ids=["version of a client", "reply too late", "version of the server", "clients too late"],
)
def test_what_cannot_be_mended_is_in_flowers_log(
    agents: Agents, tmp_path: Path, faults: Mapping[str, str], received: tuple[int, int], error: str
) -> None:
    agents.start("site-2")
    run = Run(tmp_path / "run", agents, faults=faults)
    assert run.received == [received], run.said
    assert len(run.errors) == received[1] and all(re.match(error, each) for each in run.errors), run.errors
    # Flower itself goes on to the end of the run.
    assert "Strategy execution finished" in run.said


def test_a_client_that_may_not_speak_to_its_agent_fails_alone(agents: Agents, tmp_path: Path) -> None:
    agents.start("site-2", "--local-token-file", str(tmp_path / "token"))
    run = Run(tmp_path / "run", agents)
    assert run.received == [(1, 1)], run.said
    assert "UNAUTHORIZED: " in run.errors[0] and "UNAUTHORIZED: " in run.said_at("site-2")


def test_a_client_whose_agent_stays_away_fails_alone(agents: Agents, tmp_path: Path) -> None:
    agents.start("site-2")
    run = Run(tmp_path / "run", agents, faults={"site-2": "hold"}, in_mid_round=lambda _: agents.kill("site-2"), rounds=2, patience=0.5)
    # First it cannot publish, then it cannot fetch.
    assert run.received == [(1, 1), (1, 1)], run.said
    assert all(re.search(rf"CHANNEL_OPEN: no agent answers at {agents.address('site-2')}: .* Start it", each) for each in run.errors)
    assert len(run.errors) == 2


def test_a_home_that_stays_away_fails_all_clients(agents: Agents, tmp_path: Path) -> None:
    agents.kill("site-1")
    for site in ("site-1", "site-2"):
        agents.start(site, "--patience", "1s")
    run = Run(tmp_path / "run", agents, faults={"site-2": "hold"}, in_mid_round=lambda _: agents.kill("server"), rounds=2, patience=0.5)
    # No reply arrives, nor does the next model. Flower goes on to the end of the run, as with any clients that fail.
    assert run.received == [(0, 2), (0, 2)], run.said
    assert all("CHANNEL_OPEN: " in error for error in run.errors), run.errors
    assert re.search(rf"cannot reach ws://\S+ .*: the agent at {agents.address('site-2')} has given up", run.said_at("site-2"))


def test_a_server_that_cannot_publish_ends_the_run_and_says_why(agents: Agents, tmp_path: Path) -> None:
    agents.kill("server")
    run = Run(tmp_path / "run", agents, patience=0.5)
    assert run.received == [] and "Strategy execution finished" not in run.said
    assert re.search(f"TensorwireError: CHANNEL_OPEN: no agent answers at {agents.address('server')}: .* Start it", run.said), run.said
