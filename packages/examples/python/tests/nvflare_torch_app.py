"""A federation of torch tensors, bfloat16 and tied: the server's part of the job's custom folder."""

from typing import Any

import torch
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import ModelLearnable, ModelLearnableKey, make_model_learnable
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs
from safetensors.torch import save_file

from nvflare_app import DrawnModel


class TorchModel(DrawnModel):
    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        fobs.register(TensorDecomposer)  # As NVFlare's own persistors of torch do.
        self._note("begin")
        random = torch.Generator().manual_seed(7)
        embedding = torch.randn(1024, 512, generator=random).to(torch.bfloat16)
        weights: dict[str, Any] = {
            "embedding": embedding,
            "bias": torch.randn(512, generator=random),
            "half": torch.randn(64, 64, generator=random).to(torch.float16),
            "steps": torch.arange(5),
            "head": embedding,
        }
        return make_model_learnable(weights=weights, meta_props={})

    def save_model(self, model_learnable: ModelLearnable, fl_ctx: FLContext) -> None:
        self._note("round")
        if self._keep:
            weights = model_learnable[ModelLearnableKey.WEIGHTS]
            assert all(isinstance(value, torch.Tensor) for value in weights.values()), "the aggregate is no longer torch's"
            save_file({name: value.clone().contiguous() for name, value in weights.items()}, self._keep)
