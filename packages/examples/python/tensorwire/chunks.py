"""A model piece by piece: in the memory of a piece, whatever its tensors are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .dtype import DTYPE_BYTES
from .errors import TensorwireError
from .layout import LAYOUT_KEY, Layout
from .model_file import TensorPlace, read_header, tensor_at

_MOST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Chunk:
    """Elements ``first`` and following of a tensor: bytes of its ``dtype``, little-endian; none of one without elements.

    Of names that share a tensor each has the same chunks, with ``data`` of their own, one after the other: ``tied_to`` is the
    first of those names, and None for itself.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    first: int
    data: bytearray
    tied_to: str | None = None

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
    places, metadata = read_header(bytes(_exactly(stream, length)), 0)
    tied: dict[str, list[str]] = {}
    for tied_name, target in Layout.from_text(metadata.get(LAYOUT_KEY), [place.name for place in places]).ties.items():
        tied.setdefault(target, []).append(tied_name)
    for place in places:
        size = DTYPE_BYTES[place.dtype]
        most = chunk_bytes // size * size
        names: list[tuple[str, str | None]] = [(place.name, None), *((other, place.name) for other in tied.get(place.name, ()))]
        for begin in range(0, max(1, place.end - place.begin), most):
            data = _exactly(stream, min(most, place.end - place.begin - begin))
            for at, (name, tied_to) in enumerate(names):
                # What whoever has the one does to it is not done to the other.
                own = data if at == len(names) - 1 else data[:]
                yield Chunk(name, place.dtype, place.shape, begin // size, own, tied_to)


def _exactly(stream: _Readable, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = stream.readinto(view)
        if not count:
            raise TensorwireError("SOURCE_INVALID", "the safetensors file ends before its last tensor does")
        view = view[count:]
    return data
