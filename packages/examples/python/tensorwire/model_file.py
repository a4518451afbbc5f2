"""Safetensors files: written from tensors without a copy of the model, and mapped into memory."""

from __future__ import annotations

import errno
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from .dtype import DTYPE_BYTES, dtype_of, is_tensor, numpy_dtype, torch_dtype, torch_module
from .errors import TensorwireError
from .layout import LAYOUT_KEY, Layout, check_format, layout_of

#: One write, or one portion of a body: large enough to be one of few, small enough to be no memory.
PORTION_BYTES = 4 << 20

_MOST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class TensorPlace:
    """A tensor of a file: ``begin`` and ``end`` count from the file's first byte."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class OutgoingModel:
    """Tensors as the bytes of a safetensors file, portion by portion."""

    def __init__(self, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
        """Raises ``INVALID_ARGUMENT`` for a name or value that a safetensors file cannot hold."""
        for what, given in (("tensors", tensors), ("metadata", {} if metadata is None else metadata)):
            if not isinstance(given, Mapping):
                raise TensorwireError("INVALID_ARGUMENT", f"{what} are a mapping by name, and no {type(given).__name__}")
        for name, value in tensors.items():
            check_tensor(name, value)
        for key, text in (metadata or {}).items():
            if not is_text(key) or not is_text(text):
                raise TensorwireError("INVALID_ARGUMENT", f"metadata is text by text, and that of {key!r} is not")
            if key == LAYOUT_KEY:
                raise TensorwireError("INVALID_ARGUMENT", f"metadata {key!r} says how tensors were held, and is written by this package")
        layout, travelling = layout_of(tensors)
        # Wide dtypes first: every tensor then begins at a multiple of its element, and can be used where it lies.
        self._tensors = dict(sorted(travelling.items(), key=lambda item: -DTYPE_BYTES[_dtype(item[1])]))
        if layout.order == list(self._tensors):
            layout.order = None
        header: dict[str, Any] = {"__metadata__": {**(metadata or {}), LAYOUT_KEY: layout.to_text()}}
        offset = 0
        for name, value in self._tensors.items():
            dtype, shape = _dtype(value), tuple(value.shape)
            end = offset + prod(shape) * DTYPE_BYTES[dtype]
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
            offset = end
        encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        encoded += b" " * (-len(encoded) % 8)
        self._header = len(encoded).to_bytes(8, "little") + encoded
        self.bytes = len(self._header) + offset

    def portions(self) -> Iterator[memoryview]:
        yield memoryview(self._header)
        for value in self._tensors.values():
            whole = bytes_of(value)
            for begin in range(0, len(whole), PORTION_BYTES):
                yield whole[begin : begin + PORTION_BYTES]

    def write(self, path: str, reserve: int = 0) -> None:
        """Writes a new file, this user's alone, where ``reserve`` bytes stay free besides.

        Raises ``TARGET_FULL`` and ``TARGET_WRITE``, and leaves nothing then.
        """
        folder = os.path.dirname(path)
        try:
            room = os.statvfs(folder)
            free = room.f_bavail * room.f_frsize
            if free < self.bytes + reserve:
                raise TensorwireError(
                    "TARGET_FULL",
                    f"{folder} has {free >> 20} MiB left, of which {reserve >> 20} stay free, and the model takes "
                    f"{self.bytes >> 20} MiB: free some, or give the agent another --exchange",
                    retryable=True,
                )
            descriptor, nameless = _new_file(path)
        except OSError as error:
            raise TensorwireError("TARGET_WRITE", f"cannot write to {folder}: {error.strerror}") from error
        try:
            with open(descriptor, "wb", buffering=0) as file:
                for portion in self.portions():
                    while portion:
                        portion = portion[file.write(portion) :]
                if nameless:
                    _name(descriptor, path)
        except BaseException as error:
            if not nameless:
                os.unlink(path)
            if isinstance(error, OSError):
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                raise TensorwireError(
                    "TARGET_FULL" if full else "TARGET_WRITE", f"cannot write {path}: {error.strerror}", retryable=full
                ) from error
            raise


#: By which a file that has no name gets one: not there in every container.
_DESCRIPTORS = "/proc/self/fd"


def _new_file(path: str) -> tuple[int, bool]:
    """A file that has no name yet, so that a process that is killed leaves nothing; where there are none, one that has."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    if hasattr(os, "O_TMPFILE") and os.path.isdir(_DESCRIPTORS):
        try:
            return os.open(os.path.dirname(path), flags | os.O_TMPFILE, 0o600), True
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
                raise
    return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600), False


def _name(descriptor: int, path: str) -> None:
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        # With a folder given, Python follows the link, which is what names the file rather than the link.
        os.link(f"{_DESCRIPTORS}/{descriptor}", path, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def is_text(value: Any) -> bool:
    # Half of a surrogate pair is no character, and cannot be written.
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def check_tensor(name: Any, value: Any) -> None:
    """Raises ``INVALID_ARGUMENT`` unless the pair can be a tensor of a model."""
    if not is_text(name) or not name or name == "__metadata__":
        raise TensorwireError("INVALID_ARGUMENT", f"{name!r} is no name for a tensor")
    if dtype_of(value) is None:
        kind = value.dtype if isinstance(value, np.ndarray) or is_tensor(value) else type(value).__name__
        raise TensorwireError(
            "INVALID_ARGUMENT",
            f"tensor {name!r} is of {kind}, which no safetensors file can hold: give a dense numpy array or torch tensor "
            "of booleans, integers or floats",
            tensor=name,
        )


def _dtype(value: Any) -> str:
    dtype = dtype_of(value)
    assert dtype is not None
    return dtype


def bytes_of(value: Any) -> memoryview:
    """A tensor's little-endian bytes: its own memory, unless it lies otherwise."""
    if is_tensor(value):
        torch: Any = torch_module()
        flat = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")
    array: Any = np.ascontiguousarray(value)
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and not _LITTLE):
        array = array.astype(array.dtype.newbyteorder("<"))
    return memoryview(array.reshape(-1).view(np.uint8)) if array.size else memoryview(b"")


