"""A model piece by piece: in the memory of a piece, whatever its tensors are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .dtype import DTYPE_BYTES
from .errors import TensorwireError
from .model_file import TensorPlace, read_header, tensor_at

_MOST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Chunk:
    """Elements ``first`` and following of a tensor: bytes of its ``dtype``, little-endian."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    first: int
    data: bytearray

    def __len__(self) -> int:
        return len(self.data) // DTYPE_BYTES[self.dtype]

    def numpy(self) -> Any:
        return self._as("numpy")

    def torch(self) -> Any:
        return self._as("torch")

    def _as(self, format: str) -> Any:
        return tensor_at(self.data, TensorPlace(self.name, self.dtype, (len(self),), 0, len(self.data)), 0, format)


class _Readable(Protocol):
    def readinto(self, buffer: Any, /) -> int | None: ...


def chunks_of_file(path: str, chunk_bytes: int) -> Iterator[Chunk]:
    with open(path, "rb", buffering=0) as file:
        yield from chunks_of_stream(file, chunk_bytes)


def chunks_of_stream(stream: _Readable, chunk_bytes: int) -> Iterator[Chunk]:
    """Raises ``INVALID_ARGUMENT`` for chunks of no whole element, ``SOURCE_INVALID`` for what is no safetensors file."""
    if chunk_bytes < max(DTYPE_BYTES.values()):
        raise TensorwireError("INVALID_ARGUMENT", f"a chunk of {chunk_bytes} bytes does not hold one element of every dtype")
    length = int.from_bytes(_exactly(stream, 8), "little")
    if length > _MOST_HEADER_BYTES:
        raise TensorwireError("SOURCE_INVALID", f"a header of {length} bytes is longer than any safetensors file has")
    places, _ = read_header(bytes(_exactly(stream, length)), 0)
    for place in places:
        size = DTYPE_BYTES[place.dtype]
        most = chunk_bytes // size * size
        for begin in range(0, place.end - place.begin, most):
            data = _exactly(stream, min(most, place.end - place.begin - begin))
            yield Chunk(place.name, place.dtype, place.shape, begin // size, data)


def _exactly(stream: _Readable, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = stream.readinto(view)
        if not count:
            raise TensorwireError("SOURCE_INVALID", "the safetensors file ends before its last tensor does")
        view = view[count:]
    return data
