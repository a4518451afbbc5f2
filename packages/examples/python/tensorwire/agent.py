"""The agent of this machine: what it publishes, and what it fetches."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from .chunks import Chunk, chunks_of_file, chunks_of_stream
from .errors import TensorwireError, error_from_json
from .model_file import PORTION_BYTES, MappedModel, OutgoingModel
from .ref import Ref
from .transport import Transport

#: Seconds for which an agent that is gone is waited for: it may be on its way back.
PATIENCE = 60.0

_GONE = ("CHANNEL_OPEN", "CHANNEL_CLOSED")
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Exchange:
    path: str
    shared: bool
    reserve: int


class Agent:
    """A connection to ``tensorwire agent`` (docs/agent.md). Threads may share one.

    Model files change hands in the agent's exchange directory where this process sees it, and in the bodies of requests
    where it does not. An agent that is killed and started anew is waited for: requests carry ids of their own, so that
    one that is made again is the same.
    """

    def __init__(self, address: str | None = None, token: str | None = None, patience: float = PATIENCE) -> None:
        """``address`` and ``token`` default to the environment (``TENSORWIRE_AGENT``, ``TENSORWIRE_AGENT_TOKEN``, or
        ``TENSORWIRE_AGENT_TOKEN_FILE``)."""
        self._transport = Transport(address, token)
        self._patience = patience
        self._exchange: _Exchange | None = None

    @property
    def address(self) -> str:
        return self._transport.address

    def status(self) -> dict[str, Any]:
        """What the agent says of itself. Raises ``VERSION_UNSUPPORTED`` where it speaks another version."""
        status = self._transport.request("GET", "/v1/status")
        if not isinstance(status, dict) or status.get("api") != 1:
            raise TensorwireError(
                "VERSION_UNSUPPORTED",
                f"the agent at {self.address} has another interface than version 1: "
                "install the same release of the agent and of the package 'tensorwire'",
            )
        return status

    def publish(
        self,
        tensors: Mapping[str, Any],
        name: str | None = None,
        *,
        codec: str | Mapping[str, Any] | None = None,
        policy: Any = None,
        metadata: Mapping[str, str] | None = None,
        expires_seconds: float | None = None,
        compress: str | None = None,
        written: Callable[[MappedModel], None] | None = None,
    ) -> Ref:
        """Publishes numpy arrays and torch tensors. When it returns, whoever has the reference can fetch them.

        Nothing holds on to the tensors, and no copy of the model is made in memory. Arrays that are one and the same
        travel once. ``written`` is told of the file in the exchange directory, mapped, before it is the agent's.
        Raises ``INVALID_ARGUMENT`` for values that are no tensors, ``TARGET_FULL``, and whatever the agent fails with.
        """
        model = OutgoingModel(tensors, metadata)
        transfer = str(uuid.uuid4())
        terms: dict[str, Any] = {"id": transfer}
        if codec is not None:
            terms["codec"] = codec
        if policy is not None:
            terms["policy"] = policy
        if compress is not None:
            terms["compress"] = compress
        if expires_seconds is not None:
            terms["expiresSeconds"] = expires_seconds
        name = name or f"python/{transfer}"
        exchange = self._persisting(self._exchange_of_agent)
        if exchange.shared:
            done = self._publish_file(model, name, terms, exchange, written)
        else:
            query = urlencode({key: value if isinstance(value, str) else _json(value) for key, value in terms.items()})
            target = f"/v1/models/{quote(name)}?{query}"
            self._persisting(lambda: self._transport.upload(target, model.portions(), model.bytes))
            done = self._outcome(transfer, None)
        ref = Ref.from_json(done.get("ref"))
        self._forget(transfer)
        return ref

    def _publish_file(
        self,
        model: OutgoingModel,
        name: str,
        terms: Mapping[str, Any],
        exchange: _Exchange,
        written: Callable[[MappedModel], None] | None,
    ) -> dict[str, Any]:
        path = os.path.join(exchange.path, f"{terms['id']}.safetensors")
        request = {"name": name, "path": path, "consume": True, **terms}
        ask = lambda: self._transport.request("POST", "/v1/models", request)  # noqa: E731
        model.write(path, exchange.reserve)
        try:
            if written is not None:
                written(MappedModel(path))
            self._persisting(ask)
            return self._outcome(terms["id"], ask)
        except BaseException:
            # What was not published is given back.
            self._forget(terms["id"])
            _unlink(path)
            raise

    def fetch(self, ref: Ref, *, format: str | None = None, output_dtype: str | None = None) -> dict[str, Any]:
        """The tensors of a reference, mapped: nothing of them is read before it is looked at.

        They are numpy arrays or torch tensors as they were published, unless ``format`` says "numpy" or "torch". They may be
        written to, which stays in this process. Their file is gone from its folder at once, and from the disk with the last
        of them. Raises ``REFERENCE_EXPIRED``, ``NOT_FOUND``, ``DIGEST_MISMATCH``, and whatever else the agent fails with.
        """
        return self.fetch_model(ref, output_dtype=output_dtype).tensors(format)

    def fetch_model(self, ref: Ref, *, output_dtype: str | None = None) -> MappedModel:
        """The same, with the model's metadata."""
        with _Fetched(self, ref, output_dtype) as fetched:
            path = fetched.path
            return MappedModel(path) if path is not None else self._spooled(fetched.transfer, ref)

    def chunks(self, ref: Ref, chunk_bytes: int = PORTION_BYTES, *, output_dtype: str | None = None) -> Iterator[Chunk]:
        """The same model piece by piece, in the file's order, in no more memory than a piece takes."""
        with _Fetched(self, ref, output_dtype) as fetched:
            path = fetched.path
            if path is not None:
                yield from chunks_of_file(path, chunk_bytes)
                return
            with self._transport.body(f"/v1/fetches/{fetched.transfer}/body") as body:
                yield from chunks_of_stream(body, chunk_bytes)

    def free(self, ref: Ref) -> None:
        """Frees a published model: it is not an error where it is gone already."""
        target = f"/v1/models/{quote(ref.name)}?{urlencode({'transfer': ref.transfer})}"
        try:
            self._transport.request("DELETE", target)
        except TensorwireError as error:
            if error.code not in ("NOT_FOUND", "REFERENCE_EXPIRED"):
                raise

    def _exchange_of_agent(self) -> _Exchange:
        if self._exchange is not None:
            return self._exchange
        said = self.status().get("exchange")
        fields: dict[str, Any] = said if isinstance(said, dict) else {}
        path, identity, reserve = (fields.get(field) for field in ("path", "identity", "reserveBytes"))
        if not isinstance(path, str) or not isinstance(identity, str) or not _is_the_agents(path, identity):
            return _Exchange("", False, 0)  # Asked for again next time: the agent may have been started anew just now.
        self._exchange = _Exchange(path, True, reserve if isinstance(reserve, int) else 0)
        return self._exchange

    def _persisting(self, request: Callable[[], _T]) -> _T:
        """Makes a request again, while the agent is away, until patience ends."""
        until = time.monotonic() + self._patience
        pause = 0.05
        while True:
            try:
                return request()
            except TensorwireError as error:
                if error.code not in _GONE or time.monotonic() + pause > until:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _outcome(self, transfer: str, again: Callable[[], Any] | None) -> dict[str, Any]:
        """Waits until a transfer is over. ``again`` asks for it once more where the agent does not know it."""
        while True:
            try:
                state = self._persisting(lambda: self._transport.request("GET", f"/v1/transfers/{transfer}?wait=30"))
            except TensorwireError as error:
                if error.code != "NOT_FOUND" or again is None:
                    raise
                self._persisting(again)
                continue
            match state.get("state") if isinstance(state, dict) else None:
                case "running":
                    continue
                case "done":
                    return dict(state)
                case "failed":
                    raise self._failed(state.get("error"), transfer)
                case "cancelled":
                    raise TensorwireError("ABORTED", f"transfer {transfer} was cancelled at the agent")
                case _:
                    raise TensorwireError("PROTOCOL", f"the agent at {self.address} says nothing of transfer {transfer}")

    def _failed(self, said: Any, transfer: str) -> TensorwireError:
        error = error_from_json(said, f"transfer {transfer} failed, and the agent at {self.address} does not say why")
        if error.code not in (*_GONE, "UNAUTHORIZED"):
            return error
        # It says who is gone, or who asks for a credential, and not of which agent.
        message = f"{error.message}: the agent at {self.address} has given up"
        return TensorwireError(error.code, message, retryable=error.retryable, peer_code=error.peer_code)

    def _spooled(self, transfer: str, ref: Ref) -> MappedModel:
        """The model out of the body, by way of a file without a name."""
        import tempfile

        with tempfile.NamedTemporaryFile(prefix="tensorwire-", suffix=".safetensors") as file:
            portion = memoryview(bytearray(PORTION_BYTES))

            def spool() -> None:
                file.seek(0)
                file.truncate()
                with self._transport.body(f"/v1/fetches/{transfer}/body") as body:
                    while count := body.readinto(portion):
                        file.write(portion[:count])
                file.flush()

            self._persisting(spool)
            return MappedModel(file.name)

    def _forget(self, transfer: str) -> None:
        try:
            self._transport.request("DELETE", f"/v1/transfers/{transfer}")
        except TensorwireError:
            pass  # It expires there.


