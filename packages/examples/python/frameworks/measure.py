"""One federation after the other, the framework alone beside the framework with the plug-in: what each takes.

Run by matrix.py, with the Python that has the framework. Prints a line of JSON for each run, and a table at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import tempfile
from typing import Any

from agents import Agents
from aggregate import allowed, worst_difference
from model import Model
from processes import MemoryWatch, Started
from report import print_sums, print_table

_MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("framework", choices=["nvflare", "flower"])
    parser.add_argument("--clients", default="1,2,4")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--codecs", default="none,normfloat4")
    parser.add_argument("--exchange", default="/dev/shm", help="where model files change hands")
    parser.add_argument("--compare", action="store_true", help="fail unless the aggregate is as near as the codec is documented to be")
    arguments = parser.parse_args()
    framework = arguments.framework
    rows = []
    with tempfile.TemporaryDirectory(prefix="tensorwire-matrix-") as scratch:

        def run(clients: int, codec: str | None, mib: int, rounds: int, keep: str | None = None) -> dict[str, Any]:
            folder = tempfile.mkdtemp(dir=scratch)
            row = measure(framework, folder, arguments.exchange, clients, codec, mib, rounds, keep)
            print(json.dumps(row), flush=True)
            shutil.rmtree(folder)
            return row

        # What the framework takes of memory where there is as good as no model.
        bare = run(1, None, 1, 1)
        for clients in (int(count) for count in arguments.clients.split(",")):
            kept: dict[str | None, str] = {}
            for codec in (None, *arguments.codecs.split(",")):
                keep = os.path.join(scratch, f"{clients}-{codec}.safetensors") if arguments.compare else None
                row = run(clients, codec, arguments.mib, arguments.rounds, keep)
                rows.append(row)
                if keep is None:
                    continue
                kept[codec] = keep
                if codec is not None:
                    row["error"] = worst_difference(kept[None], keep)
                    most = allowed(codec, arguments.rounds)
                    print(f"{codec}: the aggregate is {row['error']:.3g} from the framework's, in parts of the largest weight; allowed: {most}")
                    if most is not None and row["error"] > most:
                        raise SystemExit("the aggregate is another one with the plug-in")
    print_table(framework, arguments.rounds, rows)
    print_sums(bare, rows)


def measure(
    framework: str, folder: str, exchanges: str, clients: int, codec: str | None, mib: int, rounds: int, keep: str | None
) -> dict[str, Any]:
    model = Model(mib, mixed=framework == "nvflare" and mib < 512)
    log = os.path.join(folder, "rounds.jsonl")
    sites = [f"site-{index + 1}" for index in range(clients)]
    exchange = tempfile.mkdtemp(prefix="tensorwire-", dir=exchanges)
    marks: set[str] = set()
    agents = Agents(os.path.join(folder, "agents"), exchange)

    def role_of(mark: str, command: str) -> str | None:
        if mark in agents.marks:
            return "agent of the server" if "--listen" in command else "agent of a client"
        return role_in(framework, command) if mark in marks else None

    def began(processes: list[Started]) -> None:
        marks.update(process.mark for process in processes)

    wire = wire_bytes()
    try:
        with agents, MemoryWatch(role_of) as watch:
            watch.also_store(exchange)
            if codec is not None:
                agents.start_all(sites)
            common = {
                **{"clients": clients, "rounds": rounds, "log": log, "began": began, "codec": codec or "none"},
                # A large model in messages takes minutes for each of them.
                "seconds": 220 + clients * rounds * mib / 4,
            }
            if framework == "nvflare":
                from nvflare_run import run_nvflare

                said = run_nvflare(folder, model, keep=keep, agents=agents.address if codec else None, **common)
            else:
                from flower_run import run_flower

                said = run_flower(folder, model, keep=keep or "", agents=agents.environment if codec else None, **common)
    finally:
        shutil.rmtree(exchange, ignore_errors=True)
    try:
        with open(log, encoding="utf-8") as file:
            times = [json.loads(line)["time"] for line in file]
    except FileNotFoundError:
        times = []
    if len(times) != rounds + 1:
        raise SystemExit(f"{max(0, len(times) - 1)} of {rounds} rounds:\n{said[-5000:]}\n{agents.describe()}")
    # The first one has the framework's start in it.
    spans = [later - earlier for earlier, later in zip(times[1:], times[2:])] or [times[1] - times[0]]
    return {
        "framework": framework,
        "clients": clients,
        "codec": codec,
        "mib": mib,
        "secondsARound": round(statistics.median(spans), 2),
        "wireMiBARound": round((wire_bytes() - wire) / _MIB / rounds, 1),
        "storedMiB": round(watch.stored / _MIB),
        "peaks": {
            role: {kind: round(size / _MIB) for kind, size in vars(peak).items()} for role, peak in sorted(watch.peaks.items())
        },
    }


def role_in(framework: str, command: str) -> str:
    """What a process of a framework is, by its command."""
    if framework == "nvflare":
        return "client" if re.search(r"simulator_worker|--client", command) else "server"
    for part, role in (("flwr-serverapp", "server"), ("flower-superlink", "superlink"), ("flwr-clientapp", "client")):
        if part in command:
            return role
    return "others"


def wire_bytes() -> int:
    """What has gone over loopback: of these runs alone where matrix.py has given them a network of their own."""
    with open("/proc/net/dev", encoding="ascii") as file:
        for line in file:
            name, _, fields = line.partition(":")
            if name.strip() == "lo":
                return int(fields.split()[0])
    return 0


if __name__ == "__main__":
    main()
