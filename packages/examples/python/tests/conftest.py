"""Tests run against real agents: a home, and one that has it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "frameworks"))

from agents import Agents, can_run


@pytest.fixture
def agents(tmp_path: os.PathLike[str]) -> Iterator[Agents]:
    needs(can_run())
    # The path of a Unix socket has little more than a hundred characters.
    with Agents(str(tmp_path), patience="20s") as started:
        yield started.start_all(["site-1"])


def needs(missing: str | None) -> None:
    if missing is not None:
        print(f"SKIPPED: needs {missing}", file=sys.__stdout__)
        pytest.skip(f"needs {missing}")
