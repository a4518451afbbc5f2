"""An agent that goes away in the middle of an answer: an HTTP server plays it, since a real one dies at no given byte."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from tensorwire import Agent, Ref, TensorwireError

MODEL = save({"w": np.arange(100_000, dtype=np.float32)})
REF = Ref("a", "0" * 16, "transfer", 400_000, 2_000_000_000, None)


class Dying(BaseHTTPRequestHandler):
    #: Of the next bodies, so many bytes arrive: of those after them none.
    arriving: list[int] = []
    #: So many requests are answered by what passes.
    busy: list[tuple[int, bytes]] = []

    def _answer(self, status: int, body: bytes, arriving: int) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:arriving])

    def _transfer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.busy:
            return self._answer(*self.busy.pop(0), 1 << 30)
        self._answer(200, b'{"state":"done"}', 1 << 30)

    do_POST = do_DELETE = _transfer

    def do_GET(self) -> None:
        if not self.path.endswith("/body"):
            return self._transfer()
        self._answer(200, MODEL, self.arriving.pop(0) if self.arriving else 0)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dying)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_body_that_is_cut_off_is_asked_for_again(address: str) -> None:
    Dying.arriving = [len(MODEL) // 2, 0, len(MODEL)]
    fetched = Agent(address, "token").fetch(REF)
    np.testing.assert_array_equal(fetched["w"], np.arange(100_000, dtype=np.float32))


def test_chunks_that_are_cut_off_go_on_where_they_were(address: str) -> None:
    Dying.arriving = [len(MODEL) // 2, 0, len(MODEL) // 3, len(MODEL) // 2 + 5, len(MODEL)]
    chunks = list(Agent(address, "token").chunks(REF, 4096))
    np.testing.assert_array_equal(np.concatenate([chunk.numpy() for chunk in chunks]), np.arange(100_000, dtype=np.float32))
    assert Dying.arriving == []


def test_chunks_that_stay_cut_off_say_so(address: str) -> None:
    Dying.arriving = [len(MODEL) // 2]
    with pytest.raises(TensorwireError) as caught:
        list(Agent(address, "token", patience=0.3).chunks(REF, 4096))
    assert (caught.value.code, caught.value.retryable) == ("CHANNEL_CLOSED", True)


BUSY = b'{"error": {"code": "SERVER_BUSY", "message": "64 transfers are under way", "retryable": true}}'
TIMEOUT = b'{"error": {"code": "STALL_TIMEOUT", "message": "nothing has moved", "retryable": true}}'
FULL = b'{"error": {"code": "TARGET_FULL", "message": "no room", "retryable": true}}'


def test_an_agent_that_is_busy_is_waited_for(address: str) -> None:
    Dying.busy = [(503, BUSY), (502, TIMEOUT), (503, BUSY)]
    Dying.arriving = [len(MODEL)]
    assert Agent(address, "token").fetch(REF)["w"].size == 100_000
    assert Dying.busy == []


@pytest.mark.parametrize(("answers", "code"), [([(503, BUSY)] * 100, "SERVER_BUSY"), ([(507, FULL)], "TARGET_FULL")])
def test_an_agent_that_stays_busy_or_whose_disk_is_full_says_so(address: str, answers: list[tuple[int, bytes]], code: str) -> None:
    Dying.busy = list(answers)
    with pytest.raises(TensorwireError) as caught:
        Agent(address, "token", patience=0.2).fetch(REF)
    Dying.busy = []
    assert (caught.value.code, caught.value.retryable) == (code, True)


def test_addresses_that_are_none() -> None:
    for wrong in ("http://127.0.0.1:99999", "http://127.0.0.1", "https://127.0.0.1:1", "http://server:1"):
        with pytest.raises(TensorwireError) as caught:
            Agent(wrong)
        assert caught.value.code == "INVALID_ARGUMENT", wrong
