"""How tensors were held by who published them: numpy or torch, and which names share one tensor.

It travels in the model's own metadata, so that a reference alone brings everything back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .dtype import check_torch, is_tensor
from .errors import TensorwireError

#: The key of a layout in safetensors' metadata.
LAYOUT_KEY = "tensorwire.layout"

FORMATS = ("numpy", "torch")


def check_format(format: Any) -> None:
    """Raises ``INVALID_ARGUMENT`` unless tensors can come so, here."""
    if format is not None and format not in FORMATS:
        raise TensorwireError("INVALID_ARGUMENT", f"tensors come as 'numpy' or 'torch', and not as format={format!r}")
    if format == "torch":
        check_torch()


@dataclass
class Layout:
    """``format`` is of all tensors but ``others``; ``ties`` says which name stands for which; ``order`` is that of the names."""

    format: str = "numpy"
    others: list[str] = field(default_factory=list)
    ties: dict[str, str] = field(default_factory=dict)
    order: list[str] | None = None

    def format_of(self, name: str) -> str:
        if name not in self.others:
            return self.format
        return "numpy" if self.format == "torch" else "torch"

    def to_text(self) -> str:
        fields: dict[str, Any] = {"format": self.format}
        if self.others:
            fields["others"] = self.others
        if self.ties:
            fields["ties"] = self.ties
        if self.order is not None:
            fields["order"] = self.order
        return json.dumps(fields, separators=(",", ":"))

    @staticmethod
    def from_text(text: str | None, names: list[str]) -> Layout:
        """The layout of a file with these tensors; a file without one was not published by Python: numpy."""
        if text is None:
            return Layout()
        try:
            fields = json.loads(text)
            layout = Layout(
                format=fields["format"],
                others=list(fields.get("others", ())),
                ties=dict(fields.get("ties", {})),
                order=fields.get("order"),
            )
            known = set(names) | set(layout.ties)
            sound = (
                layout.format in FORMATS
                and all(name in known for name in layout.others)
                and all(target in names for target in layout.ties.values())
                and not set(names) & set(layout.ties)
                and (layout.order is None or (len(layout.order) == len(known) and set(layout.order) == known))
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            sound = False
        if not sound:
            raise TensorwireError("SOURCE_INVALID", f"the model's metadata {LAYOUT_KEY!r} does not fit its tensors")
        return layout


def layout_of(tensors: Mapping[str, Any]) -> tuple[Layout, dict[str, Any]]:
    """The layout of tensors, and those of them that travel: of tied ones, the first."""
    travelling: dict[str, Any] = {}
    ties: dict[str, str] = {}
    first: dict[Any, str] = {}
    torch_names = []
    for name, value in tensors.items():
        place = _place(value)
        owner = first.setdefault(place, name) if place is not None else name
        if owner != name:
            ties[name] = owner
            continue
        travelling[name] = value
        if is_tensor(value):
            torch_names.append(name)
    mostly_torch = 2 * len(torch_names) > len(travelling)
    mine = set(torch_names)
    others = [name for name in travelling if (name in mine) != mostly_torch]
    layout = Layout("torch" if mostly_torch else "numpy", others, ties, list(tensors))
    return layout, travelling


def _place(value: Any) -> Any | None:
    """The same for tensors that are one: same memory, same shape, same steps."""
    if isinstance(value, np.ndarray):
        if value.size == 0:
            return None
        return ("numpy", value.__array_interface__["data"][0], value.shape, value.strides, value.dtype.str)
    if value.numel() == 0 or value.device.type == "meta":
        return None
    return ("torch", str(value.device), value.data_ptr(), tuple(value.shape), value.stride(), str(value.dtype))
