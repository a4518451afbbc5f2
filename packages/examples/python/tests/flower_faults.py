"""Apps of Flower that go wrong, in the place of the measured ones: a site's environment says how."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

from flwr.app import Context, Message

from measured import client_app, server_app
from measured.mid_round import holding
from tensorwire import flower

FAULT = os.environ.get("FAULT")


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
    (reference,) = [
        json.loads(str(record["tensorwire.ref"])) for record in message.content.config_records.values() if "tensorwire.ref" in record
    ]
    # At the home it has its time from when it came there, in full seconds.
    time.sleep(max(0.0, reference["expires"] - time.time()) + 1.2)


def _of_another_version(ref: Any) -> Any:
    """As a later release might write references."""
    return flower.ConfigRecord({"tensorwire.ref": json.dumps({**ref.to_json(), "tensorwire": 2})})


if FAULT == "hold":
    client_app.step = holding(client_app.step, 1, os.environ["FAULT_FOLDER"])
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
