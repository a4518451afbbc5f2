"""A job of NVFlare as its configuration, with the plug-in and without: what differs is filters, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from model import Model

_HERE = os.path.dirname(os.path.abspath(__file__))


def write_job(
    folder: str,
    model: Model,
    *,
    clients: int,
    rounds: int,
    log: str,
    keep: str | None = None,
    agents: Callable[[str], str] | None = None,
    codec: Any = "none",
    difference: bool = False,
    patience: float = 60,
    custom: Sequence[str] = (),
    replaced: Mapping[str, str] | None = None,
    expires_seconds: float | None = None,
    script: str = "nvflare_train.py",
    persistor: str = "nvflare_app.DrawnModel",
    params: str = "numpy",
    workflow: Mapping[str, Any] | None = None,
) -> None:
    """``agents`` gives the address of a site's agent, where ``{site}`` is any client; without it, the framework is alone.

    ``custom`` are files for the job's custom folder, ``replaced`` gives other filters for the path of one (``server`` or
    ``client``, a dot, and its class). ``script`` trains on ``params`` ("numpy" or "pytorch"), which ``persistor`` draws;
    ``workflow`` are more arguments of FedAvg.
    """
    publishing = {"codec": codec, "expires_seconds": expires_seconds}

    def filters(site: str, direction: str, path: str, **arguments: Any) -> list[dict[str, Any]]:
        if agents is None:
            return []
        arguments = {"agent": agents(site), "patience": patience, **arguments}
        party = "server" if site == "server" else "client"
        path = (replaced or {}).get(f"{party}.{path}", f"tensorwire.nvflare.{path}")
        return [{"tasks": ["train"], "direction": direction, "filters": [{"path": path, "args": arguments}]}]

    server = {
        "format_version": 2,
        "workflows": [
            {
                "id": "controller",
                "path": "nvflare.app_common.workflows.fedavg.FedAvg",
                "args": {"num_clients": clients, "num_rounds": rounds, **(workflow or {})},
            }
        ],
        "components": [{"id": "persistor", "path": persistor, "args": {"model": asdict(model), "log": log, "keep": keep}}],
        "task_data_filters": filters("server", "out", "PublishWeights", **publishing),
        "task_result_filters": filters("server", "in", "FetchWeights"),
    }
    client = {
        "format_version": 2,
        "executors": [
            {
                "tasks": ["train"],
                "executor": {
                    "path": "nvflare.app_common.executors.client_api_executor.ClientAPIExecutor",
                    "args": {
                        "execution_mode": "in_process",
                        "task_script_path": script,
                        "task_script_args": "--difference" if difference else "",
                        "params_exchange_format": params,
                        "server_expected_format": params,
                    },
                },
            }
        ],
        "components": [],
        "task_data_filters": filters("{site}", "in", "FetchWeights"),
        "task_result_filters": filters("{site}", "out", "PublishWeights", **publishing),
    }
    config, code = os.path.join(folder, "app", "config"), os.path.join(folder, "app", "custom")
    os.makedirs(config)
    os.makedirs(code)
    for path in (*(os.path.join(_HERE, name) for name in ("model.py", "nvflare_app.py", "nvflare_train.py")), *custom):
        shutil.copy(path, code)
    _write(os.path.join(config, "config_fed_server.json"), server)
    _write(os.path.join(config, "config_fed_client.json"), client)
    _write(
        os.path.join(folder, "meta.json"),
        {"name": "measured", "resource_spec": {}, "min_clients": clients, "deploy_map": {"app": ["@ALL"]}},
    )


def _write(path: str, content: Any) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
