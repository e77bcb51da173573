"""Memory of a training run: the trainer, and each EnvActor with its shares of Ray.

python benchmarks/training.py [--env flashgames.NeonRace-v0] [--minutes 0.7] [--workers 2]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

SAMPLE_EVERY_S = 2.0


def pss_mib(pid: int) -> float:
    """Returns a process's proportional set size, 0.0 once it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def descendants(pid: int) -> list[int]:
    """Returns all processes that descend from ``pid``."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        children[int(fields[1])].append(int(path.parent.name))
    found, pending = [], [pid]
    while pending:
        for child in children[pending.pop()]:
            found.append(child)
            pending.append(child)
    return found


def role(pid: int) -> str:
    """Returns what a process of a training run is for."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
    if command.startswith("ray::EnvActor"):
        return "EnvActor"
    if command.startswith("ray::"):
        return "parameters" if "Parameters" in command else "other Ray workers"
    return "Ray itself" if "/ray/" in command else "remotes"


def largest_shares(process: subprocess.Popen[bytes]) -> dict[str, list[float]]:
    """Samples a running trainer; returns the most memory seen of each process, by role."""
    most: dict[tuple[str, int], float] = {}
    while process.poll() is None:
        for pid, name in [
            (process.pid, "trainer"),
            *((p, role(p)) for p in descendants(process.pid)),
        ]:
            if name:
                most[name, pid] = max(most.get((name, pid), 0.0), pss_mib(pid))
        time.sleep(SAMPLE_EVERY_S)
    by_role: defaultdict[str, list[float]] = defaultdict(list)
    for (name, _), mib in most.items():
        by_role[name].append(mib)
    return by_role


def main() -> int:
    """Runs a short training and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="flashgames.NeonRace-v0")
    parser.add_argument("--minutes", type=float, default=0.7)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "raygym.train", "--env", options.env]
        command += ["--minutes", str(options.minutes), "--workers", str(options.workers)]
        process = subprocess.Popen(
            [*command, "--logdir", directory], stdout=subprocess.DEVNULL, cwd=directory
        )
        try:
            shares = largest_shares(process)
        finally:
            process.terminate()
            process.wait(30)
    print("| process | count | most memory of one, PSS, MiB |")
    print("|---|---|---|")
    for name, mib in sorted(shares.items()):
        print(f"| {name} | {len(mib)} | {max(mib):.0f} |")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
