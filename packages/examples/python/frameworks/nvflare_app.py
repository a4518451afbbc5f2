"""A federation in NVFlare that costs nothing but its exchanges: the server's part of the job's custom folder."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import ModelLearnable, ModelLearnableKey, make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor

from model import Model, draw
from tensorwire.model_file import OutgoingModel


class DrawnModel(ModelPersistor):
    """Draws the first model, notes when each round's aggregate was there, and keeps the last one where it is asked to."""

    def __init__(self, model: dict[str, Any], log: str, keep: str | None = None) -> None:
        super().__init__()
        self._model = Model(**model)
        self._log = log
        self._keep = keep

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        weights = draw(self._model)
        self._note("begin")
        return make_model_learnable(weights=weights, meta_props={})

    def save_model(self, model_learnable: ModelLearnable, fl_ctx: FLContext) -> None:
        self._note("round")
        if self._keep:
            if os.path.exists(self._keep):
                os.unlink(self._keep)
            OutgoingModel(model_learnable[ModelLearnableKey.WEIGHTS]).write(self._keep)

    def _note(self, what: str) -> None:
        with open(self._log, "a", encoding="utf-8") as log:
            log.write(json.dumps({"what": what, "time": time.monotonic(), "pid": os.getpid()}) + "\n")
