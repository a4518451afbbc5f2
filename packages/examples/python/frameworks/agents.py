"""The agents of a federation: a home beside the server, and one beside each client, that dials it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from processes import Started

_PACKAGES = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
COMMAND = ("node", os.path.join(_PACKAGES, "stream", "bin", "tensorwire.js"))

SERVER = "server"


def can_run() -> str | None:
    """What is missing for agents here, or None."""
    if shutil.which(COMMAND[0]) is None:
        return "node"
    if not os.path.exists(os.path.join(_PACKAGES, "stream", "dist", "cli", "main.js")):
        return "npm run build"
    return None


class Agents:
    """Each has the folder ``NAME`` within ``folder``, with its socket, and its exchange directory within ``exchange``."""

    def __init__(self, folder: str, exchange: str | None = None, patience: str = "30s") -> None:
        self.folder = folder
        self.exchange = exchange or folder
        self._patience = patience
        self._started: dict[str, Started] = {}
        self._url = ""

    def __enter__(self) -> Agents:
        return self

    def __exit__(self, *_: Any) -> None:
        for started in reversed(self._started.values()):
            started.end()

    def start(self, name: str, *options: str, before: Sequence[str] = ()) -> Started:
        """Starts one, or starts it anew: the home first. ``before`` is a command that runs its command."""
        home = name == SERVER
        # A home that is started anew has the port that the others know.
        where = ["--listen", self._url or "ws://127.0.0.1:0"] if home else ["--home", self._url]
        os.makedirs(self.folder, exist_ok=True)
        started = Started(
            [
                *before,
                *COMMAND,
                "agent",
                *("--directory", os.path.join(self.folder, name)),
                *("--socket", self.socket(name)),
                *("--exchange", self.exchange_of(name)),
                *("--patience", self._patience),
                *where,
                *options,
            ],
            os.path.join(self.folder, f"{name}.{len(os.listdir(self.folder))}.log"),
        )
        self._started[name] = started
        started.says("agent on")
        if home:
            found = re.search(r"listening on (\S+)", started.said())
            assert found is not None
            self._url = found.group(1)
        return started

    def start_all(self, sites: list[str]) -> Agents:
        for name in (SERVER, *sites):
            self.start(name)
        return self

    @property
    def marks(self) -> set[str]:
        return {started.mark for started in self._started.values()}

    def kill(self, name: str) -> None:
        self._started[name].kill()

    def pid(self, name: str) -> int:
        return self._started[name].pid

    def socket(self, name: str) -> str:
        return os.path.join(self.folder, f"{name}.sock")

    def address(self, name: str = "{site}") -> str:
        return "unix:" + self.socket(name)

    def environment(self, name: str) -> Mapping[str, str]:
        return {"TENSORWIRE_AGENT": self.address(name)}

    def exchange_of(self, name: str) -> str:
        return os.path.join(self.exchange, f"{name}-exchange")

    def status(self, name: str) -> dict[str, Any]:
        from tensorwire import Agent

        return Agent(self.address(name)).status()

    def left_at(self, name: str) -> tuple[list[str], list[Any], list[Any]]:
        """What lies there: files of programs in the exchange directory, models and transfers."""
        files = [file for file in os.listdir(self.exchange_of(name)) if not file.startswith(".")]
        status = self.status(name)
        return files, status["models"], status["transfers"]

    def describe(self) -> str:
        return json.dumps({name: started.said()[-500:] for name, started in self._started.items()})
