"""What travels in a framework's message in the place of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import TensorwireError

#: The version of references that this package writes and reads.
REF_VERSION = 1

_LONGEST = 4096


@dataclass(frozen=True)
class Ref:
    """A published model: its name at its home, and by what it is recognised when it is fetched.

    ``bytes`` are those of its tensors, ``expires`` is in seconds since 1970; ``home`` is a label for people: nobody dials it,
    and an agent that neither is a home nor has one gives none.
    """

    name: str
    digest: str
    transfer: str
    bytes: int
    expires: int
    home: str | None

    def to_json(self) -> dict[str, Any]:
        return {
            "tensorwire": REF_VERSION,
            "name": self.name,
            "digest": self.digest,
            "transfer": self.transfer,
            "bytes": self.bytes,
            "expires": self.expires,
            "home": self.home,
        }

    @staticmethod
    def from_json(value: Any) -> Ref:
        """Reads a reference that somebody else wrote.

        Raises ``VERSION_UNSUPPORTED`` for one of another version, ``PROTOCOL`` for what is none.
        """
        if not isinstance(value, dict) or "tensorwire" not in value:
            raise TensorwireError("PROTOCOL", "this is no reference to a model: it has no field 'tensorwire'")
        version = value["tensorwire"]
        if version != REF_VERSION or isinstance(version, bool):
            raise TensorwireError(
                "VERSION_UNSUPPORTED",
                f"the reference is of version {str(version)[:20]!r}, and this side reads version {REF_VERSION}: "
                "install the same release of the package 'tensorwire' at both ends",
            )
        texts: dict[str, str] = {}
        for field in ("name", "digest", "transfer", "home"):
            text = value.get(field)
            if field == "home" and text is None:
                continue
            if not isinstance(text, str) or len(text) > _LONGEST:
                raise TensorwireError("PROTOCOL", f"the reference's field {field!r} is no text of up to {_LONGEST} characters")
            texts[field] = text
        numbers: dict[str, int] = {}
        for field in ("bytes", "expires"):
            number = value.get(field)
            if not isinstance(number, int) or isinstance(number, bool) or number < 0:
                raise TensorwireError("PROTOCOL", f"the reference's field {field!r} is no whole number")
            numbers[field] = number
        return Ref(
            name=texts["name"],
            digest=texts["digest"],
            transfer=texts["transfer"],
            bytes=numbers["bytes"],
            expires=numbers["expires"],
            home=texts.get("home"),
        )
