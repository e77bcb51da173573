"""Runs every benchmark and prints its tables, with a description of the machine.

python benchmarks/run.py [NAME ...]
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = (
    "lockstep",
    "vector",
    "service",
    "cluster_size",
    "rllib",
    "containers",
    "gateway",
    "wall",
    "latency",
    "near_end",
    "training",
    "decode",
)
TIMEOUT_S = 900


def machine() -> str:
    """Describes the machine in one line."""
    model = "unknown processor"
    memory_gib = 0.0
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemTotal:"):
            memory_gib = int(line.split()[1]) / 2**20
    return (
        f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores ({model}), "
        f"{memory_gib:.0f} GiB, {platform.platform()}, Python {platform.python_version()}"
    )


def main() -> int:
    """Runs the benchmarks named on the command line, or all."""
    names = sys.argv[1:] or list(NAMES)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"unknown: {', '.join(unknown)}. Known: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    print(f"{machine()}\n")
    failed = []
    for name in names:
        print(f"## {name}\n", flush=True)
        done = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py")], timeout=TIMEOUT_S, check=False
        )
        print(flush=True)
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
