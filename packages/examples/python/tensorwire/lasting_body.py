"""A fetched model as the body of answers, over as many connections as it takes."""

from __future__ import annotations

from typing import Any

from .errors import TensorwireError
from .patience import persisting
from .transport import Body, Transport

_SKIPPED_AT_ONCE = 1 << 20


class LastingBody:
    """Bytes that are the same each time they are asked for: after a connection that broke, those that were read are skipped."""

    def __init__(self, transport: Transport, target: str, patience: float) -> None:
        self._transport, self._target, self._patience = transport, target, patience
        self._body: Body | None = None
        self._at = 0

    def __enter__(self) -> LastingBody:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def readinto(self, buffer: Any, /) -> int:
        """Raises as ``Transport.request`` does, when patience has ended."""
        count = persisting(lambda: self._read(buffer), self._patience)
        self._at += count
        return count

    def _read(self, buffer: Any) -> int:
        try:
            if self._body is None:
                self._body = self._transport.body(self._target)
                self._skip(self._body)
            return self._body.readinto(buffer)
        except BaseException:
            self.close()
            raise

    def _skip(self, body: Body) -> None:
        left = self._at
        skipped = memoryview(bytearray(min(left, _SKIPPED_AT_ONCE)))
        while left:
            count = body.readinto(skipped[:left])
            if not count:
                raise TensorwireError("PROTOCOL", f"the body of {self._target} has become shorter than it was")
            left -= count
