"""Installs NVFlare and Flower, each into a virtual environment of its own, and measures federations in them with the plug-in
and without.

    python3 packages/examples/python/matrix.py                     # 512 MiB, 1, 2 and 4 clients, both frameworks
    python3 packages/examples/python/matrix.py --quick             # what CI runs: 64 MiB, two clients, and their aggregates
    python3 packages/examples/python/matrix.py --tests             # the tests of this folder, in both environments

Needs `npm run build`, and an index of Python packages; says SKIPPED without.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FRAMEWORKS = {"nvflare": "nvflare==2.9.0", "flower": "flwr==1.42.0"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=list(FRAMEWORKS), action="append", help="default: both")
    parser.add_argument("--environments", default=os.path.join(HERE, ".venv"), help="where the virtual environments are")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tests", action="store_true")
    parser.add_argument("--clients")
    parser.add_argument("--mib")
    parser.add_argument("--rounds")
    parser.add_argument("--codecs")
    parser.add_argument("--exchange")
    parser.add_argument("--compare", action="store_true", help="fail where an aggregate is further from the framework's than its codec may")
    arguments = parser.parse_args()
    missing = "node" if shutil.which("node") is None else None
    if not os.path.exists(os.path.join(HERE, "..", "..", "stream", "dist", "cli", "main.js")):
        missing = "npm run build"
    if missing:
        print(f"SKIPPED: needs {missing}")
        return 0
    status = 0
    for framework in arguments.framework or FRAMEWORKS:
        python = install(framework, arguments.environments)
        if python is None:
            print(f"SKIPPED: needs pip and an index of Python packages ({framework})")
            continue
        if arguments.tests:
            status |= subprocess.call([python, "-m", "pytest", "-rs"], cwd=HERE)
            continue
        options = ["--clients", "2", "--mib", "64", "--rounds", "2", "--codecs", "none", "--compare"] if arguments.quick else []
        for name in ("clients", "mib", "rounds", "codecs", "exchange"):
            value = getattr(arguments, name)
            if value is not None:
                options += [f"--{name}", value]
        if arguments.compare:
            options.append("--compare")
        command = [python, os.path.join(HERE, "frameworks", "measure.py"), framework, *options]
        status |= subprocess.call(alone(command))
    return status


def install(framework: str, folder: str) -> str | None:
    """The Python of an environment that has the framework and this package, or None where it cannot be had."""
    environment = os.path.join(folder, framework)
    python = os.path.join(environment, "bin", "python")
    try:
        if not os.path.exists(python):
            subprocess.run([sys.executable, "-m", "venv", environment], check=True, stdout=subprocess.DEVNULL)
        have = subprocess.run(
            [python, "-c", "import tensorwire, pytest, flwr" if framework == "flower" else "import tensorwire, pytest, nvflare"],
            stderr=subprocess.DEVNULL,
        )
        if have.returncode:
            wanted = [FRAMEWORKS[framework], "pytest", "ml_dtypes", "-e", HERE]
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{framework} cannot be installed: {error}", file=sys.stderr)
        return None
    return python


def alone(command: list[str]) -> list[str]:
    """The command in a network of its own, where this system allows it: what goes over loopback is then of its runs alone."""
    wrapper = ["unshare", "--net", "--map-root-user", "--user"]
    inside = [sys.executable, os.path.abspath(__file__), "--inside"]
    try:
        tried = subprocess.run([*wrapper, *inside, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return command
    if tried.returncode:
        print("no network of its own here: bytes on the wire count all of this machine's loopback")
        return command
    return [*wrapper, *inside, *command]


def raise_loopback() -> None:
    """A network that was just made has a loopback interface that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, 0x8913, request))[1]
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        raise_loopback()
        os.execvp(sys.argv[2], sys.argv[2:])
    sys.exit(main())
