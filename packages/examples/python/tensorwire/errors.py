"""What goes wrong, under the codes of the TypeScript packages (docs/errors.md)."""

from __future__ import annotations

from typing import Any


class TensorwireError(Exception):
    """Decide by ``code`` and ``retryable``, never by the message."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        tensor: str | None = None,
        peer_code: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.tensor = tensor
        self.peer_code = peer_code

    def __reduce__(self) -> Any:
        # Frameworks hand exceptions from process to process: the default would call __init__ with one argument.
        return (_restored, (self.code, self.message, self.retryable, self.tensor, self.peer_code))


def _restored(code: str, message: str, retryable: bool, tensor: str | None, peer_code: str | None) -> TensorwireError:
    return TensorwireError(code, message, retryable=retryable, tensor=tensor, peer_code=peer_code)


def error_from_json(body: Any, otherwise: str) -> TensorwireError:
    """The error that an agent reports as ``{code, message, retryable}``."""
    fields = body if isinstance(body, dict) else {}
    code, message = fields.get("code"), fields.get("message")
    if not isinstance(code, str) or not isinstance(message, str):
        return TensorwireError("PROTOCOL", otherwise)
    tensor, peer_code = fields.get("tensor"), fields.get("peerCode")
    return TensorwireError(
        code,
        message,
        retryable=fields.get("retryable") is True,
        tensor=tensor if isinstance(tensor, str) else None,
        peer_code=peer_code if isinstance(peer_code, str) else None,
    )
