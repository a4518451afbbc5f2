"""A run of NVFlare's simulator: the server in one process, each client in its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from model import Model
from nvflare_job import write_job
from processes import Started

SIMULATOR = (os.path.join(os.path.dirname(sys.executable), "nvflare"), "simulator")


def run_nvflare(
    folder: str,
    model: Model,
    *,
    clients: int,
    rounds: int,
    log: str,
    keep: str | None = None,
    agents: Callable[[str], str] | None = None,
    seconds: float = 220,
    began: Callable[[list[Started]], None] | None = None,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> str:
    """The simulator's log, of so many seconds at most. ``environment`` is what it has besides; other options are those of a job."""
    job = os.path.join(folder, "job")
    write_job(
        job,
        model,
        clients=clients,
        rounds=rounds,
        log=log,
        keep=keep,
        agents=agents,
        **options,
    )
    simulator = Started(
        [
            *SIMULATOR,
            *(job, "-w", os.path.join(folder, "workspace"), "-n", str(clients), "-t", str(clients)),
        ],
        os.path.join(folder, "simulator.log"),
        environment,
    )
    try:
        if began is not None:
            began([simulator])
        simulator.wait(seconds)
        return simulator.said()
    except subprocess.TimeoutExpired:
        return simulator.said()
    finally:
        simulator.end()
