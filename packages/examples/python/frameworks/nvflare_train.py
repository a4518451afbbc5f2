"""A training script of NVFlare's Client API, as anybody's: it knows nothing of how weights travel."""

import os
import sys

import nvflare.client as flare

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from model import step

difference = "--difference" in sys.argv

flare.init()
site = int(flare.get_site_name().rsplit("-", 1)[-1]) - 1
while flare.is_running():
    received = flare.receive()
    if received is None:
        break
    trained = step(received.params, site)
    if difference:
        trained = {
            name: trained[name] - value if value.dtype.kind == "f" else value - value if value.dtype.kind == "i" else value
            for name, value in received.params.items()
        }
    flare.send(
        flare.FLModel(
            params=trained,
            params_type=flare.ParamsType.DIFF if difference else flare.ParamsType.FULL,
            meta={"NUM_STEPS_CURRENT_ROUND": 1},
        )
    )
