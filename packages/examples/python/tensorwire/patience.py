"""How long what passes is waited for: an agent that is away may be on its way back, one that is busy has a place again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .errors import TensorwireError

#: Seconds for which an agent that is gone, or busy, is waited for.
PATIENCE = 60.0

#: An agent that went away. Whoever hears of it from an agent hears of another one.
GONE = ("CHANNEL_OPEN", "CHANNEL_CLOSED")

_T = TypeVar("_T")


def passes(error: TensorwireError) -> bool:
    """Whether the same request may be answered some time later.

    A disk that is full is none of that, as to the agent itself: whoever can make room hears of it at once.
    """
    return error.code != "TARGET_FULL" and (error.retryable or error.code in (*GONE, "SERVER_BUSY"))


def persisting(request: Callable[[], _T], patience: float) -> _T:
    """Makes a request again, after what passes, until patience ends."""
    until = time.monotonic() + patience
    pause = 0.05
    while True:
        try:
            return request()
        except TensorwireError as error:
            if not passes(error) or time.monotonic() + pause > until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 1.0)
