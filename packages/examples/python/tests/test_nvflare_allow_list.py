"""Which classes a site lets a job build that brings no code of its own: NVFlare's simulator, on a site's list."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agents import Agents
from conftest import needs
from nvflare_run import SIMULATOR
from processes import Started

try:
    from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST
except ImportError:
    pytestmark = [pytest.mark.federation, pytest.mark.usefixtures("_without_nvflare")]
else:
    pytestmark = pytest.mark.federation


@pytest.fixture
def _without_nvflare() -> None:
    needs("nvflare")


def filters(direction: str, name: str, address: str) -> list[Any]:
    return [{"tasks": ["train"], "direction": direction, "filters": [{"path": f"tensorwire.nvflare.{name}", "args": {"agent": address}}]}]


def run(folder: Path, agents: Agents, allowed: list[str]) -> str:
    """The simulator's log of a job of NVFlare's own classes, one client and one round, at a site with such a list."""
    config = folder / "job" / "app" / "config"
    local = folder / "workspace" / "local"
    for directory in (config, local):
        directory.mkdir(parents=True)
    fedavg = {"id": "c", "path": "nvflare.app_common.workflows.fedavg.FedAvg", "args": {"num_clients": 1, "num_rounds": 1}}
    persistor = {"id": "persistor", "path": "nvflare.app_common.np.np_model_persistor.NPModelPersistor", "args": {}}
    trainer = {"tasks": ["train"], "executor": {"path": "nvflare.app_common.np.np_trainer.NPTrainer", "args": {}}}
    server = {
        "format_version": 2,
        "workflows": [fedavg],
        "components": [persistor],
        "task_data_filters": filters("out", "PublishWeights", agents.address("server")),
        "task_result_filters": filters("in", "FetchWeights", agents.address("server")),
    }
    client = {
        "format_version": 2,
        "executors": [trainer],
        "components": [],
        "task_data_filters": filters("in", "FetchWeights", agents.address("site-1")),
        "task_result_filters": filters("out", "PublishWeights", agents.address("site-1")),
    }
    meta = {"name": "listed", "resource_spec": {}, "min_clients": 1, "deploy_map": {"app": ["@ALL"]}}
    resources = {"format_version": 2, "class_list_enforcement_mode": "enforce", "class_allow_list": allowed}
    for path, content in (
        (config / "config_fed_server.json", server),
        (config / "config_fed_client.json", client),
        (folder / "job" / "meta.json", meta),
        (local / "resources.json", resources),
    ):
        path.write_text(json.dumps(content))
    command = [*SIMULATOR, str(folder / "job"), "-w", str(folder / "workspace"), "-n", "1", "-t", "1"]
    simulator = Started(command, str(folder / "log"))
    try:
        simulator.wait(60)
    except subprocess.TimeoutExpired:
        pass
    finally:
        simulator.end()
    return simulator.said()


def test_a_job_without_code_of_its_own_has_the_filters_where_the_site_lists_them(agents: Agents, tmp_path: Path) -> None:
    own = list(DEFAULT_CLASS_ALLOW_LIST)
    refused = run(tmp_path / "refused", agents, own)
    assert "'tensorwire.nvflare.PublishWeights'" in refused and "is not in allow_list" in refused, refused
    assert "published" not in refused
    listed = run(tmp_path / "listed", agents, [*own, "tensorwire.nvflare"])
    assert "is not in allow_list" not in listed, listed
    for said in ("published nvflare/simulate_job/simulator_server", "fetched nvflare/simulate_job/site-1", "Finished FedAvg"):
        assert said in listed, listed
    # The site's list is in the place of NVFlare's own, and not beside it.
    alone = run(tmp_path / "alone", agents, ["tensorwire.nvflare"])
    assert "'nvflare.app_common.workflows.fedavg.FedAvg'" in alone and "is not in allow_list" in alone, alone
