"""Filters that go wrong, for jobs of the tests."""

from __future__ import annotations

import time
from typing import Any

from tensorwire.nvflare import FetchWeights, PublishWeights


class OtherVersion(PublishWeights):
    """As a later release might write references."""

    def process_dxo(self, dxo: Any, shareable: Any, fl_ctx: Any) -> Any:
        out = super().process_dxo(dxo, shareable, fl_ctx)
        out.data["tensorwire.ref"]["tensorwire"] = 2
        return out


class Late(FetchWeights):
    """Comes when the reference has expired."""

    def process_dxo(self, dxo: Any, shareable: Any, fl_ctx: Any) -> Any:
        time.sleep(2.5)
        return super().process_dxo(dxo, shareable, fl_ctx)