class _Fetched:
    """A fetch at the agent, which is freed there when it has been used."""

    def __init__(self, agent: Agent, ref: Ref, output_dtype: str | None) -> None:
        self._agent = agent
        self.transfer = str(uuid.uuid4())
        self._request: dict[str, Any] = {"id": self.transfer, "ref": ref.to_json()}
        if output_dtype is not None:
            self._request["outputDtype"] = output_dtype
        #: None where this process does not see the agent's files.
        self.path: str | None = None

    def __enter__(self) -> _Fetched:
        agent = self._agent
        ask = lambda: agent._transport.request("POST", "/v1/fetches", self._request)  # noqa: E731
        try:
            agent._persisting(ask)
            path = agent._outcome(self.transfer, ask).get("path")
        except BaseException:
            agent._forget(self.transfer)
            raise
        self.path = path if isinstance(path, str) and os.access(path, os.R_OK) else None
        return self

    def __exit__(self, *_: object) -> None:
        self._agent._forget(self.transfer)


def _json(value: Any) -> str:
    return json.dumps(value)


def _is_the_agents(path: str, identity: str) -> bool:
    """Whether the agent's directory is the one of that path here: in another container it may be another one, or none."""
    try:
        with open(os.path.join(path, ".models", ".identity"), encoding="utf-8") as file:
            return bool(json.loads(file.read(256)) == identity) and os.access(path, os.W_OK | os.X_OK)
    except (OSError, ValueError):
        return False


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
