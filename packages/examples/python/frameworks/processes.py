"""Processes that a measurement starts, and what those and their children take of memory."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class Started:
    """A process in a session of its own: it ends with all that it has started."""

    def __init__(
        self, command: Sequence[str], log: str, environment: Mapping[str, str] | None = None, folder: str | None = None
    ) -> None:
        self.log = log
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(environment or {})},
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

    def kill(self) -> None:
        """At once, with no word to it."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def end(self, seconds: float = 10) -> None:
        if self.running:
            os.killpg(self.pid, signal.SIGTERM)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()


@dataclass
class Peak:
    """The most that a role's processes took, in bytes: of one process, by kind of memory."""

    rss: int = 0
    anonymous: int = 0
    file: int = 0
    shared: int = 0


class MemoryWatch:
    """Looks at processes of a session, and of those that they start, ten times a second."""

    def __init__(self, role_of: Callable[[int, str], str | None]) -> None:
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
            for name in os.listdir("/proc"):
                if name.isdigit():
                    self._look(int(name))
            self.stored = max(self.stored, sum(_size(folder) for folder in self._folders))

    def _look(self, pid: int) -> None:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace")
            role = self._role_of(pid, command)
            if role is None:
                return
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


def session_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        return int(stat.read().rsplit(")", 1)[1].split()[3])


def _size(folder: str) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.stat(os.path.join(place, file)).st_blocks * 512
            except OSError:
                pass
    return total
