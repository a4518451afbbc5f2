"""Apps of Flower that go wrong, in the place of the measured ones: a site's environment says how."""

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import Context, Message
from measured import client_app, server_app
from tensorwire import flower

FAULT = os.environ.get("FAULT")
FOLDER = os.environ.get("FAULT_FOLDER", "")


def held(tensors: Mapping[str, Any], site: int) -> dict[str, Any]:
    """The first time, in the middle of a round: the model is here, and the reply is not yet made."""
    if not os.path.exists(os.path.join(FOLDER, "held")):
        with open("/proc/self/maps", encoding="utf-8") as maps:
            mapped = [line.split(maxsplit=5)[5] for line in maps if "-exchange/" in line]
        with open(os.path.join(FOLDER, "draft"), "w", encoding="utf-8") as note:
            json.dump({"pid": os.getpid(), "mapped": mapped}, note)
        os.rename(os.path.join(FOLDER, "draft"), os.path.join(FOLDER, "held"))
        while not os.path.exists(os.path.join(FOLDER, "released")):
            time.sleep(0.02)
    return step(tensors, site)


class Slow(flower.ReferenceMod):
    """Comes when the reference has expired."""

    def __call__(self, message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        _wait_for_expiry(message)
        return super().__call__(message, context, call_next)


class Brief(flower.ReferenceMod):
    """Its reply comes when the reference in it has expired."""

    def __init__(self, **options: Any) -> None:
        super().__init__(expires_seconds=1, **options)

    def __call__(self, message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        reply = super().__call__(message, context, call_next)
        _wait_for_expiry(reply)
        return reply


class BriefGrid(flower.ReferenceGrid):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, expires_seconds=1, **options)


def _wait_for_expiry(message: Message) -> None:
    (reference,) = [json.loads(str(record["tensorwire.ref"])) for record in message.content.config_records.values() if "tensorwire.ref" in record]
    time.sleep(max(0.0, reference["expires"] - time.time()) + 0.2)


def _of_another_version(ref: Any) -> Any:
    """As a later release might write references."""
    return flower.ConfigRecord({"tensorwire.ref": json.dumps({**ref.to_json(), "tensorwire": 2})})


step = client_app.step
if FAULT == "hold":
    client_app.step = held
elif FAULT == "version":
    flower._stand_in = _of_another_version
elif FAULT == "late":
    flower.ReferenceMod = Slow  # type: ignore[misc]
elif FAULT == "brief":
    flower.ReferenceMod = Brief  # type: ignore[misc]
    flower.ReferenceGrid = BriefGrid  # type: ignore[misc]

# Each on a line of its own: Flower looks for them without running this.
client = client_app.app
server = server_app.app
