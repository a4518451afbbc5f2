"""Installs NVFlare and Flower, each into a virtual environment of its own, and measures federations in them with the plug-in
and without.

    python3 packages/examples/python/matrix.py                     # 512 MiB, 1, 2 and 4 clients, both frameworks
    python3 packages/examples/python/matrix.py --quick             # what CI runs: 64 MiB, two clients, and their aggregates
    python3 packages/examples/python/matrix.py --tests             # the tests of this folder, in both environments; six minutes each
    python3 packages/examples/python/matrix.py --tests --quick     # those without whole federations, each in one environment
    python3 packages/examples/python/matrix.py --types             # mypy's strict checks, each plug-in beside its framework, and ruff's

Needs `npm run build`, and an index of Python packages; says SKIPPED without.
"""

from __future__ import annotations

import argparse
import fcntl
import glob
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
    parser.add_argument("--types", action="store_true")
    parser.add_argument("--torch", action="store_true", help="in environments that have torch too, which is gigabytes")
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
    frameworks = arguments.framework or list(FRAMEWORKS)
    for framework in frameworks:
        python = install(framework, arguments.environments, arguments.torch)
        if python is None:
            print(f"SKIPPED: needs pip and an index of Python packages ({framework})")
            continue
        if arguments.types:
            status |= check_types(framework, python)
        if arguments.tests:
            status |= run_tests(framework, python, arguments.quick, also_common=not arguments.quick or framework == frameworks[0])
        if arguments.types or arguments.tests:
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


def install(framework: str, folder: str, torch: bool) -> str | None:
    """The Python of an environment that has the framework and this package, or None where it cannot be had."""
    environment = os.path.join(folder, f"{framework}-torch" if torch else framework)
    python = os.path.join(environment, "bin", "python")
    try:
        if not os.path.exists(python):
            subprocess.run([sys.executable, "-m", "venv", environment], check=True, stdout=subprocess.DEVNULL)
        needed = f"import tensorwire, pytest, mypy, ruff, {'flwr' if framework == 'flower' else framework}{', torch' if torch else ''}"
        have = subprocess.run([python, "-c", needed], stderr=subprocess.DEVNULL)
        if have.returncode:
            wanted = [FRAMEWORKS[framework], "ml_dtypes", "-e", f"{HERE}[test,types{',torch' if torch else ''}]"]
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{framework} cannot be installed: {error}", file=sys.stderr)
        return None
    return python


def run_tests(framework: str, python: str, quick: bool, also_common: bool) -> int:
    """Tests of a plug-in begin with the name of its framework; the others need none."""
    all_files = sorted(glob.glob("tests/test_*.py", root_dir=HERE))
    owners = {file: next((name for name in FRAMEWORKS if os.path.basename(file).startswith(f"test_{name}")), None) for file in all_files}
    files = [file for file, owner in owners.items() if owner == framework or (owner is None and also_common)]
    return subprocess.call([python, "-m", "pytest", *(["-m", "not federation"] if quick else []), *files], cwd=HERE)


def check_types(framework: str, python: str) -> int:
    others = {f"{name}.py" for name in FRAMEWORKS if name != framework}
    files = [file for file in sorted(glob.glob("tensorwire/*.py", root_dir=HERE)) if os.path.basename(file) not in others]
    checked = subprocess.call([python, "-m", "mypy", "--cache-dir", os.path.join(os.path.dirname(python), "..", ".mypy"), *files], cwd=HERE)
    return checked | subprocess.call([python, "-m", "ruff", "check", "--no-cache", "."], cwd=HERE)


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