_LITTLE = np.dtype("=u2").newbyteorder("<") == np.dtype("=u2")


def read_header(text: bytes, body_begins: int) -> tuple[list[TensorPlace], dict[str, str]]:
    """Places and metadata of a safetensors header, in the order in which the tensors lie.

    Raises ``SOURCE_INVALID`` unless they lie without holes and overlaps.
    """
    try:
        fields = json.loads(text)
        metadata = dict(fields.pop("__metadata__", {}))
        places = []
        for name, info in fields.items():
            begin, end = info["data_offsets"]
            places.append(TensorPlace(name, info["dtype"], tuple(info["shape"]), body_begins + begin, body_begins + end))
        places.sort(key=lambda place: (place.begin, place.end))
        at = body_begins
        for place in places:
            size = DTYPE_BYTES.get(place.dtype)
            if size is None:
                raise TensorwireError("SOURCE_INVALID", f"tensor {place.name!r} is of {place.dtype}, which is not known here")
            if place.begin != at or place.end - place.begin != prod(place.shape) * size:
                raise ValueError(place.name)
            at = place.end
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TensorwireError("SOURCE_INVALID", f"the safetensors header is not sound: {error}") from error
    return places, metadata


# Without a claim on swap: what is not written to takes no memory of its own.
_PRIVATE = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)


class _File:
    """A descriptor that is closed with its last user."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class MappedModel:
    """A safetensors file, mapped: pages come when a tensor is looked at, and changes to it stay in this process."""

    def __init__(self, path: str) -> None:
        """Raises ``SOURCE_READ`` and ``SOURCE_INVALID``."""
        try:
            with safe_open(path, framework="numpy"):
                pass  # The whole header, validated: no holes, no overlaps, the exact end.
            with open(path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                self.places, metadata = read_header(file.read(min(length, _MOST_HEADER_BYTES)), 8 + length)
                self._map = mmap.mmap(file.fileno(), 0, flags=_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
                self._file = _File(os.dup(file.fileno()))
        except SafetensorError as error:
            raise TensorwireError("SOURCE_INVALID", f"{path} is no safetensors file: {error}") from error
        except OSError as error:
            raise TensorwireError("SOURCE_READ", f"cannot read {path}: {error.strerror or error}") from error
        self.layout = Layout.from_text(metadata.pop(LAYOUT_KEY, None), [place.name for place in self.places])
        #: What whoever published it has said of it.
        self.metadata = metadata

    def again(self) -> MappedModel:
        """The same file in another mapping: what is written to one is not seen in the other."""
        other = copy(self)
        other._map = mmap.mmap(self._file.descriptor, 0, flags=_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        return other

    def tensor(self, place: TensorPlace, format: str) -> Any:
        return tensor_at(self._map, place, place.begin, format)

    def fresh(self, place: TensorPlace) -> Any:
        """A tensor in a mapping of its own, as numpy: what is written to it is seen by nobody else."""
        size = place.end - place.begin
        if not size:
            return np.empty(place.shape, numpy_dtype(place.dtype))
        skipped = place.begin % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(
            self._file.descriptor,
            skipped + size,
            flags=_PRIVATE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
            offset=place.begin - skipped,
        )
        return tensor_at(mapped, place, skipped, "numpy")

    def names(self) -> list[str]:
        """All names, tied ones too, in the order in which they were published."""
        return self.layout.order or [*(place.name for place in self.places), *self.layout.ties]

    def tensors(self, format: str | None = None) -> dict[str, Any]:
        """All tensors, as they were published: the format, the order, and one object for those that share it."""
        check_format(format)
        layout = self.layout
        found = {p.name: self.tensor(p, format or layout.format_of(p.name)) for p in self.places}
        for name, target in layout.ties.items():
            found[name] = found[target]
        return {name: found[name] for name in self.names()}


def tensor_at(buffer: Any, place: TensorPlace, begin: int, format: str) -> Any:
    """A tensor whose bytes begin there in a writable buffer: it lies in it, or, where they lie at no multiple of its element, copied."""
    elements = prod(place.shape)
    if begin % DTYPE_BYTES[place.dtype]:
        buffer, begin = bytearray(buffer[begin : begin + place.end - place.begin]), 0
    if format == "torch":
        dtype = torch_dtype(place.dtype)
        torch: Any = torch_module()
        if not elements:
            return torch.empty(place.shape, dtype=dtype)
        return torch.frombuffer(buffer, dtype=dtype, count=elements, offset=begin).reshape(place.shape)
    return np.frombuffer(buffer, dtype=numpy_dtype(place.dtype), count=elements, offset=begin).reshape(place.shape)
