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
from model import Model
from processes import MemoryWatch, Started

_MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("framework", choices=["nvflare", "flower"])
    parser.add_argument("--clients", default="1,2,4")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--codecs", default="none,normfloat4")
    parser.add_argument("--exchange", default="/dev/shm", help="where model files change hands")
    parser.add_argument("--compare", action="store_true", help="fail unless the aggregate of 'none' is the same as without")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="tensorwire-matrix-") as scratch:
        for clients in (int(count) for count in arguments.clients.split(",")):
            aggregates = {}
            for codec in (None, *arguments.codecs.split(",")):
                folder = os.path.join(scratch, f"{clients}-{codec}")
                os.mkdir(folder)
                keep = os.path.join(folder, "aggregate.safetensors") if arguments.compare else None
                row = measure(arguments, folder, clients, codec, keep)
                rows.append(row)
                print(json.dumps(row), flush=True)
                if keep is not None:
                    with open(keep, "rb") as file:
                        aggregates[codec] = file.read()
            if arguments.compare and aggregates[None] != aggregates["none"]:
                raise SystemExit("the aggregate is another one with the plug-in")
    print_table(arguments, rows)


def measure(arguments: Any, folder: str, clients: int, codec: str | None, keep: str | None) -> dict[str, Any]:
    model = Model(arguments.mib, mixed=arguments.framework == "nvflare" and arguments.mib < 512)
    log = os.path.join(folder, "rounds.jsonl")
    sites = [f"site-{index + 1}" for index in range(clients)]
    exchange = tempfile.mkdtemp(prefix="tensorwire-", dir=arguments.exchange)
    marks: set[str] = set()
    agents = Agents(os.path.join(folder, "agents"), exchange)

    def role_of(mark: str, command: str) -> str | None:
        if mark in agents.marks:
            return "agent of the server" if "--listen" in command else "agent of a client"
        return role_in(arguments.framework, command) if mark in marks else None

    def began(processes: list[Started]) -> None:
        marks.update(process.mark for process in processes)

    wire = wire_bytes()
    try:
        with agents, MemoryWatch(role_of) as watch:
            watch.also_store(exchange)
            if codec is not None:
                agents.start_all(sites)
            common = {"clients": clients, "rounds": arguments.rounds, "log": log, "began": began, "codec": codec or "none"}
            if arguments.framework == "nvflare":
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
    if len(times) != arguments.rounds + 1:
        raise SystemExit(f"{max(0, len(times) - 1)} of {arguments.rounds} rounds:\n{said[-5000:]}\n{agents.describe()}")
    # The first one has the framework's start in it.
    rounds = [later - earlier for earlier, later in zip(times[1:], times[2:])] or [times[1] - times[0]]
    return {
        "framework": arguments.framework,
        "clients": clients,
        "codec": codec,
        "mib": arguments.mib,
        "secondsARound": round(statistics.median(rounds), 2),
        "wireMiBARound": round((wire_bytes() - wire) / _MIB / arguments.rounds, 1),
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


def print_table(arguments: Any, rows: list[dict[str, Any]]) -> None:
    print(f"\n{arguments.framework}, {arguments.mib} MiB, {arguments.rounds} rounds; peaks of one process in MiB: RSS (RssAnon)\n")
    print("| clients | weights | s a round | wire, MiB a round | server | client | agent, server | agent, client | others | stored, MiB |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        peaks = row["peaks"]

        def cell(*roles: str) -> str:
            found = [peaks[role] for role in roles if role in peaks]
            return " / ".join(f"{peak['rss']} ({peak['anonymous']})" for peak in found) or "–"

        weights = "in messages" if row["codec"] is None else f"by reference, {row['codec']}"
        print(
            f"| {row['clients']} | {weights} | {row['secondsARound']} | {row['wireMiBARound']} | {cell('server')} | {cell('client')} "
            f"| {cell('agent of the server')} | {cell('agent of a client')} | {cell('superlink', 'others')} | {row['storedMiB']} |"
        )


if __name__ == "__main__":
    main()
