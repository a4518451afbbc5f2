"""HTTP and JSON to the agent of this machine: over its Unix socket, or over loopback with a token."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from .errors import TensorwireError, error_from_json

#: Where the agent is, and what it asks for, unless a program says so itself.
ADDRESS_VARIABLE = "TENSORWIRE_AGENT"
TOKEN_VARIABLE = "TENSORWIRE_AGENT_TOKEN"
TOKEN_FILE_VARIABLE = "TENSORWIRE_AGENT_TOKEN_FILE"

_MOST_ANSWER_BYTES = 16 << 20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def json_text(value: Any) -> str:
    """Raises ``INVALID_ARGUMENT`` for what JSON does not have."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TensorwireError("INVALID_ARGUMENT", f"what is asked of the agent is none of JSON's values: {error}") from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.close()
            raise


class Body:
    """Bytes of an answer: all of them, or ``CHANNEL_CLOSED``. http.client says nothing of an answer that was cut off."""

    def __init__(self, response: http.client.HTTPResponse, address: str) -> None:
        self._response, self._address = response, address

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()

    def readinto(self, buffer: Any, /) -> int:
        try:
            count = self._response.readinto(buffer)
        except (OSError, http.client.HTTPException) as error:
            raise _cut_off(self._address) from error
        if not count and self._response.length:
            raise _cut_off(self._address)
        return count


def _cut_off(address: str) -> TensorwireError:
    return TensorwireError("CHANNEL_CLOSED", f"the agent at {address} went away in the middle of an answer", retryable=True)


class Transport:
    """One request after the other, each over a connection of its own: an agent that is started anew is found again.

    There is no timeout: the kernel says at once when a process of this machine is gone.
    """

    def __init__(self, address: str | None = None, token: str | None = None) -> None:
        """Raises ``INVALID_ARGUMENT`` for an address that is none, or not of this machine."""
        address = address or os.environ.get(ADDRESS_VARIABLE)
        if not address:
            raise TensorwireError(
                "INVALID_ARGUMENT",
                f"where is the agent? Set {ADDRESS_VARIABLE} to unix:/path/to/agent.sock or http://127.0.0.1:PORT",
            )
        self.address = address
        self._token = token
        self._path: str | None = None
        if address.startswith(("unix:", "/")):
            self._path = address.removeprefix("unix:")
        else:
            url = urlsplit(address)
            try:
                port = url.port
            except ValueError:
                port = None
            if url.scheme != "http" or url.hostname not in _LOOPBACK or port is None:
                raise TensorwireError(
                    "INVALID_ARGUMENT", f"{address!r} is no agent's address: unix:/path/to/agent.sock or http://127.0.0.1:PORT"
                )
            self._host, self._port = url.hostname, port

    def request(self, method: str, target: str, body: Any = None) -> Any:
        """The JSON answer. Raises the agent's error, ``CHANNEL_OPEN`` where nobody is there, ``CHANNEL_CLOSED``."""
        data = None if body is None else json_text(body).encode()
        response = self.open(method, target, data, {"content-type": "application/json"} if data else {})
        with response:
            return self._json(response)

    def upload(self, target: str, portions: Iterable[memoryview], size: int) -> Any:
        response = self.open("PUT", target, portions, {"content-type": "application/octet-stream", "content-length": str(size)})
        with response:
            return self._json(response)

    def open(self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        """The answer, whose body is still to be read. Raises as ``request`` does."""
        connection: http.client.HTTPConnection
        if self._path is not None:
            connection = _UnixConnection(self._path)
        else:
            connection = http.client.HTTPConnection(self._host, self._port)
        token = self._bearer()
        headers = {**(headers or {}), "connection": "close"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        try:
            connection.connect()
        except OSError as error:
            raise TensorwireError(
                "CHANNEL_OPEN",
                f"no agent answers at {self.address}: {error.strerror or error}. Start it with 'tensorwire agent'",
                retryable=True,
            ) from error
        refused: OSError | None = None
        try:
            try:
                connection.request(method, target, body, headers)
            except (BrokenPipeError, ConnectionResetError) as error:
                refused = error  # It may have answered before the body was through: the answer says why.
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise TensorwireError(
                "CHANNEL_CLOSED",
                f"the agent at {self.address} went away during a request: {refused or error}",
                retryable=True,
            ) from error
        if response.status < 400:
            return response
        with response:
            answer = self._json(response, of_error=True)
        said = error_from_json(
            answer.get("error") if isinstance(answer, dict) else None,
            f"the agent at {self.address} answered {response.status} to {method} {target}",
        )
        if response.status != 401:
            raise said
        # Whoever reads it in the log of one of many sites is told which agent, and where a token is looked for.
        where = f"set {TOKEN_FILE_VARIABLE} to that file in this program's environment, or {TOKEN_VARIABLE}"
        raise TensorwireError(said.code, f"the agent at {self.address}: {said.message}; {where}")

    def body(self, target: str) -> Body:
        """The body of the answer to a GET. Raises as ``request`` does."""
        return Body(self.open("GET", target), self.address)

    def _json(self, response: http.client.HTTPResponse, of_error: bool = False) -> Any:
        try:
            text = response.read(_MOST_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise TensorwireError(
                "CHANNEL_CLOSED", f"the agent at {self.address} went away during an answer: {error}", retryable=True
            ) from error
        if response.length and len(text) < _MOST_ANSWER_BYTES:
            raise _cut_off(self.address)
        try:
            return json.loads(text)
        except ValueError as error:
            if of_error:
                return None
            raise TensorwireError("PROTOCOL", f"whatever listens at {self.address} is no agent: its answer is no JSON") from error

    def _bearer(self) -> str | None:
        token = self._token or os.environ.get(TOKEN_VARIABLE) or None
        file = os.environ.get(TOKEN_FILE_VARIABLE)
        if token is None and file:
            try:
                with open(file, encoding="ascii") as opened:
                    token = opened.read().strip()
            except (OSError, ValueError) as error:
                raise TensorwireError("INVALID_ARGUMENT", f"cannot read the agent's token in {file}: {error}") from error
        return token
