"""The directory in which model files change hands with the agent, where this process may use it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Exchange:
    """``identity`` is what the agent has left there at its start, ``reserve`` the bytes that stay free."""

    path: str
    identity: str
    reserve: int

    @staticmethod
    def of_status(status: dict[str, Any]) -> Exchange | None:
        """None where files cannot change hands there."""
        said = status.get("exchange")
        fields: dict[str, Any] = said if isinstance(said, dict) else {}
        path, identity, reserve = (fields.get(field) for field in ("path", "identity", "reserveBytes"))
        if not isinstance(path, str) or not isinstance(identity, str):
            return None
        exchange = Exchange(path, identity, reserve if isinstance(reserve, int) else 0)
        return exchange if exchange.is_usable() else None

    def is_usable(self) -> bool:
        """Whether it is the one of that path here, in another container it may be another one, or none; and of this user.

        What somebody else writes there the agent could not open, root's files least of all.
        """
        try:
            with open(os.path.join(self.path, ".models", ".identity"), encoding="utf-8") as file:
                is_it = bool(json.loads(file.read(256)) == self.identity)
            return is_it and os.stat(self.path).st_uid == os.geteuid() and os.access(self.path, os.W_OK | os.X_OK)
        except (OSError, ValueError):
            return False
