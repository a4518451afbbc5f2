"""NVFlare's simulator, with the plug-in and without, undisturbed and disturbed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from agents import Agents
from conftest import needs, restart_in_mid_round
from mid_round import MidRound
from model import Model
from nvflare_run import run_nvflare

try:
    import nvflare  # noqa: F401
except ImportError:
    pytestmark = [pytest.mark.federation, pytest.mark.usefixtures("_without_nvflare")]
else:
    pytestmark = pytest.mark.federation

MODEL = Model(8)
HERE = os.path.dirname(__file__)


@pytest.fixture
def _without_nvflare() -> None:
    needs("nvflare")


class Run:
    """Of two clients. ``in_mid_round`` is called when site-2 is held with its model."""

    def __init__(self, folder: Path, in_mid_round: Callable[[Any], None] | None = None, **options: Any) -> None:
        folder.mkdir()
        self.aggregate = str(folder / "aggregate.safetensors")
        rounds = str(folder / "rounds.jsonl")
        mid_round = MidRound(str(folder), in_mid_round)
        if in_mid_round is not None:
            options |= {"script": "nvflare_held.py", "custom": [os.path.join(HERE, name) for name in ("nvflare_held.py", "mid_round.py")]}
        try:
            self.said = run_nvflare(
                str(folder),
                MODEL,
                **{"clients": 2, "rounds": 3, "log": rounds, "keep": self.aggregate, **options},
                began=mid_round.begin,
                environment={"FAULT_FOLDER": str(folder)},
            )
        finally:
            mid_round.end()
        #: What the client that was held said of itself.
        self.held = mid_round.held
        self.rounds = 0
        if os.path.exists(rounds):
            with open(rounds, encoding="utf-8") as log:
                self.rounds = sum('"round"' in line for line in log)

    def aggregated(self) -> list[str]:
        return re.findall(r"Aggregated (\d/\d)", self.said)

    def errors(self) -> list[str]:
        return re.findall(r" - ERROR - (.*)", self.said)

    def weights(self) -> dict[str, Any]:
        return dict(load_file(self.aggregate))


def has_nothing_left(agents: Agents) -> None:
    for site in ("server", "site-1", "site-2"):
        assert agents.left_at(site) == ([], [], []), site


@pytest.mark.parametrize("difference", [False, True])
def test_the_aggregate_is_the_same(agents: Agents, tmp_path: Path, difference: bool) -> None:
    agents.start("site-2")
    alone = Run(tmp_path / "alone", difference=difference)
    beside = Run(tmp_path / "beside", difference=difference, agents=agents.address)
    assert (alone.rounds, beside.rounds) == (3, 3), beside.said
    expected, found = alone.weights(), beside.weights()
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].tobytes() == value.tobytes(), name
    if difference:
        return
    # Four bits cost what they are documented to, each way and each round.
    coarse = Run(tmp_path / "coarse", agents=agents.address, codec="normfloat4").weights()
    largest = max(np.abs(value).max() for value in expected.values() if value.dtype == np.float32)
    assert 0 < np.abs(coarse["embedding"] - expected["embedding"]).max() <= 3 * 2 * 0.152 * 1.3 * largest
    assert coarse["steps"].tolist() == expected["steps"].tolist()


def test_agents_that_are_killed_and_started_anew_in_mid_round_are_waited_for(agents: Agents, tmp_path: Path) -> None:
    agents.start("site-2")
    run = Run(tmp_path / "run", agents=agents.address, in_mid_round=lambda _: restart_in_mid_round(agents))
    assert run.rounds == 3, run.said
    assert "ERROR" not in run.said and run.said.count("Aggregated 2/2") == 3, run.said
    has_nothing_left(agents)


@pytest.mark.parametrize(
    ("fault", "error", "options"),
    [
        # Of a task, at each client.
        ("version", "Task Data Filters : TensorwireError: VERSION_UNSUPPORTED: .* same release", {"server.PublishWeights": "OtherVersion"}),
        ("expired", "Task Data Filters : TensorwireError: REFERENCE_EXPIRED: .* has expired", {"client.FetchWeights": "Late"}),
        ("token", "Task Data Filters : TensorwireError: UNAUTHORIZED: the agent at .*site-2.sock: .* set TENSORWIRE_AGENT_TOKEN_FILE", {}),
        ("gone", "Task Data Filters : TensorwireError: CHANNEL_OPEN: no agent answers at .*site-2.sock: .* Start it", {}),
        # Of a result, at the server.
        ("version", "task result filter TensorwireError: VERSION_UNSUPPORTED: .* same release", {"client.PublishWeights": "OtherVersion"}),
        ("expired", "task result filter TensorwireError: REFERENCE_EXPIRED: .* has expired", {"server.FetchWeights": "Late"}),
    ],
    ids=["version of a task", "task too late", "token", "client's agent gone", "version of a result", "result too late"],
)
def test_what_cannot_be_mended_is_in_the_frameworks_log_and_ends_the_job(
    agents: Agents, tmp_path: Path, fault: str, error: str, options: Any
) -> None:
    if fault == "token":
        agents.start("site-2", "--local-token-file", str(tmp_path / "token"))
    elif fault != "gone":
        agents.start("site-2")
    run = Run(
        tmp_path / "run",
        agents=agents.address,
        rounds=1,
        seconds=40,
        custom=[os.path.join(HERE, "nvflare_faults.py")],
        replaced={name: f"nvflare_faults.{filter}" for name, filter in options.items()},
        expires_seconds=1 if fault == "expired" else None,
        patience=0.5 if fault == "gone" else 20,
    )
    assert re.search(f"ERROR.*{error}", run.said), run.said
    assert "Aborting current RUN" in run.said and run.rounds == 0


def test_a_task_that_cannot_be_published_is_cancelled(agents: Agents, tmp_path: Path) -> None:
    agents.kill("server")
    run = Run(tmp_path / "run", agents=agents.address, rounds=1, patience=0.5)
    assert re.search("task data filter TensorwireError: CHANNEL_OPEN: no agent answers at .*server.sock: .* Start it", run.said), run.said
    # NVFlare goes on without results: the model stays as it was.
    assert "task train is cancelled due to exception" in run.said and run.aggregated() == []


def test_a_client_that_fails_is_left_out_where_the_job_says_so(agents: Agents, tmp_path: Path) -> None:
    run = Run(tmp_path / "run", agents=agents.address, rounds=2, patience=0.5, workflow={"ignore_result_error": True})
    assert run.rounds == 2, run.said
    assert run.said.count("Task Data Filters : TensorwireError: CHANNEL_OPEN") == 2, run.said


def test_a_client_that_is_killed_is_the_frameworks_to_wait_for(agents: Agents, tmp_path: Path) -> None:
    agents.start("site-2")

    def kill(held: Any) -> None:
        os.kill(held["pid"], signal.SIGKILL)

    def run(name: str) -> Run:
        # It waits for longer than this test, with the plug-in as without.
        return Run(tmp_path / name, agents=agents.address if name == "beside" else None, in_mid_round=kill, seconds=40)

    with ThreadPoolExecutor() as both:
        alone, beside = both.map(run, ("alone", "beside"))
    # The model was mapped when the client was killed, from a file that was its alone by then.
    assert alone.held["mapped"] == []
    assert beside.held["mapped"] and all(
        re.fullmatch(rf"{re.escape(agents.exchange_of('site-2'))}/\S+ \(deleted\)", mapped) for mapped in beside.held["mapped"]
    )
    assert alone.rounds == beside.rounds == 0
    assert alone.aggregated() == beside.aggregated() == ["1/2"], beside.said
    assert alone.errors() == beside.errors()
    assert agents.left_at("site-2") == ([], [], [])
