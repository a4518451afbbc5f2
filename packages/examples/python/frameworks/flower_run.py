"""A run of Flower: a SuperLink and SuperNodes as processes of their own, as in production."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from model import Model
from processes import Started

_HERE = os.path.dirname(os.path.abspath(__file__))
_BIN = os.path.dirname(sys.executable)

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


def run_flower(
    folder: str,
    model: Model,
    *,
    clients: int,
    rounds: int,
    log: str,
    keep: str = "",
    agents: Callable[[str], Mapping[str, str]] | None = None,
    codec: str = "none",
    patience: float = 60,
    seconds: float = 220,
    began: Callable[[list[Started]], None] | None = None,
    environment: Callable[[str], Mapping[str, str]] | None = None,
    custom: Sequence[str] = (),
    replaced: Mapping[str, str] | None = None,
) -> str:
    """The server's log. ``agents`` is the environment of a site's processes that names its agent; without it, Flower is alone.

    ``environment`` is what else a site's processes have in theirs, ``custom`` are files for the app's package, and ``replaced`` gives
    other apps for ``clientapp`` and ``serverapp``.
    """
    app = os.path.join(folder, "app")
    shutil.copytree(os.path.join(_HERE, "flower_app"), app)
    for path in (os.path.join(_HERE, "model.py"), *custom):
        shutil.copy(path, os.path.join(app, "measured"))
    _replace(os.path.join(app, "pyproject.toml"), replaced or {})
    home = os.path.join(folder, "home")
    os.makedirs(home)
    port = _free_port()
    with open(os.path.join(home, "config.toml"), "w", encoding="utf-8") as config:
        config.write(f'[superlink]\ndefault = "measured"\n\n[superlink.measured]\naddress = "127.0.0.1:{port}"\ninsecure = true\n')
    shared = {**QUIET, "FLWR_HOME": home, "PATH": _BIN + os.pathsep + os.environ["PATH"]}

    def start(site: str, *command: str) -> Started:
        mine = {**({} if agents is None else agents(site)), **({} if environment is None else environment(site))}
        started = Started([os.path.join(_BIN, command[0]), *command[1:]], os.path.join(folder, f"{site}.log"), {**shared, **mine})
        processes.append(started)
        return started

    processes: list[Started] = []
    try:
        link = start("server", "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port))
        _answers(port, link)
        for index in range(clients):
            start(
                f"site-{index + 1}",
                "flower-supernode",
                "--insecure",
                "--superlink",
                f"127.0.0.1:{port}",
                "--port",
                str(_free_port()),
                "--node-config",
                f"partition-id={index} num-partitions={clients}",
            )
        if began is not None:
            began(processes)
        settings = {
            "clients": clients,
            "rounds": rounds,
            "mib": model.mib,
            "log": log,
            "keep": keep,
            "plug-in": agents is not None,
            "tensorwire-codec": codec,
            "patience": float(patience),
        }
        overrides = " ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
        run = start("run", "flwr", "run", app, "measured", "--stream", "--run-config", overrides)
        try:
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        return run.said() + link.said()
    finally:
        for process in reversed(processes):
            process.end()


def _replace(path: str, replaced: Mapping[str, str]) -> None:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for component, reference in replaced.items():
        text = re.sub(f'(?m)^{component} = ".*"$', f'{component} = "{reference}"', text)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, link: Started) -> None:
    import time

    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if not link.running:
            break
        time.sleep(0.05)
    raise RuntimeError(f"the SuperLink does not answer:\n{link.said()[-3000:]}")
