"""Requests that nobody waits for: made of errors here, and of no agent."""

from __future__ import annotations

import os
import threading

import pytest

from conftest import eventually
from tensorwire import TensorwireError, errands
from tensorwire.errands import run_errand


class Request:
    """Fails so many times."""

    def __init__(self, failures: int, code: str = "CHANNEL_OPEN") -> None:
        self.made = 0
        self._failures, self._code = failures, code

    def __call__(self) -> None:
        self.made += 1
        if self.made <= self._failures:
            raise TensorwireError(self._code, "not now")


def running() -> bool:
    return any(thread.name == "tensorwire-errands" for thread in threading.enumerate())


def test_what_passes_is_tried_again_and_nothing_else_is() -> None:
    passing, refused = Request(2), Request(9, "NOT_FOUND")
    run_errand(passing)
    run_errand(refused)
    assert (passing.made, refused.made) == (1, 1)
    eventually(lambda: not running())
    assert (passing.made, refused.made) == (3, 1)


def test_patience_and_what_waits_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "MOST_WAITING", 1)
    hopeless, late = Request(1000), Request(1)
    run_errand(hopeless, patience=0.1)
    run_errand(late)
    eventually(lambda: not running())
    assert (hopeless.made, late.made) == (2, 1)


def test_a_process_that_was_forked_has_its_own() -> None:
    held = Request(3)
    run_errand(held)
    child = os.fork()
    if child == 0:
        mine = Request(1)
        run_errand(mine)
        eventually(lambda: not running())
        os._exit(10 * mine.made + held.made)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 21
    eventually(lambda: not running())
    assert held.made == 4
