"""NVFlare's simulator, with the plug-in and without, undisturbed and disturbed."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agents import Agents
from conftest import needs
from model import Model
from nvflare_run import run_nvflare
from processes import Started, command_of
from safetensors.numpy import load_file

try:
    import nvflare  # noqa: F401
except ImportError:
    pytestmark = pytest.mark.usefixtures("_without_nvflare")

MODEL = Model(8)
HERE = os.path.dirname(__file__)


@pytest.fixture
def _without_nvflare() -> None:
    needs("nvflare")


class Run:
    def __init__(self, folder: Path, **options: Any) -> None:
        folder.mkdir()
        self.aggregate = str(folder / "aggregate.safetensors")
        rounds = str(folder / "rounds.jsonl")
        self.said = run_nvflare(str(folder), MODEL, **{"clients": 2, "rounds": 3, "log": rounds, "keep": self.aggregate, **options})
        self.rounds = 0
        if os.path.exists(rounds):
            with open(rounds, encoding="utf-8") as log:
                self.rounds = sum('"round"' in line for line in log)

    def weights(self) -> dict[str, Any]:
        return dict(load_file(self.aggregate))


def when(text: str, act: Callable[[Started], None]) -> Callable[[list[Started]], None]:
    """Disturbs a run once its log says something."""

    def began(processes: list[Started]) -> None:
        def watch() -> None:
            while processes[0].running and not re.search(text, processes[0].said()):
                time.sleep(0.02)
            act(processes[0])

        threading.Thread(target=watch, daemon=True).start()

    return began


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


def test_an_agent_that_is_killed_in_mid_round_is_waited_for(agents: Agents, tmp_path: Path) -> None:
    agents.start("site-2")

    def again(_: Started) -> None:
        for name in ("site-1", "server"):
            agents.kill(name)
        time.sleep(1)
        for name in ("server", "site-1"):
            agents.start(name)

    run = Run(tmp_path / "run", agents=agents.address, began=when("fetched .*/round-1", again))
    assert run.rounds == 3, run.said
    assert "ERROR" not in run.said


@pytest.mark.parametrize(
    ("fault", "code", "options"),
    [
        ("version", "VERSION_UNSUPPORTED", {"replaced": {"server.PublishWeights": "nvflare_faults.OtherVersion"}}),
        ("expired", "REFERENCE_EXPIRED|NOT_FOUND", {"replaced": {"client.FetchWeights": "nvflare_faults.Late"}, "expires_seconds": 1}),
        ("token", "UNAUTHORIZED", {}),
        ("gone", "CHANNEL_OPEN", {"patience": 0.5}),
    ],
)
def test_what_cannot_be_mended_is_in_the_frameworks_log(
    agents: Agents, tmp_path: Path, fault: str, code: str, options: Any
) -> None:
    if fault == "token":
        agents.start("site-2", "--local-token-file", str(tmp_path / "token"))
    elif fault != "gone":
        agents.start("site-2")
    run = Run(
        tmp_path / "run", agents=agents.address, rounds=1, seconds=40, custom=[os.path.join(HERE, "nvflare_faults.py")], **options
    )
    print(run.rounds, run.said[-6000:])
    assert re.search(f"TensorwireError: ({code}): ", run.said), run.said
    assert "TASK_DATA_FILTER_ERROR" in run.said


def test_a_client_that_is_killed_is_the_frameworks_to_wait_for(agents: Agents, tmp_path: Path) -> None:
    agents.start("site-2")

    def kill(simulator: Started) -> None:
        for pid in simulator.all():
            if re.search(r"simulator_worker.*--client site-2", command_of(pid)):
                os.kill(pid, 9)

    # It waits for longer than this test, with the plug-in as without.
    run = Run(tmp_path / "run", agents=agents.address, began=when("fetched .*/round-1", kill), seconds=40)
    assert (run.rounds, "Aggregated 2/2" in run.said) == (1, True), run.said
    assert run.said.count("Aggregated 1/2") == 2, run.said
    assert [file for file in os.listdir(agents.exchange_of("site-2")) if not file.startswith(".")] == []
