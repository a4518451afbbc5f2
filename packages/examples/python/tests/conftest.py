"""Tests run against real agents: a home, and one that has it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "frameworks"))

from agents import Agents, can_run
from tensorwire import Agent

#: NVFlare's, and none: each one's worst error is known whatever the values are.
CODECS = ("none", "float16", "blockwise8", "normfloat4", "float4")


@pytest.fixture
def agents(tmp_path: os.PathLike[str]) -> Iterator[Agents]:
    needs(can_run())
    # The path of a Unix socket has little more than a hundred characters.
    with Agents(str(tmp_path), patience="20s") as started:
        yield started.start_all(["site-1"])


@pytest.fixture(scope="module")
def _lasting_agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    needs(can_run())
    with Agents(str(tmp_path_factory.mktemp("a"))) as started:
        yield started.start_all(["site-1"])


@pytest.fixture
def lasting_agents(_lasting_agents: Agents) -> Iterator[Agents]:
    """For tests that disturb no agent, and are many: each leaves them without models, transfers and files."""
    yield _lasting_agents
    until = time.monotonic() + 10
    while left := [_lasting_agents.left_at(site) for site in ("server", "site-1") if any(_lasting_agents.left_at(site))]:
        assert time.monotonic() < until, left
        time.sleep(0.02)


def ends(agents: Agents, **options: Any) -> tuple[Agent, Agent]:
    return Agent(agents.address("server"), **options), Agent(agents.address("site-1"), **options)


def put_out_of_sight(agents: Agents, name: str) -> None:
    """To programs its exchange directory is another one then."""
    with open(os.path.join(agents.exchange_of(name), ".models", ".identity"), "w", encoding="utf-8") as identity:
        identity.write('"of another directory"')


def restart_in_mid_round(agents: Agents) -> None:
    """Kills all three: one that has a client waiting for it, the home with its models, and one that its client is done with or not."""
    for name in ("site-2", "server", "site-1"):
        agents.kill(name)
    time.sleep(1)
    for name in ("server", "site-1"):
        agents.start(name)
    # The client finds nobody, and waits.
    threading.Timer(2, lambda: agents.start("site-2")).start()


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def needs(missing: str | None) -> None:
    if missing is not None:
        pytest.skip(f"needs {missing}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """In the words that CI looks for."""
    for reason in sorted({report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])}):
        terminalreporter.write_line(f"SKIPPED: {reason}")
