"""A step of training that stands still in the middle of a round, and whoever waits for that.

Goes into apps and jobs as a file of theirs too: it needs nothing but Python.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

_Step = Callable[[Mapping[str, Any], int], dict[str, Any]]


def holding(step: _Step, site: int, folder: str) -> _Step:
    """The first time, at that site: the model is there, and the reply is not yet made."""

    def held(tensors: Mapping[str, Any], at: int) -> dict[str, Any]:
        if at == site and not os.path.exists(os.path.join(folder, "held")):
            with open("/proc/self/maps", encoding="utf-8") as maps:
                mapped = [line.split(maxsplit=5)[5].strip() for line in maps if "-exchange/" in line]
            with open(os.path.join(folder, "draft"), "w", encoding="utf-8") as note:
                json.dump({"pid": os.getpid(), "mapped": mapped}, note)
            os.rename(os.path.join(folder, "draft"), os.path.join(folder, "held"))
            while not os.path.exists(os.path.join(folder, "released")):
                time.sleep(0.02)
        return step(tensors, at)

    return held


class MidRound:
    """Calls ``act`` when a step is held in ``folder``, and then lets it go on."""

    def __init__(self, folder: str, act: Callable[[Any], None] | None) -> None:
        self._folder = folder
        self._act = act
        self._ended = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._watch)
        #: What the process that was held has said of itself.
        self.held: dict[str, Any] = {}

    def begin(self, *_: Any) -> None:
        self._thread.start()

    def end(self) -> None:
        """Raises what went wrong meanwhile."""
        self._ended.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed
        assert bool(self.held) == (self._act is not None), "nothing was held"

    def _watch(self) -> None:
        held = os.path.join(self._folder, "held")
        try:
            while not os.path.exists(held):
                if self._ended.wait(0.02):
                    return
            with open(held, encoding="utf-8") as note:
                self.held = json.load(note)
            assert self._act is not None
            self._act(self.held)
        except BaseException as error:
            self._failed = error
        finally:
            with open(os.path.join(self._folder, "released"), "w", encoding="utf-8"):
                pass
