"""What is published once for many receivers, and freed when the framework has dropped it."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any

from .agent import Agent
from .errands import run_errand
from .ref import Ref


class _Publication:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.agent: Agent | None = None
        self.ref: Ref | None = None
        self.tensors: list[weakref.ref[Any]] = []

    def note(self, agent: Agent, ref: Ref | None, tensors: list[Any]) -> None:
        self.agent, self.ref = agent, ref
        # The last tensor to go tells the thread below: a collector of garbage is no place for requests.
        self.tensors = [weakref.ref(tensor, lambda _: _dropped.put(self)) for tensor in tensors]

    def is_of(self, tensors: list[Any]) -> bool:
        return len(tensors) == len(self.tensors) and all(mine() is his for mine, his in zip(self.tensors, tensors))

    def is_dropped(self) -> bool:
        return not any(tensor() is not None for tensor in self.tensors)

    def free(self) -> None:
        ref, self.ref = self.ref, None
        if ref is not None and self.agent is not None:
            run_errand(partial(self.agent.free, ref))


_dropped: SimpleQueue[_Publication] = SimpleQueue()
_starting = threading.Lock()
_freeing: threading.Thread | None = None


def _free_what_is_dropped() -> None:
    while True:
        publication = _dropped.get()
        # Not while it is published anew: what has taken the place of the old tensors is theirs then.
        with publication.lock:
            if publication.is_dropped():
                publication.free()


def _start_freeing() -> None:
    global _freeing
    with _starting:
        # A process that was forked has the variable, and not the thread.
        if _freeing is None or not _freeing.is_alive():
            _freeing = threading.Thread(target=_free_what_is_dropped, name="tensorwire-free", daemon=True)
            _freeing.start()


class Publications:
    """Publications by the dictionary that they are of, as long as its tensors live. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[Any, _Publication] = {}
        atexit.register(_free_all, weakref.ref(self))

    def of(self, task: Any, data: Mapping[str, Any], names: list[str], agent: Agent, publish: Callable[[], Ref | None]) -> Ref | None:
        """The reference of these tensors of ``data``: theirs from before in the same task, or else what ``publish`` makes.

        ``publish`` may put other objects into ``data`` that are worth the same.
        """
        _start_freeing()
        key = (task, id(data))
        while True:
            mine = self._entry(key)
            with mine.lock:
                if self._all.get(key) is not mine:
                    continue  # While this one waited, another one has failed to publish.
                if mine.ref is None or not mine.is_of([data[name] for name in names]):
                    mine.free()
                    mine.tensors = []  # Those from before may go now, which drops nothing.
                    try:
                        ref = publish()
                    except BaseException:
                        self._forget(key, mine)
                        raise
                    mine.note(agent, ref, [data[name] for name in names])
                return mine.ref

    def _entry(self, key: Any) -> _Publication:
        with self._lock:
            for other in [other for other, old in self._all.items() if old.tensors and old.is_dropped()]:
                del self._all[other]
            return self._all.setdefault(key, _Publication())

    def _forget(self, key: Any, mine: _Publication) -> None:
        with self._lock:
            if self._all.get(key) is mine:
                del self._all[key]

    def free(self) -> None:
        with self._lock:
            left = list(self._all.values())
            self._all.clear()
        for publication in left:
            publication.free()


def _free_all(publications: weakref.ref[Publications]) -> None:
    mine = publications()
    if mine is not None:
        mine.free()
