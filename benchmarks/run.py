"""Runs every benchmark and prints its tables, with a description of the machine.

python benchmarks/run.py [NAME ...]
"""

from __future__ import annotations

import datetime
import os
import platform
import signal
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
END_S = 60
"""For what a benchmark started to be ended by it."""


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


def status_of(name: str) -> str:
    """Runs a benchmark; returns how it failed, or nothing."""
    process = subprocess.Popen([sys.executable, str(HERE / f"{name}.py")])
    try:
        status = process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return f"not done within {TIMEOUT_S} s"
    return f"exit status {status}" if status else ""


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
        failure = status_of(name)
        print(flush=True)
        if failure:
            failed.append(f"{name} ({failure})")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
