"""Tests run against real agents: a home, and one that has it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "frameworks"))

from agents import Agents, can_run


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
