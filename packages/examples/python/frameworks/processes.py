"""Processes that a measurement starts, and what those and their children take of memory."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: In the environment of a process, and of all that it starts, in whatever session those are.
MARK = "TENSORWIRE_MEASURED"


class Started:
    """A process that ends with all that it has started."""

    def __init__(self, command: Sequence[str], log: str, environment: Mapping[str, str] | None = None, folder: str | None = None) -> None:
        self.log = log
        self.mark = str(uuid.uuid4())
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(environment or {}), MARK: self.mark},
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait(self, seconds: float) -> int:
        return self._process.wait(seconds)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def says(self, text: str, seconds: float = 30) -> None:
        """Waits until its log has the text."""
        until = time.monotonic() + seconds
        while text not in self.said():
            if not self.running or time.monotonic() > until:
                raise RuntimeError(f"{text!r} was not said:\n{self.said()[-3000:]}")
            time.sleep(0.05)

    def said(self) -> str:
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def all(self) -> list[int]:
        """This process, and those that came of it."""
        return [pid for pid in pids() if mark_of(pid) == self.mark]

    def kill(self) -> None:
        """At once, with no word to them."""
        for pid in self.all():
            _signal(pid, signal.SIGKILL)
        self._process.wait()

    def end(self, seconds: float = 10) -> None:
        if self.running:
            _signal(self.pid, signal.SIGTERM)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        self.kill()


@dataclass
class Peak:
    """The most that a role's processes took, in bytes: of one process, by kind of memory."""

    rss: int = 0
    anonymous: int = 0
    file: int = 0
    shared: int = 0


class MemoryWatch:
    """Looks at the processes that have a role, ten times a second."""

    def __init__(self, role_of: Callable[[str, str], str | None]) -> None:
        """A role is by the mark of what a process came of, and its command."""
        self._role_of = role_of
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peaks: dict[str, Peak] = {}
        self._folders: list[str] = []
        self.stored = 0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._end.set()
        self._thread.join()

    def also_store(self, folder: str) -> None:
        """A folder whose files count as stored."""
        self._folders.append(folder)

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            for pid in pids():
                self._look(pid)
            self.stored = max(self.stored, sum(_size(folder) for folder in self._folders))

    def _look(self, pid: int) -> None:
        mark = mark_of(pid)
        role = None if mark is None else self._role_of(mark, command_of(pid))
        if role is None:
            return
        try:
            with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
                fields = dict(line.split(":", 1) for line in status)
        except (OSError, ValueError):
            return
        peak = self.peaks.setdefault(role, Peak())
        for attribute, field in (
            ("rss", "VmRSS"),
            ("anonymous", "RssAnon"),
            ("file", "RssFile"),
            ("shared", "RssShmem"),
        ):
            size = int(fields.get(field, "0").split()[0]) * 1024
            setattr(peak, attribute, max(getattr(peak, attribute), size))


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def mark_of(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            fields = file.read().split(b"\0")
    except OSError:
        return None
    prefix = f"{MARK}=".encode()
    return next((field[len(prefix) :].decode() for field in fields if field.startswith(prefix)), None)


def command_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _size(folder: str) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.stat(os.path.join(place, file)).st_blocks * 512
            except OSError:
                pass
    return total
