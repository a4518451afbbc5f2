"""Requests for whose answer no program waits: to free what it has used, as a rule."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from .errors import TensorwireError
from .patience import PATIENCE, passes

#: What waits at once: one more is left to expire at the agent.
MOST_WAITING = 1024

_PAUSE = 0.5


class _Errands:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, Callable[[], object]]] = []
        self._thread: threading.Thread | None = None

    def add(self, request: Callable[[], object], patience: float) -> None:
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                return
            self._waiting.append((time.monotonic() + patience, request))
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="tensorwire-errands", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # The process ends.
                self._thread = thread

    def _run(self) -> None:
        while True:
            time.sleep(_PAUSE)
            with self._lock:
                waiting = list(self._waiting)
            over = [errand for errand in waiting if _is_done(errand[1]) or time.monotonic() > errand[0]]
            with self._lock:
                self._waiting = [errand for errand in self._waiting if errand not in over]
                if not self._waiting:
                    self._thread = None
                    return


_errands = _Errands()


def _after_fork() -> None:
    # The thread has stayed with the parent, which runs its errands itself; the lock may be held for ever here.
    global _errands
    _errands = _Errands()


os.register_at_fork(after_in_child=_after_fork)


def run_errand(request: Callable[[], object], patience: float = PATIENCE) -> None:
    """Makes a request: where it fails by what passes, again in the background, as long as patience, and the process, last.

    Whatever else it fails with is nobody's business: what it would have freed expires.
    """
    if not _is_done(request):
        _errands.add(request, patience)


def _is_done(request: Callable[[], object]) -> bool:
    try:
        request()
    except TensorwireError as error:
        return not passes(error)
    return True
