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
import time
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
SETTLE_S = 180
"""Longest wait until what the benchmark before left running has ended."""
QUIET_SHARE = 0.9
"""Idle share of the processors from which nothing else is running."""
LOOK_S = 2.0


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


def idle_share(seconds: float) -> float:
    """Returns which share of the processors' time goes unused in the seconds that follow."""

    def idle_and_all() -> tuple[int, int]:
        # proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
        line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
        ticks = [int(field) for field in line.split()[1:9]]
        return ticks[3] + ticks[4], sum(ticks)

    idle_before, all_before = idle_and_all()
    time.sleep(seconds)
    idle_after, all_after = idle_and_all()
    return (idle_after - idle_before) / max(1, all_after - all_before)


def settle() -> None:
    """Waits until nothing else is running; says so where that does not come."""
    deadline_s = time.monotonic() + SETTLE_S
    while (share := idle_share(LOOK_S)) < QUIET_SHARE:
        if time.monotonic() > deadline_s:
            print(
                f"something else is running: {1 - share:.0%} of the processors is taken\n",
                flush=True,
            )
            return


def status_of(name: str) -> str:
    """Runs a benchmark; returns how it failed, or nothing.

    Whether a Docker engine answers is to make no difference where containers are not measured.
    """
    environment = {"RAYGYM_BACKEND": "process", **os.environ}
    process = subprocess.Popen([sys.executable, str(HERE / f"{name}.py")], env=environment)
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
        settle()
        failure = status_of(name)
        print(flush=True)
        if failure:
            failed.append(f"{name} ({failure})")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
