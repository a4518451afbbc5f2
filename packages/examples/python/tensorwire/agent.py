"""The agent of this machine: what it publishes, and what it fetches."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from .chunks import Chunk, chunks_of_file, chunks_of_stream
from .errands import run_errand
from .errors import TensorwireError, error_from_json
from .exchange import Exchange
from .lasting_body import LastingBody
from .layout import check_format
from .model_file import PORTION_BYTES, MappedModel, OutgoingModel, is_text
from .patience import GONE, PATIENCE, persisting
from .ref import Ref
from .transport import Transport, json_text

_T = TypeVar("_T")


class Agent:
    """A connection to ``tensorwire agent`` (docs/agent.md). Threads may share one.

    Model files change hands in the agent's exchange directory where this process sees it, and in the bodies of requests
    where it does not. An agent that is killed and started anew, or that is busy, is waited for: requests carry ids of their
    own, so that one that is made again is the same.
    """

    def __init__(self, address: str | None = None, token: str | None = None, patience: float = PATIENCE) -> None:
        """``address`` and ``token`` default to the environment (``TENSORWIRE_AGENT``, ``TENSORWIRE_AGENT_TOKEN``, or
        ``TENSORWIRE_AGENT_TOKEN_FILE``)."""
        self._transport = Transport(address, token)
        self._patience = patience
        self._exchange: Exchange | None = None

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
        travel once; big-endian ones come back little-endian. ``written`` is told of the file in the exchange directory,
        mapped, before it is the agent's; where it turns out to be another directory by then, once more.
        Raises ``INVALID_ARGUMENT`` for values that are no tensors, ``TARGET_FULL``, and whatever the agent fails with.
        """
        if name is not None and not is_text(name):
            raise TensorwireError("INVALID_ARGUMENT", f"{name!r} is no name for a model")
        model = OutgoingModel(tensors, metadata)
        terms: dict[str, Any] = {}
        if codec is not None:
            terms["codec"] = codec
        if policy is not None:
            terms["policy"] = policy
        if compress is not None:
            terms["compress"] = compress
        if expires_seconds is not None:
            terms["expiresSeconds"] = _seconds(expires_seconds)
        name = name or f"python/{uuid.uuid4()}"
        exchange = self._persisting(self._exchange_of_agent)
        try:
            return self._publish(model, name, terms, exchange, written)
        except TensorwireError as error:
            # One that was started anew with another --exchange takes nothing out of the one that it had.
            if error.code != "FORBIDDEN" or exchange is None:
                raise
            self._exchange = None
            another = self._persisting(self._exchange_of_agent)
            if another == exchange:
                raise
        return self._publish(model, name, terms, another, written)

    def _publish(
        self,
        model: OutgoingModel,
        name: str,
        terms: Mapping[str, Any],
        exchange: Exchange | None,
        written: Callable[[MappedModel], None] | None,
    ) -> Ref:
        transfer = str(uuid.uuid4())
        terms = {"id": transfer, **terms}
        path = None if exchange is None else os.path.join(exchange.path, f"{transfer}.safetensors")
        again: Callable[[], Any] | None = None
        if path is None or exchange is None:
            query = urlencode({key: value if isinstance(value, str) else json_text(value) for key, value in terms.items()})
            target = f"/v1/models/{quote(name)}?{query}"
            ask = lambda: self._transport.upload(target, model.portions(), model.bytes)  # noqa: E731
        else:
            request = {"name": name, "path": path, "consume": True, **terms}
            ask = again = lambda: self._transport.request("POST", "/v1/models", request)
            model.write(path, exchange.reserve)
        try:
            if path is not None and written is not None:
                written(MappedModel(path))
            self._persisting(ask)
            ref = Ref.from_json(self._outcome(transfer, again).get("ref"))
        except BaseException:
            # What was not published is given back.
            self._forget(transfer, path)
            raise
        self._forget(transfer)
        return ref

    def fetch(self, ref: Ref, *, format: str | None = None, output_dtype: str | None = None) -> dict[str, Any]:
        """The tensors of a reference, mapped: nothing of them is read before it is looked at.

        They are numpy arrays or torch tensors as they were published, unless ``format`` says "numpy" or "torch". They may be
        written to, which stays in this process. One that lies unaligned in the file, as ``output_dtype`` may leave it, is
        read and copied. Their file is gone from its folder at once, and from the disk with the last
        of them. Raises ``REFERENCE_EXPIRED``, ``NOT_FOUND``, ``DIGEST_MISMATCH``, and whatever else the agent fails with.
        """
        check_format(format)
        return self.fetch_model(ref, output_dtype=output_dtype).tensors(format)

    def fetch_model(self, ref: Ref, *, output_dtype: str | None = None) -> MappedModel:
        """The same, with the model's metadata."""
        with _Fetched(self, ref, output_dtype) as fetched:
            path = fetched.path
            return MappedModel(path) if path is not None else self._spooled(fetched.transfer)

    def chunks(self, ref: Ref, chunk_bytes: int = PORTION_BYTES, *, output_dtype: str | None = None) -> Iterator[Chunk]:
        """The same model piece by piece, in the file's order, in no more memory than a piece takes, or two of a tied tensor.

        Each tensor has at least one chunk, and tied ones have theirs under each name (``Chunk.tied_to``).
        """
        with _Fetched(self, ref, output_dtype) as fetched:
            path = fetched.path
            if path is not None:
                yield from chunks_of_file(path, chunk_bytes)
                return
            with self._body(fetched.transfer) as body:
                yield from chunks_of_stream(body, chunk_bytes)

    def free(self, ref: Ref) -> None:
        """Frees a published model: it is not an error where it is gone already."""
        _check_ref(ref)
        target = f"/v1/models/{quote(ref.name)}?{urlencode({'transfer': ref.transfer})}"
        try:
            self._transport.request("DELETE", target)
        except TensorwireError as error:
            if error.code not in ("NOT_FOUND", "REFERENCE_EXPIRED"):
                raise

    def _exchange_of_agent(self) -> Exchange | None:
        # Looked at each time: the agent may have been started anew just now, and leaves another identity then.
        exchange = self._exchange
        if exchange is None or not exchange.is_usable():
            self._exchange = exchange = Exchange.of_status(self.status())
        return exchange

    def _persisting(self, request: Callable[[], _T]) -> _T:
        return persisting(request, self._patience)

    def _body(self, transfer: str) -> LastingBody:
        return LastingBody(self._transport, f"/v1/fetches/{transfer}/body", self._patience)

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
        if error.code not in (*GONE, "UNAUTHORIZED"):
            return error
        # It says who is gone, or who asks for a credential, and not of which agent.
        message = f"{error.message}: the agent at {self.address} has given up"
        return TensorwireError(error.code, message, retryable=error.retryable, peer_code=error.peer_code)

    def _spooled(self, transfer: str) -> MappedModel:
        """The model out of the body, by way of a file without a name."""
        import tempfile

        with tempfile.NamedTemporaryFile(prefix="tensorwire-", suffix=".safetensors") as file:
            portion = memoryview(bytearray(PORTION_BYTES))
            with self._body(transfer) as body:
                while count := body.readinto(portion):
                    file.write(portion[:count])
            file.flush()
            return MappedModel(file.name)

    def _forget(self, transfer: str, path: str | None = None) -> None:
        """Frees what the agent has of a transfer; at ``path`` is, or will be when it is given back, what nobody wants."""

        def forget() -> None:
            try:
                self._transport.request("DELETE", f"/v1/transfers/{transfer}")
            finally:
                if path is not None:
                    _unlink(path)

        run_errand(forget, self._patience)


class _Fetched:
    """A fetch at the agent, which is freed there when it has been used."""

    def __init__(self, agent: Agent, ref: Ref, output_dtype: str | None) -> None:
        _check_ref(ref)
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


def _check_ref(ref: Any) -> None:
    if not isinstance(ref, Ref):
        message = f"a model is named by its Ref, and this is a {type(ref).__name__}"
        raise TensorwireError("INVALID_ARGUMENT", f"{message}: of what to_json() gave, tensorwire.Ref.from_json() makes one again")


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise TensorwireError("INVALID_ARGUMENT", f"expires_seconds is a number of seconds, and {value!r} is none")
    return int(value) if isinstance(value, Integral) else float(value)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # It is swept, at the latest.
