"""What is published once for many receivers, and freed when the framework has dropped it."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from typing import Any

from .agent import Agent
from .errors import TensorwireError
from .ref import Ref


class _Publication:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.agent: Agent | None = None
        self.ref: Ref | None = None
        self.tensors: list[weakref.ref[Any]] = []

    def is_of(self, tensors: list[Any]) -> bool:
        return len(tensors) == len(self.tensors) and all(mine() is his for mine, his in zip(self.tensors, tensors))

    def dropped(self) -> bool:
        return self.ref is not None and not any(tensor() is not None for tensor in self.tensors)


class Publications:
    """Publications by the dictionary that they are of, as long as its tensors live. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[Any, _Publication] = {}
        atexit.register(_free_all, weakref.ref(self))

    def of(self, task: Any, data: dict[str, Any], names: list[str], agent: Agent, publish: Callable[[], Ref]) -> Ref:
        """The reference of these tensors of ``data``: theirs from before in the same task, or else what ``publish`` makes.

        ``publish`` may put other objects into ``data`` that are worth the same.
        """
        key = (task, id(data))
        with self._lock:
            gone = [old for old, publication in self._all.items() if publication.dropped()]
            left = [self._all.pop(old) for old in gone]
            mine = self._all.setdefault(key, _Publication())
        for publication in left:
            _free(publication)
        with mine.lock:
            if mine.ref is None or not mine.is_of([data[name] for name in names]):
                _free(mine)
                mine.ref, mine.agent = publish(), agent
                mine.tensors = [weakref.ref(data[name]) for name in names]
            return mine.ref

    def free(self) -> None:
        with self._lock:
            left = list(self._all.values())
            self._all.clear()
        for publication in left:
            _free(publication)


def _free(publication: _Publication) -> None:
    ref, publication.ref = publication.ref, None
    if ref is None or publication.agent is None:
        return
    try:
        publication.agent.free(ref)
    except TensorwireError:
        pass  # It expires there.


def _free_all(publications: weakref.ref[Publications]) -> None:
    mine = publications()
    if mine is not None:
        mine.free()
